/**
 * The operations networks are made of, equal on every engine. Activations are NHWC, convolution filters HWIO.
 * Arguments are borrowed; results belong to the caller (or to the scope around the call).
 * The plain composed form of each is kept in test/golden/ops/plain-ops.ts.
 */
import { assert } from '../base/errors.ts';
import { convolve, filterGradient, inputGradient, type Padding2D } from './convolution.ts';
import { customOp } from './custom-op.ts';
import { fused } from './fused.ts';
import { needGradient } from './tape.ts';
import { tf, type Tensor, type Tensor4D } from './tf.ts';

export { attention } from './attention.ts';
export type { Padding2D } from './convolution.ts';

/**
 * Group normalisation over (h, w, C / groups): (x - mean) / sqrt(variance + eps) * gamma + beta.
 * With n = (x - mean) r and g = dy gamma, its gradient is r (g - mean(g) - n mean(g n)).
 * @param x [B, h, w, C]
 * @param gamma [C] frozen
 * @param beta [C] frozen
 * @returns [B, h, w, C]
 */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, groups: number, eps: number): Tensor {
  if (needGradient([gamma, beta]).includes(true)) return tf.add(tf.mul(groupNorm(x, tf.ones(gamma.shape), tf.zeros(beta.shape), groups, eps), gamma), beta); // by the tape
  const [B, h, w, C] = x.shape as [number, number, number, number];
  assert(x.rank === 4 && C % groups === 0, () => `groupNorm: x [${x.shape}] with ${groups} groups`);
  const pixels = h * w;
  const perGroup = C / groups;
  const flat = (t: Tensor): Tensor => tf.reshape(t, [B, pixels, C]);
  /** [B, 1, C] means over pixels to [B, groups, 1] means over groups. */
  const overGroup = (t: Tensor): Tensor => tf.mean(tf.reshape(t, [B, groups, perGroup]), 2, true);
  /** [B, groups, 1] to [B, 1, C]. */
  const spread = (t: Tensor): Tensor => tf.reshape(tf.tile(t, [1, 1, perGroup]), [B, 1, C]);
  // Reducing over pixels first, then over the few channels of a group, is several times faster than over both at once.
  const statistics = (flatX: Tensor): { mean: Tensor; inverse: Tensor } => {
    const mean = spread(overGroup(tf.mean(flatX, 1, true)));
    const variance = overGroup(tf.mean(tf.squaredDifference(flatX, mean), 1, true));
    return { mean, inverse: spread(tf.rsqrt(tf.add(variance, eps))) }; // both [B, 1, C]
  };
  return customOp({
    inputs: { x },
    forward: (save) => {
      save([x, gamma]);
      const own = fused().groupNorm?.(x, gamma, beta, groups, eps);
      if (own) return own;
      const flatX = flat(x);
      const { mean, inverse } = statistics(flatX);
      const factor = tf.mul(inverse, gamma);
      return tf.reshape(tf.add(tf.mul(tf.sub(flatX, mean), factor), beta), x.shape);
    },
    backward: (dy, [savedX, savedGamma]) => {
      const own = fused().groupNormGradient?.(dy, savedX!, savedGamma!, groups, eps);
      if (own) return { x: own };
      const flatX = flat(savedX!);
      const { mean, inverse } = statistics(flatX);
      const normal = tf.mul(tf.sub(flatX, mean), inverse);
      const flatDy = flat(dy);
      const meanG = spread(overGroup(tf.mul(tf.mean(flatDy, 1, true), savedGamma!)));
      const meanGN = spread(overGroup(tf.mul(tf.mean(tf.mul(flatDy, normal), 1, true), savedGamma!)));
      // r gamma dy - r mean(g) - n r mean(g n)
      const scaled = tf.sub(tf.mul(flatDy, tf.mul(inverse, savedGamma!)), tf.mul(normal, tf.mul(inverse, meanGN)));
      return { x: tf.reshape(tf.sub(scaled, tf.mul(inverse, meanG)), dy.shape) };
    },
  });
}

/**
 * Layer normalisation over the last axis; gradient as for {@link groupNorm}.
 * @param x [..., C]
 * @param gamma [C] frozen
 * @param beta [C] frozen
 */
