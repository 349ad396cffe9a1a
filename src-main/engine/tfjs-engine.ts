/** The part of tfjs's own engine (its tape and kernels) that its public types do not show. Source: @tensorflow/tfjs-core 4.22 dist/engine.js. */
import { tf, type Tensor } from './tf.ts';

interface TfjsEngine {
  runKernelFunc(options: {
    forwardFunc(backend: unknown, save: (tensors: Tensor[]) => void): Tensor;
    backwardsFunc(dy: Tensor, saved: Tensor[]): Record<string, () => Tensor>;
    inputs: Record<string, Tensor>;
  }): Tensor;
  startScope(name: string): void;
  endScope(): void;
  gradients(f: () => Tensor, xs: Tensor[], dy: Tensor | undefined, allowNoGradients: boolean): { grads: (Tensor | undefined)[] };
}

export function tfjsEngine(): TfjsEngine {
  return tf.engine() as unknown as TfjsEngine;
}
