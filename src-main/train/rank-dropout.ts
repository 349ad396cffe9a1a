/** Dropout over the ranks of a LoRA: one mask a module and pass. Source: kohya-ss/sd-scripts networks/lora.py, rank_dropout, its mask shared by the batch. */
import { scope } from '../engine/scope.ts';
import { tf, type Tensor2D } from '../engine/tf.ts';
import type { Adapter } from '../nn/lora.ts';
import type { GradientRequest, RewardGradient } from './drtune.ts';
import { adapterParameters, withParameters } from './parameters.ts';

/** By module in the order of their paths: 1 / (1 - rate) for a rank that stays, else 0. One rank stays at least. */
export function rankMasks(adapter: Adapter, rate: number, next: () => number): Float32Array[] {
  return Object.keys(adapter.modules).sort().map((path) => {
    const rank = adapter.modules[path]!.matrices['lora_A.weight']!.shape[0];
    const draws = Array.from({ length: rank }, next);
    const largest = draws.indexOf(Math.max(...draws));
    return Float32Array.from(draws, (u, i) => (u >= rate || i === largest ? 1 / (1 - rate) : 0));
  });
}

/** The gradient with ranks left out: B (mask A), so d / d A = mask d / d (mask A). */
export function withRankDropout(request: GradientRequest, rate: number, next: () => number, gradient: (request: GradientRequest) => RewardGradient): RewardGradient {
  if (rate === 0) return gradient(request);
  return scope(() => {
    const masks = rankMasks(request.adapter, rate, next).map((mask) => tf.tensor2d(mask, [mask.length, 1]));
    /** A before B, module by module (the config allows this for LoRA alone); text encoders come after and keep their ranks. */
    const masked = (tensors: readonly Tensor2D[]): Tensor2D[] => tensors.map((tensor, k) => (k % 2 === 0 && masks[k / 2] ? tf.mul<Tensor2D>(tensor, masks[k / 2]!) : tensor));
    const adapter = withParameters(request.adapter, masked(adapterParameters(request.adapter).map((each) => each.tensor)));
    const result = gradient({ ...request, adapter });
    return { ...result, gradients: masked(result.gradients) };
  });
}
