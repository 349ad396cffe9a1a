/** One training at work: the trainer's messages are written to the history first, then published; its end is always recorded. */
import { AppError, errorLine } from '../base/errors.ts';
import { trainerEventSchema, type TrainerEvent } from '../contract/events.ts';
import type { FromTrainer, TrainerJob, TrainerPort } from '../worker/protocol.ts';
import { isDamage, isDiskFull } from '../history/database.ts';
import { crashWords, LastError, type Exit } from './crash-words.ts';
import type { Recorded, RunRecorder } from './run-recorder.ts';

export interface SessionDeps {
  recorder: RunRecorder;
  /** Called after the event is in the history. */
  published(runId: string, event: TrainerEvent, recorded: Recorded): void;
  /** A line about trouble that passes (a full disk), null when it is over. */
  trouble(runId: string, line: string | null): void;
  /** Pause between two attempts to write to a full disk, ms. */
  retryMs: number;
  /** How long a trainer may say nothing before its first step and, at least, after it, ms. */
  quietMs: { first: number; least: number };
  /** Milliseconds; `performance.now` if left out. */
  now?: (() => number) | undefined;
}

/** A trainer that is quiet for so many times its usual step has hung. */
const QUIET_STEPS = 20;
/** After that it has so long to come to its next step, ms. */
const LAST_CHANCE_MS = 60_000;

/** How long a trainer may take to exit once it has said that it is done. */
const EXIT_MS = 15_000;

export class TrainSession {
  readonly runId: string;
  private readonly deps: SessionDeps;
  private readonly port: TrainerPort;
  private readonly inbox: (FromTrainer | { type: 'exit'; exit: Exit })[] = [];
  private readonly lastError = new LastError();
  private readonly timers = new Set<NodeJS.Timeout>();
  private readonly over: Promise<void>;
  private finish!: () => void;
  private retry: NodeJS.Timeout | null = null;
  private killedAfterMs: number | null = null;
  private hungAfterMs: number | null = null;
  /** Milliseconds without a word; the time a machine slept does not count. */
  private quiet = 0;
  private savings: readonly string[] = [];
  private stopping = false;
  private ended = false;

  constructor(deps: SessionDeps, runId: string, port: TrainerPort, job: TrainerJob) {
    this.deps = deps;
    this.runId = runId;
    this.port = port;
    this.over = new Promise((resolve) => (this.finish = resolve));
    port.onMessage((message) => this.take(message));
    port.onExit((exit) => this.take({ type: 'exit', exit }));
    this.watch();
    port.send({ type: 'job', job });
  }

  /** Resolves once the trainer is gone and its end is in the history. */
  get done(): Promise<void> {
    return this.over;
  }

  /** Asks for an end at the next step; after `graceMs` the process is ended. */
  stop(graceMs: number): void {
    this.stopping = true;
    this.port.send({ type: 'stop' });
    this.later(graceMs, () => {
      this.killedAfterMs = graceMs;
      this.port.kill();
    });
  }

  /** Leaves without waiting for a disk that stays full; the next start of the app finds the run. */
  abandon(): void {
    this.clearTimers();
    this.port.kill();
    this.finish();
  }

  /**
   * Looks now and then whether the trainer still says something. Each look counts for its interval at most twice, so that neither a
   * machine that slept nor a clock that jumped makes a trainer look hung.
   */
  private watch(): void {
    const every = Math.min(15_000, this.deps.quietMs.least / 4);
    const clock = this.deps.now ?? (() => performance.now());
    let last = clock();
    const look = (): void => {
      const now = clock();
      this.quiet += Math.min(Math.max(0, now - last), 2 * every);
      last = now;
      if (this.quiet > this.quietLimit() && !this.stopping && !this.ended) this.hung();
      this.later(every, look);
    };
    this.later(every, look);
  }

  private quietLimit(): number {
    const { first, least } = this.deps.quietMs;
    const usual = this.deps.recorder.steps.medianMs(this.runId);
    return usual === null ? first : Math.max(least, QUIET_STEPS * usual);
  }

  private hung(): void {
    this.hungAfterMs = this.quiet;
    this.note(`the trainer has said nothing for ${minutes(this.quiet)}: it is asked to stop`);
    this.stop(Math.min(LAST_CHANCE_MS, this.deps.quietMs.least));
  }

  private take(item: FromTrainer | { type: 'exit'; exit: Exit }): void {
    this.quiet = 0;
    this.inbox.push(item);
    if (!this.retry) this.drain();
  }

