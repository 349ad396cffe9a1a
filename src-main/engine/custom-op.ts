/** Operations with a gradient of their own: fewer passes and fewer kept values than the tape would have. */
import { assert } from '../base/errors.ts';
import { scope } from './scope.ts';
import { needGradient, watchGradients } from './tape.ts';
import type { Tensor } from './tf.ts';
import { tfjsEngine } from './tfjs-engine.ts';

export interface CustomOp<Name extends string> {
  /** What the operation can be differentiated by. */
  inputs: Readonly<Partial<Record<Name, Tensor>>>;
  /**
   * Computes the result. What `backward` reads must be given to `save`; nothing is kept when no gradient is wanted.
   * @param wanted the inputs a gradient is wanted of
   */
  forward(save: (tensors: Tensor[]) => void, wanted: ReadonlySet<Name>): Tensor;
  /** Gradients of the wanted inputs, from the result's gradient and the saved tensors. */
  backward(dy: Tensor, saved: Tensor[], wanted: ReadonlySet<Name>): Partial<Record<Name, Tensor>>;
}

watchGradients();

/** Runs an operation, and records it if a gradient of one of its inputs is wanted. */
export function customOp<Name extends string>({ inputs, forward, backward }: CustomOp<Name>): Tensor {
  const names = Object.keys(inputs) as Name[];
  const needed = needGradient(names.map((name) => inputs[name]!));
  const wanted = new Set(names.filter((_, i) => needed[i]));
  const recorded: Record<string, Tensor> = {};
  for (const name of wanted) recorded[name] = inputs[name]!;
  return tfjsEngine().runKernelFunc({
    inputs: recorded,
    forwardFunc: (_backend, save) => forward(wanted.size > 0 ? save : () => undefined, wanted),
    backwardsFunc: (dy, saved) => {
      const gradients = scope(() => backward(dy, saved, wanted));
      const byInput: Record<string, () => Tensor> = {};
      for (const name of wanted) {
        byInput[name] = () => {
          const gradient = gradients[name];
          assert(gradient, () => `no gradient of ${name}`);
          return gradient;
        };
      }
      return byInput;
    },
  });
}
