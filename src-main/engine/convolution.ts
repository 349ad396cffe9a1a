/** Convolution and its gradients. */
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

function tfjsPadding([[top, bottom], [left, right]]: Padding2D): [[number, number], [number, number], [number, number], [number, number]] {
  return [[0, 0], [top, bottom], [left, right], [0, 0]];
}
