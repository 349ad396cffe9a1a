/** An adapter's tensors as one ordered list: the order of gradients, optimiser state and checkpoints. */
import { assert } from '../base/errors.ts';
import type { Tensor2D } from '../engine/tf.ts';
import { MATRICES, type Adapter, type LoraMatrices, type LoraModule } from '../nn/lora.ts';

export interface NamedParameter {
  /** "<diffusers module path>.lora_A.weight" and the like. */
  readonly name: string;
  readonly tensor: Tensor2D;
}

/** Every tensor of an adapter, modules by path, their matrices in the order of {@link MATRICES}. */
export function adapterParameters(adapter: Adapter): NamedParameter[] {
  return Object.keys(adapter.modules).sort().flatMap((path) => namesOf(adapter.modules[path]!).map((name) => ({ name: `${path}.${name}`, tensor: adapter.modules[path]!.matrices[name]! })));
}

const namesOf = ({ matrices }: LoraModule): (typeof MATRICES)[number][] => MATRICES.filter((name) => matrices[name]);

/** The same adapter around other tensors, listed as {@link adapterParameters} does. */
export function withParameters(adapter: Adapter, tensors: readonly Tensor2D[]): Adapter {
  const modules: Record<string, LoraModule> = {};
  let next = 0;
  for (const path of Object.keys(adapter.modules).sort()) {
    const own = adapter.modules[path]!;
    const matrices: LoraMatrices = Object.fromEntries(namesOf(own).map((name) => [name, tensors[next++]!]));
    modules[path] = { ...own, matrices };
  }
  assert(next === tensors.length, () => `withParameters: ${tensors.length} tensors for ${next} matrices`);
  return { ...adapter, modules };
}
