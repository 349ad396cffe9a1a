/** Several rewards as one: their weighted sum, with hinges, each measured by its spread where asked, some for some prompts only. */
import { AppError } from '../base/errors.ts';
import { unwatched, type Work } from '../base/work.ts';
import { appliesTo, termKeys, type RewardTerm } from '../contract/run.ts';
import type { Engine } from '../engine/engine.ts';
import { readAllFloatsSync, scope } from '../engine/scope.ts';
import { tf, type Tensor1D, type Tensor2D, type Tensor4D } from '../engine/tf.ts';
import { openReward } from './index.ts';
import type { Reward } from './reward.ts';

export interface OpenTerm {
  /** The reward's name; a second term of the same reward is "name#2". */
  readonly key: string;
  readonly weight: number;
  readonly target: number | undefined;
  readonly reward: Reward;
  /** Whether it counts for a prompt; for all if left out. */
  readonly applies?: ((prompt: string) => boolean) | undefined;
  /** True where it is to be divided by its spread on the base model. */
  readonly normalize?: boolean;
  /** What it is divided by; 1 if left out. */
  readonly spread?: number | undefined;
}

export interface Scores {
  /** [B] sum of weight * min(value, target) / spread */
  readonly total: Tensor1D;
  /** Each term's own value: no weight, no hinge, no spread. [B], or [n] of the pictures it counts for where `rows` names them. */
  readonly terms: Readonly<Record<string, Tensor1D>>;
  /** Places in the batch of the pictures a term counts for; only of terms that do not count for all. A term that counts for none is left out of `terms`. */
  readonly rows: Readonly<Record<string, readonly number[]>>;
}

export interface RewardSum {
  readonly terms: readonly OpenTerm[];
  /** Pictures [B,H,W,3] in [0,1]. Differentiable with respect to them. */
  score(images: Tensor4D, prompts: readonly string[]): Scores;
  dispose(): void;
}

/**
 * Opens every term.
 * @param options.normalize for terms that leave it open
 * @throws AppError if one cannot be opened, or where `work` is ended; those already open are closed again
 */
export async function openRewards(engine: Engine, terms: readonly RewardTerm[], { normalize = false, work = unwatched }: { normalize?: boolean; work?: Work } = {}): Promise<RewardSum> {
  const keys = termKeys(terms);
  const open: OpenTerm[] = [];
  try {
    for (const [i, term] of terms.entries()) {
      await work.at('loading the rewards', i, terms.length);
      open.push({
        key: keys[i]!, weight: term.weight, target: term.target, reward: await openReward(engine, term), normalize: term.normalize ?? normalize,
        applies: term.prompts === undefined ? undefined : (prompt) => appliesTo(term, prompt),
      });
    }
  } catch (error) {
    for (const each of open) each.reward.dispose();
    throw error;
  }
  return sumRewards(open);
}

/** total = sum over terms of weight * min(value, target) / spread, for each picture the terms that count for its prompt. */
export function sumRewards(terms: readonly OpenTerm[]): RewardSum {
  const score = (images: Tensor4D, prompts: readonly string[]): Scores => {
    const B = images.shape[0];
    if (prompts.length !== B) throw new AppError('internal', `${prompts.length} prompts for ${B} pictures`);
    return scope(() => {
      const values: Record<string, Tensor1D> = {};
      const rows: Record<string, readonly number[]> = {};
      let total = tf.zeros([B]) as Tensor1D;
      for (const { key, weight, target, reward, applies, spread = 1 } of terms) {
        const own = applies ? prompts.flatMap((prompt, i) => (applies(prompt) ? [i] : [])) : null;
        if (own) rows[key] = own;
        if (own?.length === 0) continue;
        const some = own !== null && own.length < B;
        const value = some ? reward.score(picturesAt(images, own), own.map((i) => prompts[i]!)) : reward.score(images, prompts);
        values[key] = value;
        const counted = tf.mul<Tensor1D>(target === undefined ? value : tf.minimum(value, target), weight / spread);
        total = tf.add(total, some ? spreadOut(counted, own, B) : counted);
      }
      return { total, terms: values, rows };
    });
  };
  return { terms, score, dispose: () => terms.forEach((each) => each.reward.dispose()) };
}