export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, eps: number): Tensor {
  if (needGradient([gamma, beta]).includes(true)) return tf.add(tf.mul(layerNorm(x, tf.ones(gamma.shape), tf.zeros(beta.shape), eps), gamma), beta);
  const normalise = (t: Tensor): { normal: Tensor; inverse: Tensor } => {
    const centred = tf.sub(t, tf.mean(t, -1, true));
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps)); // [..., 1]
    return { normal: tf.mul(centred, inverse), inverse };
  };
  return customOp({
    inputs: { x },
    forward: (save) => {
      save([x, gamma]);
      return fused().layerNorm?.(x, gamma, beta, eps) ?? tf.add(tf.mul(normalise(x).normal, gamma), beta);
    },
    backward: (dy, [savedX, savedGamma]) => {
      const own = fused().layerNormGradient?.(dy, savedX!, savedGamma!, eps);
      if (own) return { x: own };
      const { normal, inverse } = normalise(savedX!);
      const g = tf.mul(dy, savedGamma!);
      const meanGN = tf.mean(tf.mul(g, normal), -1, true);
      return { x: tf.mul(tf.sub(tf.sub(g, tf.mean(g, -1, true)), tf.mul(normal, meanGN)), inverse) };
    },
  });
}

/** Softmax over the last axis: p = exp(x) / sum(exp(x)); its gradient is p (dp - sum(p dp)). */
export function softmax(x: Tensor): Tensor {
  return customOp({
    inputs: { x },
    forward: (save) => {
      const p = tf.softmax(x);
      save([p]);
      return p;
    },
    backward: (dp, [p]) => ({ x: tf.mul(tf.sub(dp, tf.sum(tf.mul(dp, p!), -1, true)), p!) }),
  });
}

/** An activation y = f(x), which keeps x alone and gives dx = dy f'(x). @param own the engine's, from x and from (dy, x) */
function activation(
  x: Tensor, f: (x: Tensor) => Tensor, derivative: (x: Tensor) => Tensor,
  own: { forward?(x: Tensor): Tensor | null; backward?(dy: Tensor, x: Tensor): Tensor | null } = {},
): Tensor {
  return customOp({
    inputs: { x },
    forward: (save) => {
      save([x]);
      return own.forward?.(x) ?? f(x);
    },
    backward: (dy, [saved]) => ({ x: own.backward?.(dy, saved!) ?? tf.mul(dy, derivative(saved!)) }),
  });
}

/** The normal distribution's cumulative function, exactly. */
function normalCdf(x: Tensor): Tensor {
  return tf.add(tf.mul(tf.erf(tf.mul(x, Math.SQRT1_2)), 0.5), 0.5);
}

/** x Phi(x), with the exact error function; its derivative is Phi(x) + x phi(x). */
export function gelu(x: Tensor): Tensor {
  return activation(
    x,
    (t) => tf.mul(t, normalCdf(t)),
    (t) => tf.add(normalCdf(t), tf.mul(t, tf.mul(tf.exp(tf.mul(tf.square(t), -0.5)), 1 / Math.sqrt(2 * Math.PI)))),
    { forward: fused().gelu, backward: fused().geluGradient },
  );
}

const tanhScale = Math.sqrt(2 / Math.PI);
const tanhCubic = 0.044715;

/** GELU by its tanh approximation: x / 2 (1 + tanh(s (x + 0.044715 x^3))), s = sqrt(2 / pi). */
export function geluTanh(x: Tensor): Tensor {
  const bend = (t: Tensor): Tensor => tf.tanh(tf.mul(t, tf.add(tf.mul(tf.square(t), tanhScale * tanhCubic), tanhScale)));
  return activation(
    x,
    (t) => tf.mul(t, tf.add(tf.mul(bend(t), 0.5), 0.5)),
    (t) => {
      const u = bend(t);
      const slope = tf.add(tf.mul(tf.square(t), 1.5 * tanhScale * tanhCubic), 0.5 * tanhScale);
      return tf.add(tf.add(tf.mul(u, 0.5), 0.5), tf.mul(tf.mul(t, slope), tf.sub(1, tf.square(u))));
    },
  );
}

