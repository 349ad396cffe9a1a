/** The UNet's transformers over pixels and text. Source: diffusers models/attention.py BasicTransformerBlock, transformer_2d.py. */
import { gelu, groupNorm, layerNorm } from '../engine/ops.ts';
import { tf, type Tensor } from '../engine/tf.ts';
import type { Engine } from '../engine/engine.ts';
import { attendHeads, multiHeadAttention, splitHeads } from './attention.ts';
import { blockAdapter, blockScale, loraConv, loraLinear, type Adapter, type BlockAdapter } from './lora.ts';
import { blockWeights, type ParameterList, type Weights } from './parameters.ts';

export interface TransformerOptions {
  readonly heads: number;
  readonly layers: number;
  readonly groups: number;
}

const attentionModules = ['to_q', 'to_k', 'to_v', 'to_out.0'];
const blockModules = ['attn1', 'attn2'].flatMap((attn) => attentionModules.map((name) => `${attn}.${name}`)).concat('ff.net.0.proj', 'ff.net.2');
const blockNames = [...blockModules, 'norm1', 'norm2', 'norm3'].flatMap((name) => [`${name}.weight`, `${name}.bias`]);

/** @param heads the inner width is heads * floor(channels / heads), as diffusers has it */
export function transformerParameters(
  list: ParameterList, path: string, options: { channels: number; heads: number; layers: number; crossDim: number; linearProjection: boolean },
): void {
  const { channels, heads, layers, crossDim, linearProjection } = options;
  const inner = heads * Math.floor(channels / heads);
  const projection = (name: string, from: number, to: number): void => {
    if (linearProjection) list.linear(`${path}.${name}`, from, to);
    else list.conv(`${path}.${name}`, from, to, 1);
  };
  list.norm(`${path}.norm`, channels);
  projection('proj_in', channels, inner);
  for (let i = 0; i < layers; i++) {
    const block = `${path}.transformer_blocks.${i}`;
    for (const norm of ['norm1', 'norm2', 'norm3']) list.norm(`${block}.${norm}`, inner);
    for (const [attn, from] of [['attn1', inner], ['attn2', crossDim]] as const) {
      list.linear(`${block}.${attn}.to_q`, inner, inner, false);
      list.linear(`${block}.${attn}.to_k`, from, inner, false);
      list.linear(`${block}.${attn}.to_v`, from, inner, false);
      list.linear(`${block}.${attn}.to_out.0`, inner, inner);
    }
    list.linear(`${block}.ff.net.0.proj`, inner, 8 * inner);
    list.linear(`${block}.ff.net.2`, 4 * inner, inner);
  }
  projection('proj_out', inner, channels);
}

/** attn1, attn2 and GEGLU feed-forward, each on the layer-normed input and added to it. */
function transformerBlock(heads: number, scale: number) {
  return (w: Weights, adapter: BlockAdapter, inputs: Weights): Tensor => {
    const { text, k, v } = inputs; // [B, N, crossDim], or keys and values [B, nH, N, d] made of it
    let x = inputs['x']!; // [B, h*w, inner]
    const norm = (name: string): Tensor => layerNorm(x, w[`${name}.weight`]!, w[`${name}.bias`]!, 1e-5);
    const apply = (name: string, input: Tensor): Tensor => loraLinear(w, adapter, scale, name, input);
    const attend = (attn: string, query: Tensor, context: Tensor): Tensor =>
      multiHeadAttention(apply(`${attn}.to_q`, query), apply(`${attn}.to_k`, context), apply(`${attn}.to_v`, context), heads);
    const normal = norm('norm1');
    x = tf.add(apply('attn1.to_out.0', attend('attn1', normal, normal)), x);
    const query = norm('norm2');
    x = tf.add(apply('attn2.to_out.0', text ? attend('attn2', query, text) : attendHeads(apply('attn2.to_q', query), k!, v!)), x);
    const [value, gate] = tf.split(apply('ff.net.0.proj', norm('norm3')), 2, -1) as [Tensor, Tensor]; // [B, h*w, 4*inner] each
    return tf.add(apply('ff.net.2', tf.mul(value, gelu(gate))), x);
  };
}

