/** Signs that the reward is being won by spoiling the pictures. Pure: measures in, words out. */
import type { PictureMeasures, TrainerEventOf } from '../contract/events.ts';

export type Alarm = TrainerEventOf<'alarm'>;

/** Edge density below this part of the base's counts as collapse. */
const EDGE_PART = 0.5;
/** Saturation above base + this counts as garish. */
const SATURATION_RISE = 0.25;
/** A held-out reward that falls by more than this part of its base's size counts as falling. */
const HELD_OUT_FALL = 0.1;

export interface Watched {
  readonly base: PictureMeasures;
  readonly tuned: PictureMeasures;
  /** Names of rewards that are watched and not trained. */
  readonly heldOutRewards: readonly string[];
}

/** The alarms of one sample point. */
export function findAlarms(step: number, { base, tuned, heldOutRewards }: Watched): Alarm[] {
  const found: Alarm[] = [];
  const percent = (a: number, b: number): string => `${Math.round((100 * a) / Math.max(b, 1e-12))} %`;
  if (tuned.edgeDensity < EDGE_PART * base.edgeDensity) {
    found.push({
      type: 'alarm', step, kind: 'collapse',
      message: `The pictures are going blank: edge density is at ${percent(tuned.edgeDensity, base.edgeDensity)} of the base's.`,
      remedy: 'Stop and use an earlier checkpoint; then lower the learning rate, raise kl, or add clipscore to the rewards.',
    });
  }
  if (tuned.saturation > base.saturation + SATURATION_RISE) {
    found.push({
      type: 'alarm', step, kind: 'saturation',
      message: `The colours are getting garish: saturation ${tuned.saturation.toFixed(2)}, the base has ${base.saturation.toFixed(2)}.`,
      remedy: 'Lower the learning rate or raise kl.',
    });
  }
  for (const name of heldOutRewards) {
    const [before, after] = [base.rewards[name], tuned.rewards[name]];
    if (before === undefined || after === undefined || after >= before - HELD_OUT_FALL * Math.abs(before)) continue;
    found.push({
      type: 'alarm', step, kind: `held-out:${name}`,
      message: `The held-out reward ${name} is falling: ${after.toFixed(3)}, the base has ${before.toFixed(3)}.`,
      remedy: 'Use the checkpoint before the fall, or add this reward to the trained ones.',
    });
  }
  return found;
}

/** Those alarms that were not already on at the sample point before; `on` becomes what is on now. */
export function newAlarms(found: readonly Alarm[], on: Set<string>): Alarm[] {
  const fresh = found.filter((each) => !on.has(each.kind));
  on.clear();
  for (const each of found) on.add(each.kind);
  return fresh;
}
