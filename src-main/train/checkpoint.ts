/**
 * Checkpoints: a folder `checkpoints/step-000020/` with the LoRA (or the UNet, where all of it is tuned) as others read it, the trainer's state, and
 * their sha256. What is large lies in several files, as diffusers has it. It is written under a temporary name and renamed, so it is whole or not there; damage that comes later is found by the sums.
 */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, errorLine } from '../base/errors.ts';
import type { ScoredPoint } from '../contract/best.ts';
import type { PictureMeasures, ToldEvent } from '../contract/events.ts';
import { isFull, type Adapter } from '../nn/lora.ts';
import { setOf } from '../pipeline/adapter.ts';
import { openRunWeights, runWeightKey } from '../pipeline/lora-file.ts';
import { writeDiffusersLora, writeNetwork } from '../pipeline/lora/write.ts';
import { openWeightFolder } from '../weights/folder.ts';
import { writeSharded, type TensorToWrite } from '../weights/write.ts';
import { sizeOf, type OptimizerState } from './optimizers/optimizer.ts';
import { STATES_KEPT } from './trained-size.ts';
import { mkdirs } from '../base/folder.ts';
import { diskError, flushFolder, jointSum, sha256Of, writeWhole } from '../base/atomic.ts';

const LORA_FILE = 'lora.safetensors';
const STATE_STEM = 'state';
const INDEX_FILE = 'checkpoint.json';

/** Measures of the base model's pictures, kept so that a resumed run compares with the same. */
export interface Baseline {
  readonly heldOut: PictureMeasures | null;
  readonly trained: PictureMeasures | null;
}

/** Everything a run needs to go on as if it had not been interrupted. */
export interface TrainerState {
  /** Finished iterations. */
  step: number;
  readonly values: Float32Array[];
  readonly optimizer: OptimizerState;
  /** Average of the values; null without one. */
  readonly average: Float32Array[] | null;
  averageUpdates: number;
  /** Iterations left out one after the other, up to now. */
  skippedInARow: number;
  skipped: number;
  readonly alarmsOn: Set<string>;
  baseline: Baseline;
  /** Measures of the sample points so far, held-out prompts where there are any; for the best checkpoint. */
  readonly points: ScoredPoint[];
  /** The run was ended while the pictures of this step were being painted: they come first when it goes on. */
  samplesDue: boolean;
  /** What was told since the checkpoint before the last one: a process that heard it may have been killed before it was kept. */
  recent: ToldEvent[];
}

/** Names and shapes of the parameters, in the order of every list of values. */
export interface CheckpointShape {
  readonly names: readonly string[];
  readonly shapes: readonly (readonly [number, number])[];
  /** Shapes of the optimiser's state by slot, one a parameter. */
  readonly slots: Readonly<Record<string, readonly (readonly number[])[]>>;
  /** Of what it keeps in bytes. */
  readonly codes: Readonly<Record<string, readonly (readonly number[])[]>>;
}

export interface WrittenCheckpoint {
  /** Path of the weights relative to the run's folder: of their one file, or of the index of several. */
  readonly file: string;
  /** Of the weights, as {@link jointSum}. */
  readonly sha256: string;
  /** Of the whole checkpoint. */
  readonly bytes: number;
}

interface Index {
  readonly version: 1;
  readonly step: number;
  readonly optimizerStep: number;
  readonly optimizerNumbers?: Readonly<Record<string, number>>;
  readonly averageUpdates: number;
  readonly skippedInARow: number;
  readonly skipped: number;
  readonly alarmsOn: readonly string[];
  readonly baseline: Baseline;
  readonly points?: readonly ScoredPoint[];
  readonly recent?: readonly ToldEvent[];
  readonly samplesDue?: boolean;
  readonly sha256: Readonly<Record<string, string>>;
}

export const checkpointName = (step: number): string => `step-${String(step).padStart(6, '0')}`;
const checkpointsFolder = (runDir: string): string => join(runDir, 'checkpoints');

/**
 * Writes a checkpoint; older ones lose their state, never their LoRA.
 * @param adapter what is sampled and exported: the average where there is one
 * @param shardBytes most of one file of a network or state
 * @throws AppError('disk')
 */
