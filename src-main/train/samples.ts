/** Sample pictures of a run: the same prompts and seeds for base and tuned weights, scored and measured. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { PictureMeasures, TrainerEvent, TrainerEventOf } from '../contract/events.ts';
import type { RunConfig } from '../contract/run.ts';
import { onDisk } from '../base/atomic.ts';
import { mkdirs } from '../base/folder.ts';
import { readFloats, scope } from '../engine/scope.ts';
import { tf, type Tensor4D } from '../engine/tf.ts';
import type { Adapter } from '../nn/lora.ts';
import { toUnitRange, writePng } from '../pipeline/images.ts';
import { adapterHash } from '../pipeline/adapter.ts';
import { sampleAt } from '../pipeline/sample.ts';
import { readPicture } from '../pipeline/read-picture.ts';
import { scoresOfPictures, termMeans } from '../rewards/compose.ts';
import { meanPairDistance, measurePictures, pictureDistance, reducePicture } from '../rewards/measures.ts';
import type { Baseline } from './checkpoint.ts';
import { promptOptions, sentence } from './prompts.ts';
import type { Session } from './session.ts';

export interface SamplePoint {
  readonly prompt: string;
  /** Place in the list of sampled prompts. */
  readonly promptIndex: number;
  readonly heldOut: boolean;
  readonly seed: number;
}

export interface Painted extends SamplePoint {
  /** [H,W,3] in [0,1] */
  readonly pixels: Float32Array;
  /** Each reward's own value; without those that do not count for the prompt. */
  readonly rewards: Record<string, number>;
  /** The weighted sum that is trained. */
  readonly total: number;
  /** What rewards stand for where that can be counted: true JPEG bits per pixel. */
  readonly exact: Record<string, number>;
}

/** Which prompts are painted at each sample point, held-out ones first, picture i with seed + i unless its prompt has a seed of its own. */
export function samplePoints(config: RunConfig, prompts: readonly string[], heldOutPrompts: readonly string[]): SamplePoint[] {
  const all = [...heldOutPrompts.map((prompt) => ({ prompt, heldOut: true })), ...prompts.map((prompt) => ({ prompt, heldOut: false }))];
  return all.slice(0, config.samplePrompts).map((each, i) => ({ ...each, promptIndex: i, seed: config.sampleSeeds?.[each.prompt] ?? config.seed + i }));
}

/**
 * Paints prompts and scores the pictures by every reward, trained and watched, `batch` at a time.
 * @param what it is, for people who wait
 * @param loraFrom the sampling step at which the adapter comes in
 * @throws AppError('cancelled') between two steps where the session's work is ended
 */
export async function* paint(session: Session, adapter: Adapter | null, points: readonly SamplePoint[], what = 'painting pictures', loraFrom = 0): AsyncGenerator<Painted> {
  const { config, pipeline, width, height, work } = session;
  for (let from = 0; from < points.length; from += config.batch) {
    const part = points.slice(from, from + config.batch);
    const prompts = part.map((each) => each.prompt);
    const sampled = await sampleAt(work, { what, before: from, total: points.length }, pipeline, {
      prompts, seed: 0, seeds: part.map((each) => each.seed), ...promptOptions(config, width, height), scheduler: config.scheduler, eta: config.eta, steps: config.steps, adapter, ...(adapter?.textEncoders && { textAdapters: adapter.textEncoders }), loraFrom,
    });
    const images = toUnitRange(sampled.image);
    tf.dispose([sampled.noise, sampled.latents, sampled.image]);
    const scores = scorePictures(session, images, prompts.map((prompt) => sentence(config, prompt)));
    const exact = await exactFigures(session, images);
    const pixels = await readFloats(images);
    images.dispose();
    const size = height * width * 3;
    for (let i = 0; i < part.length; i++) {
      yield { ...part[i]!, pixels: pixels.slice(i * size, (i + 1) * size), ...scores[i]!, exact: exact[i]! };
    }
  }
}

/** The figures rewards stand for, of each picture [B,H,W,3]. */
async function exactFigures({ rewards, watched }: Session, images: Tensor4D): Promise<Record<string, number>[]> {
  const found = Array.from({ length: images.shape[0] }, (): Record<string, number> => ({}));
  for (const { key, reward } of [...rewards.terms, ...watched.terms]) {
    (await reward.exact?.(images))?.forEach((value, i) => (found[i]![key] = value));
  }
  return found;
}

/** Every reward's own value and the weighted sum of each picture [B,H,W,3] in [0,1]. */
function scorePictures({ rewards, watched }: Session, images: Tensor4D, prompts: readonly string[]): Pick<Painted, 'rewards' | 'total'>[] {
  return scope(() => {
    const [own, others] = [rewards, watched].map((sum) => scoresOfPictures(sum.score(images, prompts)));
    return own!.map(({ total, terms }, i) => ({ total, rewards: { ...terms, ...others![i]!.terms } }));
  });
}

/** Those values that are numbers; events hold no others. */
export function finiteEntries(values: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => Number.isFinite(value)));
}

/** Means over a set of pictures. */
export function measuresOf(painted: readonly Painted[], width: number, height: number): PictureMeasures | null {
  if (painted.length === 0) return null;
  const pixels = new Float32Array(painted.length * height * width * 3);
  painted.forEach((each, i) => pixels.set(each.pixels, i * each.pixels.length));
  const reward = painted.reduce((sum, each) => sum + each.total / painted.length, 0);
  const exact = finiteEntries(termMeans(painted.map((each) => each.exact)));
  return {
    rewards: finiteEntries(termMeans(painted.map((each) => each.rewards))), ...(Number.isFinite(reward) && { reward }), ...(Object.keys(exact).length > 0 && { exact }),
    ...measurePictures(pixels, [painted.length, height, width, 3]),
  };
}

