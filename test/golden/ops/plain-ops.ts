/**
 * The operations of src-main/engine/ops.ts in their plain form, composed of tfjs operations and differentiated by its tape.
 * Kept for ever as the reference of the fast ones.
 */
import { assert } from '../../../src-main/base/errors.ts';
import { tf, type Tensor, type Tensor4D } from '../../../src-main/engine/tf.ts';

/** Rows and columns added on each side: [[top, bottom], [left, right]]. */
export type Padding2D = readonly [readonly [number, number], readonly [number, number]];

/**
 * Group normalisation over (h, w, C / groups).
 * @param x [B, h, w, C]
 * @param gamma [C] frozen
 * @param beta [C] frozen
 * @returns [B, h, w, C]
 */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, groups: number, eps: number): Tensor {
  const [B, h, w, C] = x.shape as [number, number, number, number];
  assert(x.rank === 4 && C % groups === 0, () => `groupNorm: x [${x.shape}] with ${groups} groups`);
  const grouped = tf.reshape(x, [B, h * w, groups, C / groups]);
  const { mean, variance } = tf.moments(grouped, [1, 3], true);
  const normal = tf.mul(tf.sub(grouped, mean), tf.rsqrt(tf.add(variance, eps)));
  return tf.add(tf.mul(tf.reshape(normal, x.shape), gamma), beta);
}

/**
 * Layer normalisation over the last axis.
 * @param x [..., C]
 * @param gamma [C] frozen
 * @param beta [C] frozen
 */
export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, eps: number): Tensor {
  const { mean, variance } = tf.moments(x, -1, true);
  return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, eps))), gamma), beta);
}

/** Softmax over the last axis. */
export function softmax(x: Tensor): Tensor {
  return tf.softmax(x);
}

/** x * Phi(x), with the exact error function. */
export function gelu(x: Tensor): Tensor {
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
}

/** GELU by its tanh approximation: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))). */
export function geluTanh(x: Tensor): Tensor {
  const inner = tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)), Math.sqrt(2 / Math.PI));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}

/** x * sigmoid(1.702 x). */
export function quickGelu(x: Tensor): Tensor {
  return tf.mul(x, tf.sigmoid(tf.mul(x, 1.702)));
}

/** x * sigmoid(x). */
export function silu(x: Tensor): Tensor {
  return tf.mul(x, tf.sigmoid(x));
}

/**
 * softmax(q k^T * scale + mask) v.
 * @param q [B, nH, N, d]
 * @param k [B, nH, M, d]
 * @param v [B, nH, M, d]
 * @param causalMask additive, broadcast to [B, nH, N, M]: 0 where seen, very negative where hidden
 * @returns [B, nH, N, d]
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, scale: number, causalMask?: Tensor): Tensor {
  const scores = tf.matMul(tf.mul(q, scale), k, false, true); // [B, nH, N, M]
  return tf.matMul(softmax(causalMask ? tf.add(scores, causalMask) : scores), v);
}

/** Each pixel twice in both directions. @param x [B, h, w, C] @returns [B, 2h, 2w, C] */
export function nearestUpsample2x(x: Tensor): Tensor {
  const [, h, w] = x.shape as [number, number, number, number];
  return tf.image.resizeNearestNeighbor(x as Tensor4D, [2 * h, 2 * w]);
}

/**
 * Convolution.
 * @param x [B, h, w, Cin]
 * @param w [kh, kw, Cin, Cout] frozen
 * @param bias [Cout]
 * @param pad rows and columns of zeros on each side, or one number for all four
 * @returns [B, h', w', Cout]
 */
export function conv2d(x: Tensor, w: Tensor, bias: Tensor | undefined, stride = 1, pad: number | Padding2D = 0): Tensor {
  const [[top, bottom], [left, right]] = typeof pad === 'number' ? ([[pad, pad], [pad, pad]] as const) : pad;
  const y = tf.conv2d(x as Tensor4D, w as Tensor4D, stride, [[0, 0], [top, bottom], [left, right], [0, 0]], 'NHWC');
  return bias ? tf.add(y, bias) : y;
}

/**
 * x W^T + bias, with the weight as PyTorch stores it.
 * @param x [..., in]
 * @param weight [out, in]
 * @param bias [out]
 * @returns [..., out]
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const [outSize, inSize] = weight.shape as [number, number];
  assert(x.shape.at(-1) === inSize, () => `linear: x [${x.shape}] does not fit weight [${weight.shape}]`);
  const y = tf.matMul(tf.reshape(x, [-1, inSize]), weight, false, true);
  return tf.reshape(bias ? tf.add(y, bias) : y, [...x.shape.slice(0, -1), outSize]);
}