  /** Handles what has come, in order; what a full disk keeps from being written stays in line. */
  private drain(): void {
    for (let item = this.inbox[0]; item; item = this.inbox[0]) {
      try {
        this.handle(item);
      } catch (error) {
        if (isDiskFull(error)) return this.waitForDisk();
        if (isDamage(error)) this.historyLost();
        this.note(`a message of the trainer could not be recorded: ${errorLine(error)}`);
        if (item.type === 'exit') {
          // Whatever else is wrong, no run stays "running" without a process.
          try {
            this.deps.recorder.runs.set(this.runId, { state: 'failed', reason: `Its end could not be recorded: ${errorLine(error)}`, owner: null, finished_at: Date.now() });
          } catch {
            // A history that cannot be written at all: the next start of the app finds the run, and mends the history first.
          }
          this.close();
        }
      }
      this.inbox.shift();
    }
  }

  private handle(item: FromTrainer | { type: 'exit'; exit: Exit }): void {
    const { recorder } = this.deps;
    switch (item.type) {
      case 'event': return this.event(item.event);
      case 'log':
        this.lastError.see(item.line);
        return recorder.log(this.runId, item.line);
      case 'error':
        this.end(item.message, item.hint ?? '');
        return this.expectExit();
      case 'done': return this.expectExit();
      case 'preview': return;
      case 'exit':
        if (!this.ended) this.crashed(item.exit);
        return this.close();
    }
  }

  private event(raw: TrainerEvent): void {
    const parsed = trainerEventSchema.safeParse(sound(raw));
    if (!parsed.success) throw new AppError('internal', `"${String((raw as { type?: unknown }).type)}" does not fit: ${parsed.error.issues[0]?.message}`);
    if (parsed.data.type === 'plan') this.savings = parsed.data.plan.savings;
    if (parsed.data.type === 'finished') {
      if (this.ended) return;
      this.record(parsed.data);
      this.ended = true;
      return;
    }
    this.record(parsed.data);
  }

  private record(event: TrainerEvent): void {
    this.deps.published(this.runId, event, this.deps.recorder.record(this.runId, event));
  }

  private crashed(exit: Exit): void {
    if (this.killedAfterMs !== null && this.hungAfterMs !== null) {
      const message = `The trainer hung: it said nothing for ${minutes(this.hungAfterMs)}, did not stop when asked and was ended.`;
      return this.end(message, this.deps.recorder.resumeWords(this.runId));
    }
    const words = this.killedAfterMs === null
      ? crashWords(exit, this.lastError.line, this.savings)
      : { message: `The trainer did not stop within ${Math.round(this.killedAfterMs / 1000)} s and was ended.`, hint: '' };
    this.end(words.message, [words.hint, this.deps.recorder.resumeWords(this.runId)].filter(Boolean).join(' '));
  }

  /** Records a failure; the first end counts. */
  private end(message: string, hint: string): void {
    if (this.ended) return;
    const { step, seconds } = this.deps.recorder.runs.get(this.runId);
    this.record({ type: 'finished', reason: 'failed', step, message, hint, seconds });
    this.ended = true;
  }

  private waitForDisk(): void {
    this.deps.trouble(this.runId, 'The disk is full: training is being stopped with what it has. Free some space; the history is then brought up to date.');
    if (!this.stopping) {
      this.stopping = true;
      this.port.send({ type: 'stop' });
    }
    this.retry = this.later(this.deps.retryMs, () => {
      this.retry = null;
      this.drain();
      if (!this.retry) this.deps.trouble(this.runId, null);
    });
  }

  /** Nothing can be kept any more: the trainer keeps its checkpoint, and the next start mends the history. */
  private historyLost(): void {
    if (this.stopping) return;
    this.stopping = true;
    this.port.send({ type: 'stop' });
    try {
      this.deps.trouble(this.runId, 'The history is damaged. Close DRTune Studio and start it again: the last good backup is then put in its place.');
    } catch {
      // pages that ask are told the same by every answer
    }
  }

  private note(line: string): void {
    try {
      this.deps.recorder.log(this.runId, line);
    } catch {
      // The log is a courtesy: the disk may be full or the run purged.
    }
  }

  private expectExit(): void {
    this.later(EXIT_MS, () => this.port.kill());
  }

  private later(ms: number, act: () => void): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, ms);
    this.timers.add(timer);
    return timer;
  }

  private clearTimers(): void {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
  }

  private close(): void {
    this.clearTimers();
    this.finish();
  }
}

const minutes = (ms: number): string => (ms < 120_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} minutes`);

/** Replaces figures that are not finite by 0; a step with one counts as skipped. */
function sound(event: TrainerEvent): TrainerEvent {
  let changed = false;
  const clean = (value: unknown): unknown => {
    if (typeof value === 'number' && !Number.isFinite(value)) {
      changed = true;
      return 0;
    }
    if (Array.isArray(value)) return value.map(clean);
    if (value !== null && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, clean(each)]));
    return value;
  };
  const result = clean(event) as TrainerEvent;
  return changed && result.type === 'step' ? { ...result, skipped: true } : result;
}
