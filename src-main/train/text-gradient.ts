/**
 * The gradient of text encoders' LoRA: the conditioning is the same at every step, so that of the embeddings adds up over the steps like any
 * parameter's, and one VJP of the encoders carries it on. Exact for every algorithm.
 */
import { scope } from '../engine/scope.ts';
import { tf, type Scalar, type Tensor, type Tensor2D } from '../engine/tf.ts';
import type { LoraSet } from '../nn/lora.ts';
import type { GradientRequest, RewardGradient } from './drtune.ts';
import { adapterParameters, withParameters } from './parameters.ts';

/**
 * `gradient` of an adapter with text encoders, in the order of adapterParameters; `gradient` itself where it has none.
 * @param embed the prompts' embeddings by these adapters, differentiable (Pipeline.embedPrompts)
 */
export function withTextEncoders(
  request: GradientRequest, embed: (adapters: LoraSet) => Record<string, Tensor2D>, gradient: (request: GradientRequest) => RewardGradient,
): RewardGradient {
  const { textEncoders, ...unet } = request.adapter;
  if (!textEncoders) return gradient(request);
  return scope(() => {
    const whole = { scale: 1, modules: {}, textEncoders };
    const text = embed(textEncoders);
    const names = Object.keys(text).sort();
    const { gradients, ...result } = gradient({ ...request, adapter: { ...unet, text } });
    const [own, cotangents] = [gradients.slice(0, -names.length), gradients.slice(-names.length)];
    const along = (...tensors: Tensor[]): Scalar => {
      const made = embed(withParameters(whole, tensors as Tensor2D[]).textEncoders!);
      // A layer that nothing asks for has the gradient 0, not none.
      return tf.addN([...names.map((name, k) => tf.sum(tf.mul(made[name]!, cotangents[k]!))), ...tensors.map((tensor) => tf.mul(tf.sum(tensor), 0))]) as Scalar;
    };
    return { ...result, gradients: [...own, ...(tf.grads(along)(adapterParameters(whole).map((each) => each.tensor)) as Tensor2D[])] };
  });
}
