/** Long work of the app besides training, on one list: pages see how far each piece is and may end it. */
import { Pace, watched, type Progress, type Work } from '../base/work.ts';
import type { WorkInfo, WorkKind } from '../contract/work.ts';

/** What a piece of work is given: it says how far it is, and hears of its end at its next place or by the signal. */
export interface Watched {
  readonly work: Work;
  tell(progress: Progress): void;
  readonly signal: AbortSignal;
}

/** At most so often the list goes out, ms. */
const EVERY_MS = 200;

export class Works {
  private readonly open = new Map<string, { info: WorkInfo; stop: AbortController }>();
  private readonly publish: (list: WorkInfo[]) => void;
  private readonly now: () => number;
  private count = 0;
  private timer: NodeJS.Timeout | null = null;

  /** @param now milliseconds, never going back */
  constructor(publish: (list: WorkInfo[]) => void, now: () => number = () => performance.now()) {
    this.publish = publish;
    this.now = now;
  }

  list(): WorkInfo[] {
    return [...this.open.values()].map(({ info }) => info);
  }

  /** Does a piece of work; it is on the list until it has ended. @throws AppError('cancelled') where it was ended, else what it throws itself */
  async watch<T>(kind: WorkKind, about: string, job: (watched: Watched) => Promise<T>): Promise<T> {
    const id = String(++this.count);
    const [stop, pace] = [new AbortController(), new Pace()];
    const own = { info: { id, kind, about, what: '', done: 0, total: 0, etaSeconds: null } as WorkInfo, stop };
    this.open.set(id, own);
    const tell = (progress: Progress): void => {
      own.info = { id, kind, about, ...progress, etaSeconds: pace.left(progress, this.now()) };
      this.changed();
    };
    this.changed();
    try {
      return await job({ tell, signal: stop.signal, work: watched(tell, () => stop.signal.aborted, this.now) });
    } finally {
      this.open.delete(id);
      this.changed();
    }
  }

  cancel(id: string): void {
    this.open.get(id)?.stop.abort();
  }

  close(): void {
    for (const { stop } of this.open.values()) stop.abort();
    if (this.timer) clearTimeout(this.timer);
  }

  private changed(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.publish(this.list());
    }, EVERY_MS);
    this.timer.unref();
  }
}
