/** The two sides of the compare page: a run and a step of it, or its base pictures. Pure. */
import type { ImageRow, RunDetail } from '#contract/api.ts';
import { baseOf, samplePoints, tunedAt } from './run-view.ts';

export interface Side { run: string; step: number | 'base' }

export const writeSide = (side: Side): string => `${side.run}@${side.step}`;
export function readSide(text: unknown): Side | null {
  const match = typeof text === 'string' ? /^(.+)@(base|\d+)$/.exec(text) : null;
  return match ? { run: match[1]!, step: match[2] === 'base' ? 'base' : Number(match[2]) } : null;
}

/** Steps of a run that can be shown: painted ones and checkpoints, ascending. */
export function stepsOf(detail: RunDetail | undefined): number[] {
  if (!detail) return [];
  return [...new Set([...samplePoints(detail.images), ...detail.checkpoints.map((row) => row.step)])].filter((step) => step > 0).sort((a, b) => a - b);
}

export function newestStep(detail: RunDetail): number | 'base' {
  return samplePoints(detail.images).findLast((step) => step > 0) ?? stepsOf(detail).at(-1) ?? 'base';
}

export function imageOf(detail: RunDetail | undefined, side: Side | null, key: string): ImageRow | null {
  if (!detail || !side) return null;
  return side.step === 'base' ? baseOf(detail.images, key) : tunedAt(detail.images, key, side.step, true);
}

/** What a side is called under a picture. */
export function sideLabel(side: Side | null, detail: RunDetail | undefined, named: boolean): string {
  if (!side) return '–';
  const what = side.step === 'base' ? 'base' : `step ${side.step}`;
  return named && detail ? `${detail.summary.name}, ${what}` : what;
}
