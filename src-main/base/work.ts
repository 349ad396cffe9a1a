/**
 * Long work tells how far it is, and ends where it is asked to. The one way for all of it: loading, sampling, scoring, exporting, importing,
 * comparing, downloading; on the command line, in the trainer's process and in the app.
 */
import { AppError } from './errors.ts';

export interface Work {
  /**
   * A place where the work may end: says how far it is, and lets messages and signals come in.
   * @param done of `total`, in any unit, also fractions; total 0 where it is not known
   * @throws AppError('cancelled') where it was asked to end
   */
  at(what: string, done?: number, total?: number): Promise<void>;
}

/** How far it is. */
export interface Progress {
  readonly what: string;
  readonly done: number;
  readonly total: number;
}

export const unwatched: Work = { at: async () => {} };

export const cancelled = (): AppError => new AppError('cancelled', 'Cancelled.');
export const isCancelled = (error: unknown): boolean => error instanceof AppError && error.code === 'cancelled';

/** At most so often the same thing is told again, ms. */
const EVERY_MS = 100;

/**
 * @param tell hears how far it is, now and then
 * @param asked whether it is to end
 * @param now milliseconds, never going back
 */
export function watched(tell: (progress: Progress) => void, asked: () => boolean, now: () => number): Work {
  let [before, lastMs] = ['', -Infinity];
  return {
    async at(what, done = 0, total = 0) {
      const ms = now();
      if (what !== before || done >= total || ms - lastMs >= EVERY_MS) {
        [before, lastMs] = [what, ms];
        tell({ what, done, total });
      }
      await new Promise((resume) => setImmediate(resume));
      if (asked()) throw cancelled();
    },
  };
}

/** Takes the steps of a generator one by one, telling how far it is; one that is left early cleans up. @param done of `total`, after a step */
export async function stepping<S, T>(work: Work, what: string, total: number, steps: Generator<S, T>, done: (step: S) => number): Promise<T> {
  try {
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
      await work.at(what, done(step.value), total);
    }
  } finally {
    steps.return(undefined as T);
  }
}

/** Takes all steps at once. */
export function allSteps<T>(steps: Generator<unknown, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** Seconds that are left of a phase, at the pace since it began; null until there is one. */
export class Pace {
  private what = '';
  private first = { done: 0, ms: 0 };

  left({ what, done, total }: Progress, nowMs: number): number | null {
    if (what !== this.what || done < this.first.done) {
      this.what = what;
      this.first = { done, ms: nowMs };
    }
    const [gained, seconds] = [done - this.first.done, (nowMs - this.first.ms) / 1000];
    return total > 0 && gained > 0 && seconds > 0 ? ((total - done) / gained) * seconds : null;
  }
}
