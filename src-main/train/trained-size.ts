/** How much a run trains, and what it keeps of it in memory and on the disk: from headers, before anything is loaded. */
import type { RunConfig } from '../contract/run.ts';
import type { MemoryFacts, TensorFacts } from '../models/memory-facts.ts';
import { factorization } from '../pipeline/lora/factorization.ts';
import { openOptimizer } from './optimizers/index.ts';
import { sizeOf, slotShapes, stateBytes, type Shape } from './optimizers/optimizer.ts';

/** What of a config decides it. */
export type TrainedConfig = Pick<RunConfig, 'train' | 'lora' | 'optimizer' | 'ema'>;

/** Modules of text encoders that are trained, as diffusers' scripts choose them. Source: diffusers examples/dreambooth/train_dreambooth_lora.py. */
export const TEXT_TARGETS = /\.(q_proj|k_proj|v_proj|out_proj)$/;

/** Shapes of the matrices a run trains. */
export function trainedShapes({ tensors }: MemoryFacts, { train, lora }: TrainedConfig): Shape[] {
  if (train === 'full') return tensors.filter(({ part }) => part === 'unet').map(({ shape }) => rowsOf(shape));
  return tensors.filter((tensor) => isTarget(tensor, lora)).flatMap(({ shape }) => adapterShapes(shape, lora));
}

/** As `adaptableModules` of nn/lora.ts chooses them. */
function isTarget({ part, name, shape }: TensorFacts, { targets, textEncoder }: RunConfig['lora']): boolean {
  const path = name.replace(/\.weight$/, '');
  if (path === name || (shape.length !== 2 && shape.length !== 4) || /_embedding$/.test(path)) return false;
  return part === 'unet' ? targets.some((target) => path === target || path.endsWith(`.${target}`)) : textEncoder && TEXT_TARGETS.test(path);
}

const rowsOf = (shape: readonly number[]): Shape => (shape.length < 2 ? [1, sizeOf(shape)] : [shape[0]!, sizeOf(shape) / shape[0]!]);

/** As `createAdapter` of pipeline/adapter.ts makes them. */
function adapterShapes(shape: readonly number[], { method, rank, factor }: RunConfig['lora']): Shape[] {
  const [out, columns] = rowsOf(shape);
  if (method !== 'lokr') return [[rank, columns], [out, rank], ...(method === 'dora' ? [[1, out] as const] : [])];
  const [m, n] = factorization(shape[1]!, factor);
  const [l, k] = factorization(out, factor);
  const across = n * (columns / shape[1]!);
  return [[l, m], ...(rank >= Math.max(k, n) / 2 ? [[k, across] as const] : [[k, rank] as const, [rank, across] as const])];
}

export interface TrainedSize {
  /** Numbers that are trained, and the matrices they are in. */
  readonly values: number;
  readonly matrices: number;
  /** Bytes of the optimiser's state, and its arrays. */
  readonly optimizerBytes: number;
  readonly arrays: number;
}

export function sizeOfTrained(shapes: readonly Shape[], { optimizer }: TrainedConfig): TrainedSize {
  const made = openOptimizer(optimizer, shapes);
  const arrays = (['slots', 'codes'] as const).flatMap((of) => Object.values(slotShapes(made, shapes, of)).flat()).filter((shape) => sizeOf(shape) > 0);
  return { values: shapes.reduce((sum, shape) => sum + sizeOf(shape), 0), matrices: shapes.length, optimizerBytes: stateBytes(made, shapes), arrays: arrays.length };
}

/** Name, type, shape and place of an array in its file, about. */
const HEADER = 170;
/** What a checkpoint notes: its sums, and what was told since the one before the last. */
const NOTES = 20_000;
/** How many newest checkpoints keep the state that resuming needs. */
export const STATES_KEPT = 2;
/** Bytes of a PNG for each of its pixels: more than most pictures take. */
const PNG_BYTES = 2;

/**
 * Bytes that a run's folder takes at its largest: while its last checkpoint is written beside those that are kept, its states and all pictures.
 * @param trained null where the model cannot be read
 */
export function runBytes(config: RunConfig, trained: TrainedSize | null, width: number, height: number): number {
  const points = (every: number): number => 1 + (every > 0 ? Math.floor((config.iterations - 1) / every) : 0);
  const written = points(config.checkpointEvery);
  // the newest, the best, and the one being written
  const kept = config.keepCheckpoints > 0 ? Math.min(written, config.keepCheckpoints + 2) : written;
  const { values, matrices, optimizerBytes, arrays } = trained ?? { values: 0, matrices: 0, optimizerBytes: 0, arrays: 0 };
  const weights = 4 * values + HEADER * matrices;
  const state = weights * (config.ema > 0 ? 2 : 1) + optimizerBytes + HEADER * arrays;
  const pictures = (1 + points(config.sampleEvery)) * config.samplePrompts * width * height * PNG_BYTES;
  return kept * (weights + NOTES) + Math.min(written, STATES_KEPT + 1) * state + pictures;
}
