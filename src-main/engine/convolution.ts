/** Convolution and its gradients. */
import { tf, type Tensor, type Tensor4D } from './tf.ts';

/** Rows and columns added on each side: [[top, bottom], [left, right]]. */
export type Padding2D = readonly [readonly [number, number], readonly [number, number]];
type Shape4 = readonly [number, number, number, number];

/**
 * Whether a product of matrices is faster. TensorFlow's convolution brings the filter into another order at every call; where few
 * pixels meet many channels that takes longer than the rest (SD 1.5 at 256 pixels: 57 ms against 10), and a product reads it as it is.
 * @param rows pixels of all pictures, for each of which the product has a row
 * @param share of the filter's outputs up to which they are few, as measured
 */
function asProduct(w: Tensor, stride: number, rows: number, share: number): boolean {
  const [kh, kw, , outSize] = w.shape as [number, number, number, number];
  return tf.getBackend() === 'tensorflow' && stride === 1 && kh * kw > 1 && rows <= outSize * share;
}

/** @param x [B, h, w, Cin] @param w [kh, kw, Cin, Cout] @returns [B, h', w', Cout] */
export function convolve(x: Tensor, w: Tensor, stride: number, padding: Padding2D): Tensor {
  const [B, height, width, inSize] = x.shape as [number, number, number, number];
  const [kh, kw, , outSize] = w.shape as [number, number, number, number];
  const [h, v] = [height + padding[0][0] + padding[0][1] - kh + 1, width + padding[1][0] + padding[1][1] - kw + 1];
  if (asProduct(w, stride, B * h * v, 1 / 4)) {
    const padded = tf.pad(x, tfjsPadding(padding));
    const seen = places(kh, kw).map(([i, j]) => tf.slice(padded, [0, i, j, 0], [B, h, v, inSize])); // what each place of the filter sees
    const columns = tf.reshape(tf.concat(seen, 3), [B * h * v, kh * kw * inSize]);
    return tf.reshape(tf.matMul(columns, tf.reshape(w, [kh * kw * inSize, outSize])), [B, h, v, outSize]);
  }
  return tf.conv2d(x as Tensor4D, w as Tensor4D, stride, tfjsPadding(padding), 'NHWC');
}

/** Gradient with respect to x. @param dy [B, h', w', Cout] @param w [kh, kw, Cin, Cout] @returns tensor of shape xShape */
export function inputGradient(dy: Tensor, w: Tensor, xShape: Shape4, stride: number, padding: Padding2D): Tensor {
  const [B, h, v] = dy.shape as [number, number, number, number];
  const [kh, kw, inSize, outSize] = w.shape as [number, number, number, number];
  if (asProduct(w, stride, B * h * v, 1 / 2)) {
    const products = tf.matMul(tf.reshape(dy, [-1, outSize]), tf.reshape(w, [kh * kw * inSize, outSize]), false, true);
    const columns = tf.reshape(products, [B, h, v, kh * kw * inSize]);
    const moved = places(kh, kw).map(([i, j], k) =>
      tf.pad(tf.slice(columns, [0, 0, 0, k * inSize], [B, h, v, inSize]), [[0, 0], [i, kh - 1 - i], [j, kw - 1 - j], [0, 0]]));
    return tf.slice(tf.addN(moved), [0, padding[0][0], padding[1][0], 0], [...xShape]);
  }
  return tf.engine().runKernel(
    'Conv2DBackpropInput',
    { dy, filter: w },
    { strides: stride, pad: tfjsPadding(padding), dataFormat: 'NHWC', inputShape: [...xShape] as never } as never,
  ) as Tensor;
}

/** Gradient with respect to the filter. @param x [B, h, w, Cin] @param dy [B, h', w', Cout] @returns tensor of shape wShape */
export function filterGradient(x: Tensor, dy: Tensor, wShape: Shape4, stride: number, padding: Padding2D): Tensor {
  return tf.engine().runKernel(
    'Conv2DBackpropFilter',
    { x, dy },
    { strides: stride, pad: tfjsPadding(padding), dataFormat: 'NHWC', dimRoundingMode: undefined, filterShape: [...wShape] as never } as never,
  ) as Tensor;
}

/** Rows and columns of a filter, in its own order. */
function places(kh: number, kw: number): [number, number][] {
  return Array.from({ length: kh * kw }, (_, k) => [Math.floor(k / kw), k % kw]);
}

function tfjsPadding([[top, bottom], [left, right]]: Padding2D): [[number, number], [number, number], [number, number], [number, number]] {
  return [[0, 0], [top, bottom], [left, right], [0, 0]];
}
