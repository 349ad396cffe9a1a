/** The two sides of the compare page: a run, a step of it and how much of its LoRA, or its base pictures. Pure. */
import { readSideText, type ImageRow, type RunDetail, type SideOf } from '#contract/api.ts';
import { t } from '../i18n.ts';
import { baseOf, pictureKey, samplePoints, tunedAt } from './run-view.ts';

/** Strength is the LoRA's share, 1 for the base; it is added from sampling step `loraFrom` on. */
export type Side = SideOf;

export const STRENGTHS = { least: 0, most: 1.5, step: 0.25 };

export const baseSide = (run: string): Side => ({ run, step: 'base', strength: 1 });
export const writeSide = (side: Side): string => `${side.run}@${side.step}${side.step === 'base' ? '' : `${side.strength === 1 ? '' : `x${side.strength}`}${side.loraFrom ? `from${side.loraFrom}` : ''}`}`;
export const readSide = (text: unknown): Side | null => (typeof text === 'string' ? readSideText(text) : null);
export const sameSide = (one: Side | null, other: Side | null): boolean => one !== null && other !== null && writeSide(one) === writeSide(other);

/** Steps of a run that can be shown: painted ones and checkpoints, ascending. */
export function stepsOf(detail: RunDetail | undefined): number[] {
  if (!detail) return [];
  return [...new Set([...samplePoints(detail.images), ...detail.checkpoints.map((row) => row.step)])].filter((step) => step > 0).sort((a, b) => a - b);
}

export function newestStep(detail: RunDetail): number | 'base' {
  return samplePoints(detail.images).findLast((step) => step > 0) ?? stepsOf(detail).at(-1) ?? 'base';
}

/** Exactly the picture of a side. At strength 0 nothing of the LoRA is added: that is the base picture. */
export function imageOf(detail: RunDetail | undefined, side: Side | null, key: string): ImageRow | null {
  if (!detail || !side) return null;
  if (side.step === 'base' || side.strength === 0) return baseOf(detail.images, key);
  return tunedAt(detail.images, key, side.step, true, side);
}

/** The nearest picture that is there: the same step with a LoRA nearly like it, else the step next to it; null where nothing tuned was painted. */
export function nearestImage(detail: RunDetail | undefined, side: Side | null, key: string): ImageRow | null {
  if (!detail || !side || side.step === 'base') return imageOf(detail, side, key);
  const { step, strength, loraFrom = 0 } = side;
  const apart = (image: ImageRow): number => Math.abs(image.step - step) * 10 + Math.abs((image.strength ?? 1) - strength) + Math.abs((image.loraFrom ?? 0) - loraFrom) / 100;
  return detail.images.filter((image) => image.role === 'tuned' && pictureKey(image) === key).reduce<ImageRow | null>((best, image) => (best === null || apart(image) < apart(best) ? image : best), null);
}

/** Whether a picture of a side can be painted: its run kept the checkpoint. */
export const canPaint = (detail: RunDetail | undefined, side: Side | null): boolean => side !== null && detail !== undefined && (side.step === 'base' || detail.checkpoints.some((row) => row.step === side.step));

/** What a side is called under a picture. */
export function sideLabel(side: Side | null, detail: RunDetail | undefined, named: boolean): string {
  if (!side) return '–';
  const what = side.step === 'base' ? t('ui.base') : side.strength === 1 ? t('ui.step', { step: side.step }) : t('compare.stepAt', { step: side.step, percent: Math.round(100 * side.strength) });
  const late = side.step !== 'base' && side.loraFrom ? `, ${t('compare.lateFrom', { from: side.loraFrom })}` : '';
  return `${named && detail ? `${detail.summary.name}, ` : ''}${what}${late}`;
}
