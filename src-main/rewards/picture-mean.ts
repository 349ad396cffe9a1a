/** Means over pictures, row by row: an engine that adds one by one in float32 (wasm) loses 4 % of a sum of nine million values. */
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor1D } from '../engine/tf.ts';

/** [B,H,W] or [B,H,W,C] -> [B] */
export function pictureMean(x: Tensor): Tensor1D {
  return scope(() => tf.mean<Tensor1D>(tf.mean(x, x.rank === 4 ? [2, 3] : 2), 1));
}

/** Population variance of each picture. [B,H,W] -> [B] */
export function pictureVariance(x: Tensor): Tensor1D {
  return scope(() => pictureMean(tf.square(tf.sub(x, tf.reshape(pictureMean(x), [-1, 1, 1])))));
}
