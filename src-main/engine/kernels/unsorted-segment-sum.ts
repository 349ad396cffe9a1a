/** UnsortedSegmentSum, which tfjs's wasm engine lacks and the gradient of gather needs: a product with a one-hot matrix. */
import { tf, type Tensor, type Tensor1D } from '../tf.ts';

/**
 * out[s] = sum of the rows of x whose id is s.
 * @param x [N, ...]
 * @param segmentIds [N] int32; ids outside 0..segments-1 count nowhere
 * @returns [segments, ...]
 */
export function unsortedSegmentSum(x: Tensor, segmentIds: Tensor1D, segments: number): Tensor {
  return tf.tidy(() => {
    const rows = tf.reshape(x, [x.shape[0]!, -1]);
    const chosen = tf.cast(tf.oneHot(segmentIds, segments), 'float32'); // [N, segments]; wasm makes int32 only
    return tf.reshape(tf.matMul(chosen, rows, true, false), [segments, ...x.shape.slice(1)]);
  });
}

export function registerUnsortedSegmentSum(backendName: string): void {
  tf.registerKernel({
    kernelName: 'UnsortedSegmentSum',
    backendName,
    kernelFunc: ({ inputs, attrs }) =>
      unsortedSegmentSum(inputs['x'] as Tensor, inputs['segmentIds'] as Tensor1D, (attrs as unknown as { numSegments: number }).numSegments),
  });
}
