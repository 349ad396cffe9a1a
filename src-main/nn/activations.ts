/** Activation functions by the names that config files use. */
import { gelu, geluTanh, quickGelu, silu } from '../engine/ops.ts';
import { tf, type Tensor } from '../engine/tf.ts';

export type Activation = (x: Tensor) => Tensor;

/** x * tanh(softplus(x)). */
const mish: Activation = (x) => tf.mul(x, tf.tanh(tf.softplus(x)));

/** By diffusers' names (act_fn). Source: diffusers models/activations.py ACT2CLS. */
export const diffusersActivations: { readonly [name: string]: Activation } = { silu, swish: silu, gelu, mish, relu: (x) => tf.relu(x) };

/** By transformers' names (hidden_act). Source: transformers activations.py ACT2FN. */
export const transformersActivations: { readonly [name: string]: Activation } = {
  gelu, quick_gelu: quickGelu, gelu_new: geluTanh, gelu_pytorch_tanh: geluTanh, silu, swish: silu, relu: (x) => tf.relu(x),
};