/** x s with s = sigmoid(a x); the derivative is s (1 + a x (1 - s)). */
function sigmoidUnit(x: Tensor, a: number): Tensor {
  const s = (t: Tensor): Tensor => tf.sigmoid(a === 1 ? t : tf.mul(t, a));
  return activation(
    x,
    (t) => tf.mul(t, s(t)),
    (t) => {
      const gate = s(t);
      return tf.mul(gate, tf.add(tf.mul(a === 1 ? t : tf.mul(t, a), tf.sub(1, gate)), 1));
    },
    { forward: (t) => fused().sigmoidUnit?.(t, a) ?? null, backward: (dy, t) => fused().sigmoidUnitGradient?.(dy, t, a) ?? null },
  );
}

/** x sigmoid(1.702 x). */
export function quickGelu(x: Tensor): Tensor {
  return sigmoidUnit(x, 1.702);
}

/** x sigmoid(x). */
export function silu(x: Tensor): Tensor {
  return sigmoidUnit(x, 1);
}

/** Each pixel twice in both directions; the gradient is the sum of the four. @param x [B, h, w, C] @returns [B, 2h, 2w, C] */
export function nearestUpsample2x(x: Tensor): Tensor {
  const [, h, w] = x.shape as [number, number, number, number];
  assert(x.rank === 4, () => `nearestUpsample2x: x [${x.shape}]`);
  return customOp({
    inputs: { x },
    forward: () => tf.image.resizeNearestNeighbor(x as Tensor4D, [2 * h, 2 * w]),
    backward: (dy) => ({ x: tf.mul(tf.avgPool(dy as Tensor4D, 2, 2, 'valid'), 4) }),
  });
}

/**
 * Convolution, without dilation.
 * @param x [B, h, w, Cin]
 * @param w [kh, kw, Cin, Cout]
 * @param bias [Cout]
 * @param pad rows and columns of zeros: one number for all four sides, or [[top, bottom], [left, right]]
 * @returns [B, h', w', Cout]
 */
export function conv2d(x: Tensor, w: Tensor, bias: Tensor | undefined, stride = 1, pad: number | Padding2D = 0): Tensor {
  assert(x.rank === 4 && w.rank === 4 && x.shape[3] === w.shape[2], () => `conv2d: x [${x.shape}] does not fit filter [${w.shape}]`);
  const padding: Padding2D = typeof pad === 'number' ? [[pad, pad], [pad, pad]] : pad;
  const xShape = x.shape as [number, number, number, number];
  const wShape = w.shape as [number, number, number, number];
  return customOp({
    inputs: bias ? { x, w, bias } : { x, w },
    forward: (save, wanted) => {
      save([w, ...(wanted.has('w') ? [x] : [])]);
      const y = convolve(x, w, stride, padding);
      return bias ? tf.add(y, bias) : y;
    },
    backward: (dy, [savedW, savedX], wanted) => ({
      ...(wanted.has('x') ? { x: inputGradient(dy, savedW!, xShape, stride, padding) } : {}),
      ...(wanted.has('w') ? { w: filterGradient(savedX!, dy, wShape, stride, padding) } : {}),
      ...(wanted.has('bias') ? { bias: tf.sum(dy, [0, 1, 2]) } : {}),
    }),
  });
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
  assert(weight.rank === 2 && x.shape.at(-1) === inSize, () => `linear: x [${x.shape}] does not fit weight [${weight.shape}]`);
  const rows = (t: Tensor, width: number): Tensor => tf.reshape(t, [-1, width]);
  const outShape = [...x.shape.slice(0, -1), outSize];
  return customOp({
    inputs: bias ? { x, weight, bias } : { x, weight },
    forward: (save, wanted) => {
      save([weight, ...(wanted.has('weight') ? [x] : [])]);
      const own = bias && fused().linear?.(rows(x, inSize), weight, bias);
      if (own) return tf.reshape(own, outShape);
      const y = tf.matMul(rows(x, inSize), weight, false, true);
      // Right after the product, before the reshape: TensorFlow joins the two into one operation in traced blocks.
      return tf.reshape(bias ? tf.add(y, bias) : y, outShape);
    },
    backward: (dy, [savedWeight, savedX], wanted) => {
      const rowsDy = rows(dy, outSize);
      return {
        ...(wanted.has('x') ? { x: tf.reshape(tf.matMul(rowsDy, savedWeight!), x.shape) } : {}),
        ...(wanted.has('weight') ? { weight: tf.matMul(rowsDy, rows(savedX!, inSize), true, false) } : {}),
        ...(wanted.has('bias') ? { bias: tf.sum(rowsDy, 0) } : {}),
      };
    },
  });
}
