/** LoRA with PEFT semantics: y = W x + (alpha / rank) B A x. Source: Hu et al., arXiv 2106.09685; peft's LoraLayer. */
import type { Tensor2D } from '../engine/tf.ts';

/** One module's pair, in torch's orientation. */
export interface LoraPair {
  /** [rank, in] */
  readonly a: Tensor2D;
  /** [out, rank] */
  readonly b: Tensor2D;
}

/** Pairs by diffusers module path, e.g. "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q". */
export interface Adapter {
  /** alpha / rank; part of every trace key. */
  readonly scale: number;
  readonly modules: { readonly [path: string]: LoraPair | undefined };
}

/** A linear module that can be adapted. */
export interface LoraTarget {
  readonly path: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
}