export function writeCheckpoint(runDir: string, state: TrainerState, shape: CheckpointShape, adapter: Adapter, shardBytes?: number): WrittenCheckpoint {
  const name = checkpointName(state.step);
  const folder = join(checkpointsFolder(runDir), name);
  // A trainer whose app was killed may still be at its last step when the next one begins: each has a name of its own.
  const temporary = join(checkpointsFolder(runDir), `.${name}.${process.pid}.part`);
  try {
    const before = checkpointSteps(runDir).filter((step) => step < state.step).at(-2) ?? -1;
    state.recent = state.recent.filter((event) => 'step' in event && event.step > before);
    rmSync(temporary, { recursive: true, force: true });
    mkdirs(temporary);
    const weights = isFull(adapter) ? writeNetwork(temporary, adapter, shardBytes) : [LORA_FILE];
    if (!isFull(adapter)) writeDiffusersLora(join(temporary, LORA_FILE), setOf(adapter));
    const files = [...weights, ...writeState(temporary, state, shape, shardBytes)];
    const sha256 = Object.fromEntries(files.map((file) => [file, sha256Of(join(temporary, file))]));
    const index: Index = {
      version: 1, step: state.step, optimizerStep: state.optimizer.step, optimizerNumbers: state.optimizer.numbers, averageUpdates: state.averageUpdates,
      skippedInARow: state.skippedInARow, skipped: state.skipped, alarmsOn: [...state.alarmsOn], baseline: state.baseline, points: state.points, recent: state.recent, ...(state.samplesDue && { samplesDue: true }), sha256,
    };
    writeWhole(join(temporary, INDEX_FILE), JSON.stringify(index, null, 1));
    flushFolder(temporary);
    rmSync(folder, { recursive: true, force: true });
    renameSync(temporary, folder);
    flushFolder(checkpointsFolder(runDir));
    dropOldStates(runDir);
    return writtenAs(name, sha256, checkpointBytes(folder));
  } catch (cause) {
    rmSync(temporary, { recursive: true, force: true });
    if (cause instanceof AppError && cause.code !== 'disk') throw cause;
    const { message } = cause instanceof AppError ? cause : diskError(folder, cause);
    // by the name it would have had, as nobody knows the temporary one
    throw new AppError('disk', message.replaceAll(temporary, folder), { hint: 'Free some space there (keepCheckpoints lets old checkpoints go) or check permissions, then resume the run.', cause });
  }
}

const isState = (file: string): boolean => file.startsWith(`${STATE_STEM}.`) || file.startsWith(`${STATE_STEM}-`);

/** @param sums of the checkpoint's files */
function writtenAs(name: string, sums: Readonly<Record<string, string>>, bytes: number): WrittenCheckpoint {
  const weights = Object.keys(sums).filter((file) => !isState(file));
  const one = weights.find((file) => file.endsWith('.index.json')) ?? weights[0]!;
  return { file: `checkpoints/${name}/${one}`, sha256: jointSum(Object.fromEntries(weights.map((file) => [file, sums[file]!]))), bytes };
}

const checkpointBytes = (folder: string): number => readdirSync(folder).reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);

/** The LoRA of a checkpoint that is there, as {@link writeCheckpoint} told of it. */
export function storedCheckpoint(runDir: string, step: number): WrittenCheckpoint {
  const folder = join(checkpointsFolder(runDir), checkpointName(step));
  return writtenAs(checkpointName(step), readIndex(folder).sha256, checkpointBytes(folder));
}

/** sha256 of the weights of every checkpoint of a run as they are, also of an imported one, by step. */
export function checkpointSums(runDir: string): Map<number, string> {
  return new Map(listCheckpoints(runDir).flatMap((folder) => {
    const files = readdirSync(folder).filter((file) => /\.safetensors(\.index\.json)?$/.test(file) && !isState(file));
    return files.length === 0 ? [] : [[stepOf(folder), jointSum(Object.fromEntries(files.map((file) => [file, sha256Of(join(folder, file))])))] as const];
  }));
}

const readIndex = (folder: string): Index => JSON.parse(readFileSync(join(folder, INDEX_FILE), 'utf8')) as Index;

function writeState(folder: string, state: TrainerState, shape: CheckpointShape, shardBytes: number | undefined): string[] {
  const tensors: TensorToWrite[] = [];
  const put = (kind: string, arrays: readonly (Float32Array | Uint8Array)[], shapes: readonly (readonly number[])[] = shape.shapes): void => arrays.forEach((data, k) => {
    if (data.length === 0) return; // an optimiser keeps nothing of the kind for this parameter
    const dtype = data instanceof Uint8Array ? 'U8' : 'F32';
    tensors.push({ name: `${kind}.${shape.names[k]}`, dtype, shape: shapes[k]!, read: () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength) });
  });
  put('value', state.values);
  for (const [slot, arrays] of Object.entries(state.optimizer.slots)) put(slot, arrays, shape.slots[slot]);
  for (const [slot, arrays] of Object.entries(state.optimizer.codes ?? {})) put(slot, arrays, shape.codes[slot]);
  if (state.average) put('average', state.average);
  return writeSharded(folder, STATE_STEM, tensors, shardBytes === undefined ? {} : { shardBytes });
}

function dropOldStates(runDir: string): void {
  for (const folder of listCheckpoints(runDir).slice(STATES_KEPT)) {
    for (const file of readdirSync(folder).filter(isState).sort().reverse()) rmSync(join(folder, file), { force: true }); // the index first
  }
}

/** Folders of a run's checkpoints, the newest first. */
function listCheckpoints(runDir: string): string[] {
  const folder = checkpointsFolder(runDir);
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => /^step-\d{6,}$/.test(name)).sort().reverse().map((name) => join(folder, name));
}

/** Steps that have a checkpoint, ascending. */
export function checkpointSteps(runDir: string): number[] {
  return listCheckpoints(runDir).map(stepOf).reverse();
}