const BASE_FOLDER = 'samples/base';
const pictureName = ({ promptIndex, seed }: SamplePoint): string => `${String(promptIndex).padStart(3, '0')}-seed-${seed}.png`;

/** How much pictures of the first prompt differ between seeds, painted with further ones; nothing where that is not asked for. */
async function diversityOf(session: Session, adapter: Adapter | null, first: Painted | undefined): Promise<{ diversity?: number }> {
  const { config, width, height } = session;
  if (!first || config.diversitySeeds === 0) return {};
  const { pixels, total: _, rewards: __, exact: ___, ...point } = first;
  const points = Array.from({ length: config.diversitySeeds }, (_, i) => ({ ...point, seed: point.seed + SEED_STEP * (i + 1) }));
  const pictures = [reducePicture(pixels, height, width)];
  for await (const each of paint(session, adapter, points, 'painting further seeds')) pictures.push(reducePicture(each.pixels, height, width));
  const diversity = meanPairDistance(pictures);
  return diversity === undefined || !Number.isFinite(diversity) ? {} : { diversity };
}

/** Between the seeds of diversity: none that a sample point has. */
const SEED_STEP = 1_000_003;

/** Mean distance of pictures to the base model's as they were written; undefined where one of those is gone. */
async function distanceToBase(runDir: string, painted: readonly Painted[], width: number, height: number): Promise<number | undefined> {
  let sum = 0;
  for (const each of painted) {
    const file = join(runDir, BASE_FOLDER, pictureName(each));
    if (!existsSync(file)) return undefined;
    const base = await readPicture(file);
    const pixels = await readFloats(base);
    base.dispose();
    if (pixels.length !== each.pixels.length) return undefined;
    sum += pictureDistance(reducePicture(pixels, height, width), reducePicture(each.pixels, height, width)) / painted.length;
  }
  return painted.length > 0 && Number.isFinite(sum) ? sum : undefined;
}

/**
 * One sample point of a run: writes the pictures below `runDir` and reports them; returns the measures, held-out prompts and
 * trained ones apart.
 * @param adapter null paints the base
 */
export async function* samplePictures(session: Session, runDir: string, step: number, adapter: Adapter | null): AsyncGenerator<TrainerEvent, Baseline> {
  const { config, width, height } = session;
  const role = adapter === null ? 'base' : 'tuned';
  const points = samplePoints(config, session.prompts, session.heldOutPrompts);
  const weights = adapter === null ? 'base' : adapterHash(adapter).slice(0, 16);
  const painted: Painted[] = [];
  const folder = role === 'base' ? BASE_FOLDER : `samples/step-${String(step).padStart(6, '0')}`;
  for await (const each of paint(session, adapter, points, role === 'base' ? 'painting with the base model' : 'painting samples')) {
    const file = `${folder}/${pictureName(each)}`;
    await writePicture(join(runDir, file), each.pixels, width, height, pictureText(each, weights));
    painted.push(each);
    yield imageEvent(each, { role, step, width, height, file, weights });
  }
  const { rewards } = session;
  const spreads = Object.fromEntries(rewards.terms.flatMap(({ key, spread }) => (spread === undefined ? [] : [[key, spread]])));
  const shared = { ...(Object.keys(spreads).length > 0 && { spread: spreads }), ...(await diversityOf(session, adapter, painted[0])) };
  const set = async (heldOut: boolean): Promise<PictureMeasures | null> => {
    const own = painted.filter((each) => each.heldOut === heldOut);
    const measures = measuresOf(own, width, height);
    const baseDistance = adapter === null ? 0 : await distanceToBase(runDir, own, width, height);
    return measures && { ...measures, ...shared, ...(baseDistance !== undefined && { baseDistance }) };
  };
  const measures: Baseline = { heldOut: await set(true), trained: await set(false) };
  if (measures.heldOut) yield { type: 'sampled', step, role, heldOut: true, measures: measures.heldOut };
  if (measures.trained) yield { type: 'sampled', step, role, heldOut: false, measures: measures.trained };
  return measures;
}

type ImagePlace = Pick<TrainerEventOf<'image'>, 'role' | 'step' | 'width' | 'height' | 'file' | 'weights'>;

export function imageEvent({ pixels: _, total: __, exact: ___, rewards, ...point }: Painted, place: ImagePlace, { strength = 1, loraFrom = 0 } = {}): TrainerEventOf<'image'> {
  return { type: 'image', ...place, ...point, rewards: finiteEntries(rewards), ...(strength !== 1 && { strength }), ...(loraFrom !== 0 && { loraFrom }) };
}

/** What a picture's file says of itself: what painted it, and with which weights ("base" with the adapter off). */
export function pictureText({ prompt, seed }: Pick<SamplePoint, 'prompt' | 'seed'>, weights: string): Record<string, string> {
  return { prompt, seed: String(seed), weights };
}

/** Writes one picture as PNG, with a text that tells what it is. */
export async function writePicture(file: string, pixels: Float32Array, width: number, height: number, text: Readonly<Record<string, string>> = {}): Promise<void> {
  onDisk(file, () => mkdirs(dirname(file)));
  const image = tf.tensor4d(pixels, [1, height, width, 3]);
  try {
    await writePng(file, image, { text });
  } finally {
    image.dispose();
  }
}
