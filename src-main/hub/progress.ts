/** Progress of an installation, with speed and time left, at most ten times a second. */

export interface PackProgress {
  readonly phase: 'download' | 'verify' | 'unpack' | 'probe';
  readonly bytes: number;
  readonly total: number;
  /** Over the last seconds; 0 until known. */
  readonly bytesPerSecond: number;
  /** Of this phase; undefined until known. */
  readonly etaSeconds: number | undefined;
}

const intervalMs = 100;
const windowMs = 5000;

export class ProgressMeter {
  private readonly emit: (progress: PackProgress) => void;
  private phase: PackProgress['phase'] | undefined;
  private lastMs = 0;
  private samples: { ms: number; bytes: number }[] = [];

  constructor(emit: (progress: PackProgress) => void) {
    this.emit = emit;
  }

  report(phase: PackProgress['phase'], bytes: number, total: number, nowMs: number = performance.now()): void {
    if (phase !== this.phase) {
      this.phase = phase;
      this.samples = [];
      this.lastMs = -Infinity;
    }
    if (nowMs - this.lastMs < intervalMs && bytes < total) return;
    this.lastMs = nowMs;
    this.samples.push({ ms: nowMs, bytes });
    while (this.samples.length > 2 && nowMs - this.samples[0]!.ms > windowMs) this.samples.shift();
    const first = this.samples[0]!;
    const seconds = (nowMs - first.ms) / 1000;
    const bytesPerSecond = seconds > 0 ? Math.max(0, (bytes - first.bytes) / seconds) : 0;
    this.emit({ phase, bytes, total, bytesPerSecond, etaSeconds: bytesPerSecond > 0 ? (total - bytes) / bytesPerSecond : undefined });
  }
}