const blockPath = (path: string, i: number): string => `${path}.transformer_blocks.${i}`;

/**
 * What a transformer's blocks make of the text, whatever the pixels: keys and values of attn2, [B, nH, N, d], named by block path.
 * @param text [B, N, crossDim]
 */
export function textKeysAndValues({ heads, layers }: TransformerOptions, weights: Weights, adapter: Adapter | null, path: string, text: Tensor): Record<string, Tensor> {
  const made: Record<string, Tensor> = {};
  for (let i = 0; i < layers; i++) {
    const at = `${blockPath(path, i)}.attn2`;
    const pairs = blockAdapter(adapter, at, ['to_k', 'to_v']);
    const own = blockWeights(weights, at, ['to_k.weight', 'to_v.weight']);
    for (const name of ['k', 'v']) made[`${at}.${name}`] = splitHeads(loraLinear(own, pairs, blockScale(adapter, pairs), `to_${name}`, text), heads);
  }
  return made;
}

/**
 * x + proj_out(blocks(proj_in(norm(x)))).
 * @param x [B, h, w, C]
 * @param context text [B, N, crossDim], or all that {@link textKeysAndValues} makes of it
 * @returns [B, h, w, C]
 */
export function transformer2d(
  engine: Engine, options: TransformerOptions, weights: Weights, adapter: Adapter | null, path: string, x: Tensor, context: Weights,
): Tensor {
  const { heads, layers, groups } = options;
  const [B, h, w] = x.shape as [number, number, number, number];
  const projections = ['proj_in.weight', 'proj_in.bias', 'proj_out.weight', 'proj_out.bias', 'norm.weight', 'norm.bias'];
  const own = blockWeights(weights, path, projections);
  const [inAdapter, outAdapter] = [blockAdapter(adapter, path, ['proj_in']), blockAdapter(adapter, path, ['proj_out'])];
  const [inScale, outScale] = [blockScale(adapter, inAdapter), blockScale(adapter, outAdapter)];
  const project = (p: Weights, a: BlockAdapter, scale: number, name: string, input: Tensor): Tensor =>
    (p[`${name}.weight`]!.rank === 4 ? loraConv : loraLinear)(p, a, scale, name, input);
  const enter = engine.trace(`transformer in ${groups} ${inScale}`, (p: Weights, a: BlockAdapter, input: Tensor) => {
    const projected = project(p, a, inScale, 'proj_in', groupNorm(input, p['norm.weight']!, p['norm.bias']!, groups, 1e-6));
    return tf.reshape(projected, [B, h * w, projected.shape[3]!]);
  });
  const leave = engine.trace(`transformer out ${h} ${w} ${outScale}`, (p: Weights, a: BlockAdapter, inputs: Weights) => {
    const image = tf.reshape(inputs['tokens']!, [B, h, w, inputs['tokens']!.shape[2]!]);
    return tf.add(project(p, a, outScale, 'proj_out', image), inputs['residual']!);
  });
  const { 'proj_out.weight': outWeight, 'proj_out.bias': outBias, ...inWeights } = own;
  let tokens = enter(inWeights, inAdapter, x); // [B, h*w, inner]
  for (let i = 0; i < layers; i++) {
    const at = blockPath(path, i);
    const pairs = blockAdapter(adapter, at, blockModules);
    const scale = blockScale(adapter, pairs);
    const block = engine.trace(`transformer block ${heads} ${scale}`, transformerBlock(heads, scale));
    tokens = block(blockWeights(weights, at, blockNames), pairs, { x: tokens, ...(context['text'] ? { text: context['text'] } : blockWeights(context, `${at}.attn2`, ['k', 'v'])) });
  }
  return leave({ 'proj_out.weight': outWeight!, 'proj_out.bias': outBias! }, outAdapter, { tokens, residual: x });
}
