/** What the run page and the compare page read out of a run's rows. Pure. */
import { sameLora, type ImageRow, type RunDetail, type StepRow } from '#contract/api.ts';
import { shortPictures } from '#contract/run.ts';
import { fixed } from '../format.ts';
import { weightedReward } from './apply-run-event.ts';

export const pictureKey = (image: Pick<ImageRow, 'prompt' | 'seed'>): string => `${image.seed} ${image.prompt}`;

export interface Subject { key: string; prompt: string; seed: number; heldOut: boolean }

/** Prompt and seed of every picture, in the trainer's order: held-out ones are marked. */
export function subjects(images: readonly ImageRow[]): Subject[] {
  const found = new Map<string, Subject & { order: number }>();
  for (const image of images) {
    const key = pictureKey(image);
    if (!found.has(key)) found.set(key, { key, prompt: image.prompt, seed: image.seed, heldOut: image.heldOut, order: image.promptIndex });
  }
  return [...found.values()].sort((a, b) => a.order - b.order || a.seed - b.seed).map(({ order: _, ...subject }) => subject);
}

/** Steps at which tuned pictures exist, ascending, with 0 for the base where there is one. */
export function samplePoints(images: readonly ImageRow[]): number[] {
  const steps = new Set<number>();
  for (const image of images) if (sameLora(image)) steps.add(image.role === 'base' ? 0 : image.step);
  return [...steps].sort((a, b) => a - b);
}

export function baseOf(images: readonly ImageRow[], key: string): ImageRow | null {
  return images.findLast((image) => image.role === 'base' && pictureKey(image) === key) ?? null;
}

/** The tuned picture of a step, or the newest one before it, with all of the LoRA or as `lora` says. */
export function tunedAt(images: readonly ImageRow[], key: string, step: number, exact = false, lora: Parameters<typeof sameLora>[1] = {}): ImageRow | null {
  let best: ImageRow | null = null;
  for (const image of images) {
    if (image.role !== 'tuned' || !sameLora(image, lora) || pictureKey(image) !== key || image.step > step || (exact && image.step !== step)) continue;
    if (!best || image.step >= best.step) best = image;
  }
  return best;
}

export interface Lines { x: number[]; at: (values: Iterable<readonly [number, number | null]>) => (number | null)[] }

/** One x axis for all charts of a run: every iteration and every sample point. */
export function axisOf(detail: RunDetail): Lines {
  const x = [...new Set([...detail.steps.map((row) => row.step), ...detail.samples.map((row) => row.step)])].sort((a, b) => a - b);
  return {
    x,
    at(values) {
      const byStep = new Map(values);
      return x.map((step) => byStep.get(step) ?? null);
    },
  };
}

export const ofSteps = (detail: RunDetail, pick: (row: StepRow) => number | null | undefined): [number, number | null][] =>
  detail.steps.map((row) => [row.step, row.skipped ? null : (pick(row) ?? null)]);

/** Weighted reward of the held-out sample pictures (of all sample pictures where none is held out) over steps. */
export function heldOutCurve(detail: RunDetail): [number, number | null][] {
  const held = detail.samples.filter((row) => row.heldOut);
  return (held.length > 0 ? held : detail.samples).map((row) => [row.step, row.measures.reward ?? weightedReward(detail.config, row.measures.rewards) ?? null]);
}

/** A held-out sample measure over steps. */
export function measureCurve(detail: RunDetail, pick: (row: RunDetail['samples'][number]) => number | undefined): [number, number | null][] {
  const held = detail.samples.filter((row) => row.heldOut);
  return (held.length > 0 ? held : detail.samples).map((row) => [row.step, pick(row) ?? null]);
}

/** Seconds per iteration over the last few steps; null before the first. */
export function secondsPerStep(steps: readonly StepRow[]): number | null {
  const last = steps.slice(-8);
  return last.length === 0 ? null : last.reduce((sum, row) => sum + row.stepMs, 0) / last.length / 1000;
}

/** Pictures that training goes through in a minute; null before the first step. */
export function picturesPerMinute({ config, steps }: Pick<RunDetail, 'config' | 'steps'>): number | null {
  const seconds = secondsPerStep(steps);
  return seconds === null || seconds === 0 ? null : (60 * config.batch * config.accumulate) / seconds;
}

/** Bytes the trainer held at its newest step, and the most it held at any; null before the first. */
export function memoryOf(steps: readonly StepRow[]): { now: number; peak: number } | null {
  const last = steps.at(-1);
  return last ? { now: last.memoryBytes, peak: Math.max(...steps.map((row) => row.memoryBytes)) } : null;
}

export function pace(seconds: number | null): string {
  if (seconds === null) return '–';
  return seconds < 1 ? `${fixed(1 / seconds, 1)} it/s` : `${fixed(seconds, 1)} s/it`;
}

/** A run's settings by their paths, values as `runs.diff` tells them. */
export function flatSettings(value: unknown, at = ''): { key: string; value: string }[] {
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) return Object.entries(value).flatMap(([key, inner]) => flatSettings(inner, at ? `${at}.${key}` : key));
  return [{ key: at, value: shortPictures(Array.isArray(value) ? JSON.stringify(value) : String(value)) }];
}

/** A value as `runs.diff` tells it, in words: a list one a line, a reward by its title with its weight and what else is set of it. */
export function settingWords(value: string, title: (reward: string) => string): string {
  if (!/^[[{]/.test(value)) return value === '' ? '–' : value;
  const plain = (one: unknown): string => (Array.isArray(one) ? one.map(plain).join(', ') : String(one));
  const words = (one: unknown): string => {
    if (one === null || typeof one !== 'object' || Array.isArray(one) || !('name' in one)) return typeof one === 'object' && !Array.isArray(one) ? JSON.stringify(one) : plain(one);
    const { name, weight, ...more } = one as Record<string, unknown>;
    return [title(String(name)), plain(weight ?? 1), ...Object.entries(more).map(([key, each]) => `${key} ${plain(each)}`)].join(', ');
  };
  try {
    const list = JSON.parse(value) as unknown;
    return Array.isArray(list) ? list.map(words).join(list.some((one) => typeof one === 'number') ? ', ' : '\n') || '–' : words(list);
  } catch {
    return value; // a picture in it was shortened
  }
}

/** The running mean of noisy values, so that their course is seen; gaps stay gaps. Weighs about the last `span` values. */
export function smooth(values: readonly (number | null)[], span = 8): (number | null)[] {
  const decay = 1 - 2 / (span + 1);
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    if (value === null || !Number.isFinite(value)) return null;
    sum = decay * sum + (1 - decay) * value;
    weight = decay * weight + (1 - decay);
    return sum / weight;
  });
}