/** The same rewards, divided by spreads; `dispose` of either frees both. */
export function withSpreads(sum: RewardSum, spreads: Readonly<Record<string, number>>): RewardSum {
  return sumRewards(sum.terms.map((term) => ({ ...term, spread: term.normalize ? spreads[term.key] : undefined })));
}

/** Pictures at places of a batch. [B,H,W,3] -> [n,H,W,3]. By slices: their gradient needs no kernel that an engine may lack. */
function picturesAt(images: Tensor4D, places: readonly number[]): Tensor4D {
  const [, H, W, C] = images.shape;
  return tf.concat(places.map((i) => tf.slice(images, [i, 0, 0, 0], [1, H, W, C])), 0);
}

/** Values at their places of a batch, 0 elsewhere. [n] -> [B] */
function spreadOut(values: Tensor1D, places: readonly number[], B: number): Tensor1D {
  const oneHot = new Float32Array(places.length * B);
  places.forEach((place, i) => (oneHot[i * B + place] = 1));
  const row = tf.reshape(values, [1, places.length]) as Tensor2D;
  return tf.reshape(tf.matMul(row, tf.tensor2d(oneHot, [places.length, B])), [B]);
}

/** Each picture's own values by term key; those that do not count for its prompt are left out. */
export function scoresOfPictures({ total, terms, rows }: Scores): { total: number; terms: Record<string, number> }[] {
  const [totals, ...values] = readAllFloatsSync([total, ...Object.values(terms)]) as [Float32Array, ...Float32Array[]];
  const pictures = Array.from(totals, (each) => ({ total: each, terms: {} as Record<string, number> }));
  for (const [k, key] of Object.keys(terms).entries()) values[k]!.forEach((value, i) => (pictures[rows[key]?.[i] ?? i]!.terms[key] = value));
  return pictures;
}

/** Mean of each term over those pictures that have it. */
export function termMeans(pictures: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const means: Record<string, number> = {};
  for (const key of new Set(pictures.flatMap((each) => Object.keys(each)))) {
    const values = pictures.flatMap((each) => (key in each ? [each[key]!] : []));
    means[key] = values.reduce((sum, each) => sum + each / values.length, 0);
  }
  return means;
}

/** A spread below this part of the values' size is rounding, not a spread. */
const LEAST_SPREAD = 1e-6;

/**
 * Spread of each term over pictures: the standard deviation, population. A term that does not vary, or has fewer than two
 * pictures, is left out.
 */
export function spreadsOf(pictures: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const means = termMeans(pictures);
  const spreads: Record<string, number> = {};
  for (const [key, mean] of Object.entries(means)) {
    const values = pictures.flatMap((each) => (key in each ? [each[key]!] : []));
    const spread = Math.sqrt(values.reduce((sum, each) => sum + (each - mean) ** 2 / values.length, 0));
    if (values.length > 1 && spread > LEAST_SPREAD * Math.max(1, Math.abs(mean))) spreads[key] = spread;
  }
  return spreads;
}

/**
 * The same sum over a part of each picture: `crop` pixels fewer in height and width, the part's place by two numbers of [0,1). Tuned
 * so, pictures cannot answer to one pixel grid. @throws AppError('config') where nothing would be left
 */
export function cropped(sum: RewardSum, crop: number, [down, right]: readonly [number, number]): RewardSum {
  if (crop === 0) return sum;
  const score = (images: Tensor4D, prompts: readonly string[]): Scores => scope(() => {
    const [B, H, W, C] = images.shape;
    if (crop >= Math.min(H, W)) throw new AppError('config', `augment.crop is ${crop}, the pictures are ${W} x ${H}.`, { hint: 'A sixteenth of the shorter side is plenty.' });
    const from = [0, Math.floor(down * (crop + 1)), Math.floor(right * (crop + 1)), 0];
    return sum.score(tf.slice(images, from as [number, number, number, number], [B, H - crop, W - crop, C]), prompts);
  });
  return { terms: sum.terms, score, dispose: () => sum.dispose() };
}
