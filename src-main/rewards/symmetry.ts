/** Symmetry of pictures: left-right (plain and relative to the picture's own contrast), top-bottom, and by half a turn. */
import { assert } from '../base/errors.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor1D, type Tensor4D } from '../engine/tf.ts';
import { pictureMean } from './picture-mean.ts';
import type { Reward, RewardDefinition } from './reward.ts';

/** Added to the contrast before dividing, so that a blank picture does not divide by zero. */
export const CONTRAST_FLOOR = 0.03;

/** The axes of [B,H,W,3] along which each kind of symmetry reverses a picture. */
const REVERSED = { 'left-right': [2], 'top-bottom': [1], 'half-turn': [1, 2] } as const;
export type SymmetryKind = keyof typeof REVERSED;

/**
 * Mean absolute difference between each picture and its mirror image: mean |x - mirror(x)|. The mirror of `half-turn` is the
 * picture turned by 180 degrees.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B] in [0,1]; 0 is perfectly symmetric
 */
export function mirrorDistance(images: Tensor4D, kind: SymmetryKind = 'left-right'): Tensor1D {
  assert(images.rank === 4, () => `mirrorDistance: images [${images.shape}]`);
  return scope(() => pictureMean(tf.abs(tf.sub(images, tf.reverse(images, [...REVERSED[kind]])))));
}

/**
 * Mean absolute deviation of each picture from its own mean colour.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B]
 */
export function colorContrast(images: Tensor4D): Tensor1D {
  return scope(() => pictureMean(tf.abs(tf.sub(images, tf.mean(tf.mean(images, 2, true), 1, true)))));
}

/**
 * Mirror distance relative to contrast: d / (c + 0.03). Erasing the object lowers d and c alike, so blank pictures alone
 * do not win it.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B]
 */
export function relativeMirrorDistance(images: Tensor4D): Tensor1D {
  return scope(() => tf.div<Tensor1D>(mirrorDistance(images), tf.add(colorContrast(images), CONTRAST_FLOOR)));
}

function symmetryReward(name: string, kind: SymmetryKind): Reward {
  return { name, score: (images) => scope(() => tf.neg(mirrorDistance(images, kind))), dispose() {} };
}

const symmetry = symmetryReward('symmetry', 'left-right');
const verticalSymmetry = symmetryReward('symmetry-vertical', 'top-bottom');
const rotationalSymmetry = symmetryReward('symmetry-rotational', 'half-turn');

const relativeSymmetry: Reward = {
  name: 'relative-symmetry',
  score: (images) => scope(() => tf.neg(relativeMirrorDistance(images))),
  dispose() {},
};

export const symmetryDefinition: RewardDefinition = {
  name: 'symmetry', title: 'Symmetry', what: 'Left and right halves mirror each other.',
  habit: 'Trained alone it erases the object: a blank picture is perfectly symmetric.',
  needs: 'nothing', licence: 'none needed', range: '-1 to 0 (minus the mean mirror difference)', color: '#6366f1',
  open: async () => symmetry,
};

export const verticalSymmetryDefinition: RewardDefinition = {
  name: 'symmetry-vertical', title: 'Symmetry, top to bottom', what: 'Upper and lower halves mirror each other, as in still water.',
  habit: 'Trained alone it erases the object or cuts it in two at the waist.',
  needs: 'nothing', licence: 'none needed', range: '-1 to 0 (minus the mean mirror difference)', color: '#4f46e5',
  open: async () => verticalSymmetry,
};

export const rotationalSymmetryDefinition: RewardDefinition = {
  name: 'symmetry-rotational', title: 'Symmetry, by half a turn', what: 'Turned by 180 degrees the picture is the same, as a playing card is.',
  habit: 'Trained alone it erases the object; what has an upper side is doubled or lost.',
  needs: 'nothing', licence: 'none needed', range: '-1 to 0 (minus the mean difference)', color: '#7c3aed',
  open: async () => rotationalSymmetry,
};

export const relativeSymmetryDefinition: RewardDefinition = {
  name: 'relative-symmetry', title: 'Symmetry, relative to contrast', what: 'Halves mirror each other, measured against the picture\'s own contrast.',
  habit: 'Prefers few, large, flat shapes; detail fades when it is trained for long.',
  needs: 'nothing', licence: 'none needed', range: 'about -2 to 0', color: '#8b5cf6',
  open: async () => relativeSymmetry,
};
