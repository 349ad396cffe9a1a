/**
 * One heavy job at a time: trained runs wait in the history's queue, small jobs (base pictures, renders) here. Small ones go
 * first between two runs.
 */

export interface SmallJob {
  readonly kind: 'preview' | 'render' | 'export' | 'score';
  run(): Promise<void>;
  /** Gives it up: its caller is told why, "cancelled" where nothing is said. */
  cancel(reason?: string): void;
}

export class Lane {
  private readonly small: SmallJob[] = [];
  private readonly nextRun: () => (() => Promise<void>) | null;
  private readonly onChange: () => void;
  private activeSmall: SmallJob | null = null;
  private busy = false;
  private closed = false;

  /** @param nextRun takes the next run off the queue, or null */
  constructor(nextRun: () => (() => Promise<void>) | null, onChange: () => void) {
    this.nextRun = nextRun;
    this.onChange = onChange;
  }

  get waitingSmall(): number {
    return this.small.length;
  }

  add(job: SmallJob): void {
    this.small.push(job);
    this.pump();
  }

  /** Gives up one job, waiting or at work. */
  drop(job: SmallJob): void {
    const place = this.small.indexOf(job);
    if (place >= 0) this.small.splice(place, 1);
    job.cancel();
    this.onChange();
  }

  /** Gives up every preview, waiting or at work: a newer one or a run takes its place. */
  cancelPreviews(reason: string): void {
    for (const job of this.small.filter((each) => each.kind === 'preview')) {
      this.small.splice(this.small.indexOf(job), 1);
      job.cancel(reason);
    }
    if (this.activeSmall?.kind === 'preview') this.activeSmall.cancel(reason);
  }

  /** Starts the next job if none is at work. */
  pump(): void {
    if (this.busy || this.closed) return;
    const job = this.small.shift() ?? null;
    const work = job ? () => job.run() : this.nextRun();
    if (!work) return;
    this.busy = true;
    this.activeSmall = job;
    // A job reports its own failure; the lane only has to go on.
    void work().catch(() => {}).finally(() => {
      this.busy = false;
      this.activeSmall = null;
      this.onChange();
      this.pump();
    });
    this.onChange();
  }

  close(reason: string): void {
    this.closed = true;
    for (const job of this.small.splice(0)) job.cancel(reason);
    this.activeSmall?.cancel(reason);
  }
}
