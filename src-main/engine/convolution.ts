/** Convolution and its gradients, by the kernel that is fastest on the engine at hand. */
import { tf, type Tensor, type Tensor4D } from './tf.ts';

/** Rows and columns added on each side: [[top, bottom], [left, right]]. */
export type Padding2D = readonly [readonly [number, number], readonly [number, number]];
type Shape4 = readonly [number, number, number, number];

/** @param x [B, h, w, Cin] @param w [kh, kw, Cin, Cout] @returns [B, h', w', Cout] */
export function convolve(x: Tensor, w: Tensor, stride: number, padding: Padding2D): Tensor {
  return tf.conv2d(x as Tensor4D, w as Tensor4D, stride, tfjsPadding(padding), 'NHWC');
}

/** Gradient with respect to x. @param dy [B, h', w', Cout] @param w [kh, kw, Cin, Cout] @returns tensor of shape xShape */
export function inputGradient(dy: Tensor, w: Tensor, xShape: Shape4, stride: number, padding: Padding2D): Tensor {
  if (tf.getBackend() !== 'wasm') {
    return tf.engine().runKernel(
      'Conv2DBackpropInput',
      { dy, filter: w },
      { strides: stride, pad: tfjsPadding(padding), dataFormat: 'NHWC', inputShape: [...xShape] as never } as never,
    ) as Tensor;
  }
  // wasm's own kernel is a plain loop; its convolution is fast. So: spread dy out by the stride, and convolve it with the filter
  // turned round.
  const [kh, kw] = w.shape as [number, number, number, number];
  const [[top], [left]] = padding;
  const [, h, width] = xShape;
  const spread = dilate(dy, stride);
  const [, sh, sw] = spread.shape as [number, number, number, number];
  const turned = tf.transpose(tf.reverse(w, [0, 1]), [0, 1, 3, 2]);
  const before = [kh - 1 - top, kw - 1 - left] as const;
  const after = [h + kh - 1 - before[0] - sh, width + kw - 1 - before[1] - sw] as const;
  if (before.some((n) => n < 0) || after.some((n) => n < 0)) {
    // More padding than the filter reaches: a wider result, cut to size.
    const [t, l] = [Math.max(before[0], 0), Math.max(before[1], 0)];
    const [b, r] = [Math.max(after[0], 0), Math.max(after[1], 0)];
    const wide = tf.conv2d(spread as Tensor4D, turned as Tensor4D, 1, [[0, 0], [t, b], [l, r], [0, 0]]);
    return tf.slice(wide, [0, t - before[0], l - before[1], 0], [...xShape]);
  }
  return tf.conv2d(spread as Tensor4D, turned as Tensor4D, 1, [[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]]);
}

/** Gradient with respect to the filter. @param x [B, h, w, Cin] @param dy [B, h', w', Cout] @returns tensor of shape wShape */
export function filterGradient(x: Tensor, dy: Tensor, wShape: Shape4, stride: number, padding: Padding2D): Tensor {
  return tf.engine().runKernel(
    'Conv2DBackpropFilter',
    { x, dy },
    { strides: stride, pad: tfjsPadding(padding), dataFormat: 'NHWC', dimRoundingMode: undefined, filterShape: [...wShape] as never } as never,
  ) as Tensor;
}

/** Zeros between the pixels: [B, h, w, C] to [B, (h-1) stride + 1, (w-1) stride + 1, C]. */
function dilate(t: Tensor, stride: number): Tensor {
  if (stride === 1) return t;
  const [B, h, w, C] = t.shape as [number, number, number, number];
  const extra = stride - 1;
  const spread = tf.reshape(tf.pad(tf.reshape(t, [B, h, 1, w, C]), [[0, 0], [0, 0], [0, extra], [0, 0], [0, 0]]), [B, h * stride, w, 1, C]);
  const wide = tf.reshape(tf.pad(spread, [[0, 0], [0, 0], [0, 0], [0, extra], [0, 0]]), [B, h * stride, w * stride, C]);
  return tf.slice(wide, [0, 0, 0, 0], [B, (h - 1) * stride + 1, (w - 1) * stride + 1, C]);
}

function tfjsPadding([[top, bottom], [left, right]]: Padding2D): [[number, number], [number, number], [number, number], [number, number]] {
  return [[0, 0], [top, bottom], [left, right], [0, 0]];
}
