/** An adapter's tensors as one ordered list: the order of gradients, optimiser state and checkpoints. */
import { assert } from '../base/errors.ts';
import type { Tensor2D } from '../engine/tf.ts';
import { LORA_PARTS, MATRICES, type Adapter, type LoraModule } from '../nn/lora.ts';

export interface NamedParameter {
  /** "<diffusers module path>.lora_A.weight" and the like; of a text encoder with "text_encoder." or "text_encoder_2." in front. */
  readonly name: string;
  readonly tensor: Tensor2D;
}

/** Every tensor of an adapter: modules by path, their matrices in the order of {@link MATRICES}; then the text encoders', then embeddings in place of the conditioning's. */
export function adapterParameters(adapter: Adapter): NamedParameter[] {
  const found: NamedParameter[] = [];
  mapped(adapter, '', (tensor, name) => {
    found.push({ name, tensor });
    return tensor;
  });
  return found;
}

/** The same adapter around other tensors, listed as {@link adapterParameters} does. */
export function withParameters(adapter: Adapter, tensors: readonly Tensor2D[]): Adapter {
  let next = 0;
  const made = mapped(adapter, '', () => tensors[next++]!);
  assert(next === tensors.length, () => `withParameters: ${tensors.length} tensors for ${next} matrices`);
  return made;
}

/** The adapter with every tensor changed, in their order. */
function mapped(adapter: Adapter, prefix: string, change: (tensor: Tensor2D, name: string) => Tensor2D): Adapter {
  const each = (record: Readonly<Record<string, Tensor2D | undefined>>, keys: readonly string[], path: string): Record<string, Tensor2D> =>
    Object.fromEntries(keys.flatMap((key) => (record[key] ? [[key, change(record[key], `${path}.${key}`)]] : [])));
  const modules: Record<string, LoraModule> = {};
  for (const path of Object.keys(adapter.modules).sort()) {
    const own = adapter.modules[path]!;
    modules[path] = { ...own, matrices: each(own.matrices, MATRICES, prefix + path) };
  }
  const { textEncoders, text } = adapter;
  return {
    ...adapter, modules,
    ...(textEncoders && { textEncoders: Object.fromEntries(LORA_PARTS.flatMap((part) => (part !== 'unet' && textEncoders[part] ? [[part, mapped(textEncoders[part], `${part}.`, change)]] : []))) }),
    ...(text && { text: each(text, Object.keys(text).sort(), 'text') }),
  };
}
