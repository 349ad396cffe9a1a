/** Messages between the main process and a trainer process; each way one union. A trainer process serves one job and exits. */
import type { TrainerEvent } from '../contract/events.ts';
import type { RewardTerm, RunConfig } from '../contract/run.ts';
import type { ExportFormat, PreviewImage, ScoredPicture } from '../contract/api.ts';

export type TrainerJob =
  | { kind: 'train'; config: RunConfig; runDir: string; home: string; resume: boolean }
  /** Base pictures with scores, as data: URLs. */
  | { kind: 'preview'; config: RunConfig; count: number; home: string }
  /** Base and tuned picture of one prompt and seed, the LoRA at `strength` and from sampling step `loraFrom` on, written below runDir, reported as image events; those in `has` are left out. */
  | { kind: 'render'; config: RunConfig; runDir: string; home: string; prompt: string; seed: number; checkpoint: string | null; step: number; strength: number; loraFrom: number; has: readonly ('base' | 'tuned')[] }
  /** A checkpoint for other programs, written at `out` and checked; phases come as events. */
  | { kind: 'export'; config: RunConfig; home: string; run: string; step: number; checkpoint: string; format: ExportFormat; out: string }
  /** Values of rewards for pictures given as base64. */
  | { kind: 'score'; config: Pick<RunConfig, 'engine'>; home: string; rewards: RewardTerm[]; prompt: string; pictures: { name: string; data: string }[] };

export type ToTrainer = { type: 'job'; job: TrainerJob } | { type: 'stop' };

/** What came of an export. */
export interface Exported {
  readonly path: string;
  readonly bytes: number;
  /** One line of what was checked. */
  readonly checked: string;
}

export type FromTrainer =
  | { type: 'event'; event: TrainerEvent }
  | { type: 'preview'; images: PreviewImage[] }
  | { type: 'exported'; exported: Exported }
  | { type: 'scored'; pictures: ScoredPicture[] }
  | { type: 'log'; line: string }
  /** The job is over; without it before the exit the run has crashed. */
  | { type: 'done' }
  | { type: 'error'; code: string; message: string; hint?: string | undefined };

/** The one port interface: Electron's utilityProcess and Node's child_process both fit it. */
export interface TrainerPort {
  send(message: ToTrainer): void;
  onMessage(listener: (message: FromTrainer) => void): void;
  /** `signal` and `code` as the OS gives them. */
  onExit(listener: (exit: { code: number | null; signal: string | null }) => void): void;
  kill(): void;
}
