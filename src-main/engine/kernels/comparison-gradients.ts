/**
 * Gradients of comparisons: zero. tfjs has none and stops when a condition of `where` depends on what is differentiated.
 */
import { tf, type Tensor } from '../tf.ts';

const comparisons = ['Greater', 'GreaterEqual', 'Less', 'LessEqual', 'Equal', 'NotEqual'];

/** Once per process, whatever the engine. */
export function registerComparisonGradients(): void {
  for (const kernelName of comparisons) {
    if (tf.getGradient(kernelName)) continue;
    tf.registerGradient({
      kernelName,
      inputsToSave: ['a', 'b'],
      gradFunc: (_dy, saved) => {
        const [a, b] = saved as [Tensor, Tensor];
        return { a: () => tf.zeros(a.shape), b: () => tf.zeros(b.shape) };
      },
    });
  }
}
