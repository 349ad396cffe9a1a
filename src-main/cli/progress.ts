/** Progress for people: one line that renews itself on a terminal, now and then a line elsewhere. Ctrl-C ends work where it can end well. */
import { Pace, watched, type Progress, type Work } from '../base/work.ts';
import type { TrainerEvent } from '../contract/events.ts';
import { planLine } from '../contract/memory.ts';
import type { CommandContext } from './command.ts';

export interface Terminal {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

/** Minutes and seconds, e.g. "1:07". */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const rest = String(whole % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

/** Where there is no terminal, a line comes at most so often, ms. */
const SPARSE_MS = 10_000;

/** The line at the bottom. */
export class ProgressLine {
  private readonly terminal: Terminal;
  private readonly pace = new Pace();
  private open = false;
  private lastMs = performance.now();

  constructor(terminal: Terminal) {
    this.terminal = terminal;
  }

  /** A line that stays. */
  say(text: string): void {
    this.terminal.write(`${this.open ? '\r\x1b[K' : ''}${text}\n`);
    this.open = false;
  }

  /** Renews the last line. @param sparse whether it is said now and then where there is no terminal */
  renew(text: string, sparse = false): void {
    if (this.terminal.isTTY) {
      this.terminal.write(`\r${text.slice(0, (this.terminal.columns || 100) - 1)}\x1b[K`);
      this.open = true;
    } else if (sparse && performance.now() - this.lastMs >= SPARSE_MS) {
      this.lastMs = performance.now();
      this.say(text);
    }
  }

  /** How far some work is, with the time that is left. */
  tell(progress: Progress, sparse = true): void {
    const left = this.pace.left(progress, performance.now());
    const { what, done, total } = progress;
    this.renew(total > 0 ? `${what} ${Math.floor((100 * done) / total)} %${left === null ? '' : `, ${clock(left)} left`}` : `${what} ...`, sparse);
  }

  /** Takes the line away. */
  end(): void {
    if (this.open) this.terminal.write('\r\x1b[K');
    this.open = false;
  }
}

/**
 * Does long work of a command with its progress on stderr. Ctrl-C ends it at the next place where nothing is left half-written, a second
 * one at once. @throws AppError('cancelled') then, which the command line answers with exit code 130
 */
export async function onTerminal<T>(context: CommandContext, job: (work: Work, more: { signal: AbortSignal; line: ProgressLine }) => Promise<T>): Promise<T> {
  const line = new ProgressLine(process.stderr);
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130);
    stop.abort();
  };
  const tell = (progress: Progress): void => {
    if (context.args.json) return;
    context.showNotes();
    line.tell(progress);
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    return await job(watched(tell, () => stop.signal.aborted, () => performance.now()), { signal: stop.signal, line });
  } finally {
    line.end();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

/** Returns a listener for a run's events. */
export function progressPrinter(terminal: Terminal): (event: TrainerEvent) => void {
  const line = new ProgressLine(terminal);
  const say = (text: string): void => line.say(text);
  let iterations = 0;
  let heldOut = '';
  return (event) => {
    switch (event.type) {
      case 'started':
        iterations = event.iterations;
        say(`${event.engine.name} ${event.engine.version} (${event.engine.device}; ${event.engine.why}), ${event.trainableParameters} trainable parameters, ${event.width} x ${event.height}`);
        return;
      case 'phase':
        line.tell({ what: event.phase, done: event.done ?? 0, total: event.total ?? 0 }, false);
        return;
      case 'plan':
        say(planLine(event.plan));
        return;
      case 'step': {
        const terms = Object.entries(event.terms).map(([name, value]) => `${name} ${value.toFixed(3)}`).join(', ');
        const text = `step ${event.step}/${iterations}  ${event.skipped ? 'left out' : `reward ${event.reward.toFixed(3)} (${terms})`}${heldOut}  ${(event.stepMs / 1000).toFixed(1)} s/step  ${clock(event.etaSeconds)} left`;
        if (terminal.isTTY) line.renew(text);
        else if (event.step === 1 || event.step === iterations || event.step % Math.max(1, Math.round(iterations / 20)) === 0) say(text);
        return;
      }
      case 'sampled':
        if (event.heldOut && event.role === 'tuned') {
          heldOut = `  held out ${Object.entries(event.measures.rewards).map(([name, value]) => `${name} ${value.toFixed(3)}`).join(', ')}`;
        }
        return;
      case 'alarm':
        say(`ALARM ${event.message} ${event.remedy}`);
        return;
      case 'finished':
        say(`${event.reason} at step ${event.step} after ${clock(event.seconds)}${event.message ? `: ${event.message}` : ''}`);
        if (event.verdict) say(event.verdict.line);
        return;
      case 'image':
      case 'checkpoint':
      case 'caught-up':
        return;
    }
  };
}
