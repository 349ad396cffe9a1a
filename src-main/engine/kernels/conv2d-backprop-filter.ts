/** Conv2DBackpropFilter, which tfjs's wasm engine lacks: one matrix product for each position of the filter. */
import { assert } from '../../base/errors.ts';
import { tf, type Tensor, type Tensor4D } from '../tf.ts';

interface Attributes {
  strides: number | [number, number];
  pad: 'valid' | 'same' | number | [[number, number], [number, number], [number, number], [number, number]];
  dataFormat: string;
  filterShape: [number, number, number, number];
}

/**
 * dW[i, j] = sum over pictures and places of x[place * stride + (i, j)]^T dy[place].
 * @param x [B, h, w, Cin] @param dy [B, h', w', Cout] @returns [kh, kw, Cin, Cout]
 */
export function conv2dBackpropFilter(x: Tensor, dy: Tensor, { strides, pad, dataFormat, filterShape }: Attributes): Tensor {
  assert(dataFormat === 'NHWC', () => `Conv2DBackpropFilter: ${dataFormat} is not supported`);
  const { padInfo, strideHeight, strideWidth, outHeight, outWidth } = tf.backend_util.computeConv2DInfo(
    x.shape as [number, number, number, number], filterShape, strides, 1, pad as never, undefined, false, 'channelsLast');
  const [kh, kw, Cin, Cout] = filterShape;
  const B = x.shape[0]!;
  return tf.tidy(() => {
    const padded = tf.pad(x as Tensor4D, [[0, 0], [padInfo.top, padInfo.bottom], [padInfo.left, padInfo.right], [0, 0]]);
    const rowsDy = tf.reshape(dy, [-1, Cout]);
    const products: Tensor[] = [];
    for (let i = 0; i < kh; i++) {
      for (let j = 0; j < kw; j++) {
        const end = [B, i + (outHeight - 1) * strideHeight + 1, j + (outWidth - 1) * strideWidth + 1, Cin];
        const seen = tf.stridedSlice(padded, [0, i, j, 0], end, [1, strideHeight, strideWidth, 1]); // [B, h', w', Cin]
        products.push(tf.matMul(tf.reshape(seen, [-1, Cin]), rowsDy, true, false));
      }
    }
    return tf.reshape(tf.stack(products), filterShape);
  });
}

export function registerConv2dBackpropFilter(backendName: string): void {
  tf.registerKernel({
    kernelName: 'Conv2DBackpropFilter',
    backendName,
    kernelFunc: ({ inputs, attrs }) => conv2dBackpropFilter(inputs['x'] as Tensor, inputs['dy'] as Tensor, attrs as unknown as Attributes),
  });
}
