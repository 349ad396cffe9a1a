/** What a completed run is worth: its last checkpoint is read back from the disk and held against the start, the pictures and the reward. */
import { dirname, join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { TrainerEventOf, Verdict } from '../contract/events.ts';
import { readFloats } from '../engine/scope.ts';
import { adapterHash, disposeAdapter } from '../pipeline/adapter.ts';
import { toBytes } from '../pipeline/images.ts';
import { readRunLora } from '../pipeline/lora-file.ts';
import { readPicture } from '../pipeline/read-picture.ts';
import type { Adapter } from '../nn/lora.ts';
import { readCheckpoint, verifyWeights, type CheckpointShape, type TrainerState } from './checkpoint.ts';
import { paint, samplePoints, type Painted } from './samples.ts';
import type { Session } from './session.ts';

export interface Completed {
  readonly session: Session;
  readonly runDir: string;
  /** The checkpoint's LoRA, relative to runDir. */
  readonly file: string;
  readonly shape: CheckpointShape;
  /** LoRA values the run began with. */
  readonly start: readonly Float32Array[];
  readonly state: Pick<TrainerState, 'step' | 'baseline' | 'points'>;
  readonly pictures: readonly TrainerEventOf<'image'>[];
}

interface Compared {
  /** Whether any byte of a picture differs from the base model's of the same prompt and seed. */
  readonly changed: boolean;
  /** Weighted reward, base and tuned. */
  readonly rewards: readonly [number | undefined, number | undefined];
  /** Of which pictures. */
  readonly on: string;
  /** What is wrong with the pictures themselves, or null. */
  readonly problem: string | null;
}

/**
 * @throws AppError where there is no result at all: a checkpoint that cannot be read back, is not finite, or is what the run began with
 */
export async function judge(completed: Completed): Promise<Verdict> {
  const { session, runDir, file, shape, start } = completed;
  readCheckpoint(dirname(join(runDir, file)), shape);
  verifyWeights(join(runDir, file), start, shape);
  const adapter = readRunLora(join(runDir, file), session.pipeline.loraModules());
  try {
    return verdictOf(await comparePictures(completed, adapter));
  } finally {
    disposeAdapter(adapter);
  }
}

async function comparePictures(completed: Completed, adapter: Adapter): Promise<Compared> {
  const { session, state, pictures } = completed;
  const tuned = pictures.filter((each) => each.role === 'tuned' && each.step === state.step);
  if (samplePoints(session.config, session.prompts, session.heldOutPrompts).length === 0 || tuned.length === 0) return paintedPair(session, adapter);
  const base = state.baseline.heldOut ?? state.baseline.trained;
  const now = state.points.findLast((each) => each.step === state.step)?.measures;
  const weights = adapterHash(adapter).slice(0, 16);
  const foreign = tuned.find((each) => each.weights !== weights);
  return {
    changed: await anyDiffers(completed, tuned), rewards: [base?.reward, now?.reward], on: state.baseline.heldOut ? 'on held-out prompts' : 'on the sample prompts',
    problem: foreign ? `its pictures were painted with the weights ${foreign.weights}, the checkpoint holds ${weights}` : null,
  };
}

async function anyDiffers({ runDir, pictures }: Completed, tuned: readonly TrainerEventOf<'image'>[]): Promise<boolean> {
  for (const each of tuned) {
    const base = pictures.find((one) => one.role === 'base' && one.prompt === each.prompt && one.seed === each.seed);
    if (base && differ(await bytesOf(join(runDir, base.file)), await bytesOf(join(runDir, each.file)))) return true;
  }
  return false;
}

async function bytesOf(file: string): Promise<Uint8Array> {
  const picture = await readPicture(file);
  try {
    return toBytes(await readFloats(picture));
  } finally {
    picture.dispose();
  }
}

const differ = (a: Uint8Array, b: Uint8Array): boolean => a.length !== b.length || a.some((value, i) => value !== b[i]);

/** A run without sample pictures: one prompt is painted with both. */
async function paintedPair(session: Session, adapter: Adapter): Promise<Compared> {
  const points = samplePoints({ ...session.config, samplePrompts: 1 }, session.prompts, session.heldOutPrompts);
  const paintOne = async (weights: Adapter | null): Promise<Painted> => {
    for await (const painted of paint(session, weights, points)) return painted;
    throw new AppError('internal', 'No picture was painted.');
  };
  const [base, tuned] = [await paintOne(null), await paintOne(adapter)];
  return {
    changed: differ(toBytes(base.pixels), toBytes(tuned.pixels)), rewards: [base.total, tuned.total], problem: null,
    on: `on one ${base.heldOut ? 'held-out' : 'trained'} prompt`,
  };
}

/** The verdict in words. Pure. */
export function verdictOf({ changed, rewards: [before, after], on, problem }: Compared): Verdict {
  const known = before !== undefined && after !== undefined && Number.isFinite(before) && Number.isFinite(after);
  const digits = known ? ([4, 5, 6, 7].find((n) => before.toPrecision(n) !== after.toPrecision(n)) ?? 4) : 4;
  const figures = known ? `${before.toPrecision(digits)} -> ${after.toPrecision(digits)}` : '';
  const rose = known && after > before;
  const checks: Verdict['checks'] = [
    { check: 'reloaded', passed: true, words: 'the last checkpoint was read back from the disk' },
    { check: 'finite', passed: true, words: 'its values are finite' },
    { check: 'differs', passed: true, words: 'they differ from the start' },
    { check: 'picture', passed: changed && problem === null, words: problem ?? (changed ? 'the pictures changed' : 'the pictures did not change') },
    { check: 'reward', passed: rose, words: !known ? `the reward could not be measured ${on}` : rose ? `the reward rose ${on}: ${figures}` : `the reward did not rise ${on}: ${figures}` },
  ];
  const failed = checks.filter((each) => !each.passed).map((each) => each.words);
  return failed.length === 0
    ? { sound: true, line: `The reward rose ${on}: ${figures}.`, checks }
    : { sound: false, line: `Finished, but ${failed.join(', and ')}.`, checks };
}
