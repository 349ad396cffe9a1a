/** Contrast and sharpness: how far light and dark lie apart, and how abruptly they change. */
import { scope } from '../engine/scope.ts';
import { tf, type Tensor1D, type Tensor3D, type Tensor4D } from '../engine/tf.ts';
import { luma } from './color.ts';
import { pictureMean, pictureVariance } from './picture-mean.ts';
import { needPixels, type Reward, type RewardDefinition } from './reward.ts';

/** Keeps the square root's slope finite on blank pictures. */
const SQRT_FLOOR = 1e-8;

/**
 * Root-mean-square contrast: sqrt(var(luma) + 1e-8), population variance.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B] in [0,0.5]
 * Source: Peli, Contrast in complex images, 1990, "RMS contrast".
 */
export function rmsContrast(images: Tensor4D): Tensor1D {
  return scope(() => tf.sqrt(tf.add<Tensor1D>(pictureVariance(luma(images)), SQRT_FLOOR)));
}

/**
 * Laplacian energy: sqrt(mean(L^2) + 1e-8), L the discrete Laplacian of luma (4 centre - left - right - up - down), where it fits.
 * @param images [B,H,W,3] in [0,1], at least 3 x 3
 * @returns [B] in [0,4]
 * Source: Subbarao, Choi and Nikzad, Focusing techniques, 1993, "energy of Laplacian".
 */
export function sharpness(images: Tensor4D): Tensor1D {
  const [B, H, W] = images.shape;
  needPixels('sharpness', images, 3);
  return scope(() => {
    const y = luma(images);
    const shifted = (down: number, right: number): Tensor3D => tf.slice(y, [0, 1 + down, 1 + right], [B, H - 2, W - 2]);
    const around = tf.add(tf.add(shifted(-1, 0), shifted(1, 0)), tf.add(shifted(0, -1), shifted(0, 1)));
    const laplacian = tf.sub(tf.mul(shifted(0, 0), 4), around);
    return tf.sqrt(tf.add<Tensor1D>(pictureMean(tf.square(laplacian)), SQRT_FLOOR));
  });
}

const contrastReward: Reward = { name: 'contrast', score: rmsContrast, dispose() {} };

const sharpnessReward: Reward = { name: 'sharpness', score: sharpness, dispose() {} };

export const contrastDefinition: RewardDefinition = {
  name: 'contrast', title: 'Contrast', what: 'Light and dark lie far apart: the spread of luma (RMS contrast).',
  habit: 'Trained alone it ends in black and white posters without shades.',
  needs: 'nothing', licence: 'none needed', range: '0 to 0.5', color: '#475569',
  open: async () => contrastReward,
};

export const sharpnessDefinition: RewardDefinition = {
  name: 'sharpness', title: 'Sharpness', what: 'Edges are crisp: the energy of the Laplacian of luma.',
  habit: 'Trained alone it ends in halos, grids and noise; give it a target.',
  needs: 'nothing', licence: 'none needed', range: '0 to 4, about 0.05 to 0.2 for photos', color: '#0891b2',
  open: async () => sharpnessReward,
};
