/**
 * Operations that an engine does by one kernel of its own. Elsewhere, and where a kernel answers null, they are composed of tfjs's
 * (ops.ts), which is also their definition.
 */
import type { Tensor } from './tf.ts';

export interface FusedKernels {
  groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, groups: number, eps: number): Tensor | null;
  groupNormGradient(dy: Tensor, x: Tensor, gamma: Tensor, groups: number, eps: number): Tensor | null;
  layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, eps: number): Tensor | null;
  layerNormGradient(dy: Tensor, x: Tensor, gamma: Tensor, eps: number): Tensor | null;
  gelu(x: Tensor): Tensor | null;
  geluGradient(dy: Tensor, x: Tensor): Tensor | null;
  /** x sigmoid(a x) */
  sigmoidUnit(x: Tensor, a: number): Tensor | null;
  sigmoidUnitGradient(dy: Tensor, x: Tensor, a: number): Tensor | null;
  /** x W^T + bias of [N, in] and [out, in] */
  linear(x: Tensor, weight: Tensor, bias: Tensor): Tensor | null;
}

let kernels: Partial<FusedKernels> = {};

/** Called by the engine that has them. */
export function useFused(own: Partial<FusedKernels>): void {
  kernels = own;
}

/** The engine's own kernels. */
export function fused(): Partial<FusedKernels> {
  return kernels;
}
