/** Brightness and colourfulness. */
import { assert } from '../base/errors.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor1D, type Tensor3D, type Tensor4D } from '../engine/tf.ts';
import { pictureMean, pictureVariance } from './picture-mean.ts';
import type { Reward, RewardDefinition } from './reward.ts';

/** Keeps the square root's slope finite on grey pictures. */
const SQRT_FLOOR = 1e-8;

/** Channels of pictures [B,H,W,3] as three [B,H,W]. */
export function splitChannels(images: Tensor4D): [Tensor3D, Tensor3D, Tensor3D] {
  assert(images.rank === 4 && images.shape[3] === 3, () => `splitChannels: images [${images.shape}]`);
  const [B, H, W] = images.shape;
  const channel = (c: number): Tensor3D => tf.reshape(tf.slice(images, [0, 0, 0, c], [B, H, W, 1]), [B, H, W]);
  return [channel(0), channel(1), channel(2)];
}

/**
 * Luma of each pixel by Rec. 601: 0.299 R + 0.587 G + 0.114 B.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B,H,W] in [0,1]
 */
export function luma(images: Tensor4D): Tensor3D {
  return scope(() => {
    const [r, g, b] = splitChannels(images);
    return tf.add<Tensor3D>(tf.add(tf.mul(r, 0.299), tf.mul(g, 0.587)), tf.mul(b, 0.114));
  });
}

/**
 * Colourfulness: sqrt(var(rg) + var(yb)) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2), rg = R - G, yb = (R + G) / 2 - B, population
 * variances, pixels in [0,1] (the paper's figures are 255 times these); 1e-8 under each root keeps the slope finite.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B]
 * Source: Hasler and Suesstrunk, Measuring colourfulness in natural images, 2003, eq. of M(3).
 */
export function colorfulness(images: Tensor4D): Tensor1D {
  return scope(() => {
    const [r, g, b] = splitChannels(images);
    const rg = tf.sub(r, g);
    const yb = tf.sub(tf.mul(tf.add(r, g), 0.5), b);
    const root = (x: Tensor): Tensor => tf.sqrt(tf.add(x, SQRT_FLOOR));
    const spread = root(tf.add(pictureVariance(rg), pictureVariance(yb)));
    const shift = root(tf.add(tf.square(pictureMean(rg)), tf.square(pictureMean(yb))));
    return tf.add<Tensor1D>(spread, tf.mul(shift, 0.3));
  });
}

const brightnessReward: Reward = {
  name: 'brightness',
  score: (images) => scope(() => pictureMean(luma(images))),
  dispose() {},
};

const colorfulnessReward: Reward = { name: 'colorfulness', score: colorfulness, dispose() {} };

export const brightnessDefinition: RewardDefinition = {
  name: 'brightness', title: 'Brightness', what: 'Mean luma of the picture (Rec. 601).',
  habit: 'Trained alone it ends in white pictures.',
  needs: 'nothing', licence: 'none needed', range: '0 to 1', color: '#eab308',
  open: async () => brightnessReward,
};

export const colorfulnessDefinition: RewardDefinition = {
  name: 'colorfulness', title: 'Colourfulness', what: 'Spread and strength of the colours (Hasler and Suesstrunk).',
  habit: 'Saturates: flat, garish areas of two opposite colours.',
  needs: 'nothing', licence: 'none needed', range: '0 to about 1', color: '#f43f5e',
  open: async () => colorfulnessReward,
};