/** Removes all checkpoints but these, each out of sight first: half of one must not look like one. @returns steps that are left, ascending */
export function keepCheckpoints(runDir: string, kept: ReadonlySet<number>): number[] {
  for (const folder of listCheckpoints(runDir).filter((each) => !kept.has(stepOf(each)))) {
    const gone = join(checkpointsFolder(runDir), `.${checkpointName(stepOf(folder))}.part`); // removeCheckpointsAfter knows these
    renameSync(folder, gone);
    rmSync(gone, { recursive: true, force: true });
  }
  return checkpointSteps(runDir);
}

const stepOf = (folder: string): number => Number(/step-(\d+)$/.exec(folder)![1]);

/** Forgets checkpoints after a step, which a resumed run writes anew, and what was left half-written. */
export function removeCheckpointsAfter(runDir: string, step: number): void {
  const folder = checkpointsFolder(runDir);
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (/^\.step-.*\.part$/.test(name)) rmSync(join(folder, name), { recursive: true, force: true });
  }
  for (const folder of listCheckpoints(runDir)) {
    if (stepOf(folder) > step) rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * The newest checkpoint that is whole; those that are not are passed over, each with a line to `onDamaged`.
 * @returns null where the run has none
 * @throws AppError('run') where all are damaged
 */
export function readNewestCheckpoint(runDir: string, shape: CheckpointShape, onDamaged: (line: string) => void): TrainerState | null {
  const folders = listCheckpoints(runDir);
  for (const folder of folders) {
    try {
      return readCheckpoint(folder, shape);
    } catch (error) {
      onDamaged(`${folder} cannot be used: ${errorLine(error)}`);
    }
  }
  if (folders.length > 0) throw new AppError('run', `None of the ${folders.length} checkpoints of this run can be used.`, { hint: 'Start the run anew.' });
  return null;
}

/** Reads one checkpoint and checks its sums. @throws AppError('weights') */
export function readCheckpoint(folder: string, shape: CheckpointShape): TrainerState {
  const index = readIndex(folder);
  for (const [file, sum] of Object.entries(index.sha256)) {
    if (!existsSync(join(folder, file))) throw new AppError('weights', `${file} is missing.`);
    if (sha256Of(join(folder, file)) !== sum) throw new AppError('weights', `${file} has changed since it was written.`);
  }
  using state = openWeightFolder(folder, { what: 'the trainer\'s state', stem: STATE_STEM });
  const read = <A>(kind: string, shapes: readonly (readonly number[])[], dtype: 'F32' | 'U8', values: (key: string) => A): A[] =>
    shape.names.map((name, k) => {
      const [key, wanted] = [`${kind}.${name}`, shapes[k]!];
      const entry = state.entries.get(key);
      if (sizeOf(wanted) > 0 && (entry?.dtype !== dtype || entry.shape.join() !== wanted.join())) {
        throw new AppError('weights', `${key} is [${entry?.shape ?? 'missing'}], expected [${wanted}].`, { hint: 'The run was made with another model, LoRA or optimiser.' });
      }
      return values(key);
    });
  const take = (kind: string, shapes: readonly (readonly number[])[] = shape.shapes): Float32Array[] => read(kind, shapes, 'F32', (key) => (state.entries.has(key) ? state.readFloats(key) : new Float32Array(0)));
  const takeBytes = (kind: string, shapes: readonly (readonly number[])[]): Uint8Array[] => read(kind, shapes, 'U8', (key) => (state.entries.has(key) ? state.readRaw(key) : new Uint8Array(0)));
  const averaged = state.entries.has(`average.${shape.names[0]}`);
  return {
    step: index.step, values: take('value'), optimizer: {
      step: index.optimizerStep, numbers: { ...index.optimizerNumbers },
      slots: Object.fromEntries(Object.entries(shape.slots).map(([slot, shapes]) => [slot, take(slot, shapes)])),
      codes: Object.fromEntries(Object.entries(shape.codes).map(([slot, shapes]) => [slot, takeBytes(slot, shapes)])),
    },
    average: averaged ? take('average') : null, averageUpdates: index.averageUpdates,
    skippedInARow: index.skippedInARow, skipped: index.skipped, alarmsOn: new Set(index.alarmsOn), baseline: index.baseline, points: [...(index.points ?? [])],
    recent: [...(index.recent ?? [])], samplesDue: index.samplesDue ?? false,
  };
}

/**
 * Proof that a finished run left something: its weights read back, are finite and differ from where they began.
 * @throws AppError('run') otherwise
 */
export function verifyWeights(file: string, start: readonly Float32Array[], shape: CheckpointShape): void {
  using weights = openRunWeights(file);
  let differs = false;
  shape.names.forEach((name, k) => {
    const values = weights.readFloats(runWeightKey(file, name));
    if (!values.every(Number.isFinite)) throw new AppError('run', `What was trained holds values that are not finite (${name}).`);
    differs ||= values.some((value, i) => value !== start[k]![i]);
  });
  if (!differs) {
    throw new AppError('run', 'The run changed nothing: its weights are what it began with.', { hint: 'Raise the learning rate, or check that the reward depends on the picture.' });
  }
}
