/** AdamW over lists of parameters, on plain numbers: the same bits on every engine, and a state that is easily stored. */
import { assert } from '../base/errors.ts';

export interface AdamWOptions {
  readonly weightDecay: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
}

export interface AdamWState {
  /** Updates made so far. */
  step: number;
  /** Running mean of the gradients, one array a parameter. */
  readonly mean: Float32Array[];
  /** Running mean of their squares. */
  readonly square: Float32Array[];
}

/** A fresh state for parameters of these sizes. */
export function newState(parameters: readonly Float32Array[]): AdamWState {
  const zeros = (): Float32Array[] => parameters.map((each) => new Float32Array(each.length));
  return { step: 0, mean: zeros(), square: zeros() };
}

/**
 * One update, in place, going down `gradients` (pass the negated gradient to ascend):
 * p -= lr wd p;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p -= lr / (1-b1^n) * m / (sqrt(v) / sqrt(1-b2^n) + eps).
 * @param lr 1/step
 * Source: Loshchilov and Hutter, arXiv 1711.05101; torch.optim.AdamW (single tensor path).
 */
export function adamWStep(parameters: readonly Float32Array[], gradients: readonly Float32Array[], state: AdamWState, lr: number, options: AdamWOptions): void {
  assert(parameters.length === gradients.length && parameters.length === state.mean.length, () =>
    `adamWStep: ${parameters.length} parameters, ${gradients.length} gradients, ${state.mean.length} states`);
  const [beta1, beta2] = options.betas;
  state.step += 1;
  const stepSize = lr / (1 - beta1 ** state.step);
  const rootCorrection = Math.sqrt(1 - beta2 ** state.step);
  const decay = 1 - lr * options.weightDecay;
  parameters.forEach((p, k) => {
    const g = gradients[k]!;
    const m = state.mean[k]!;
    const v = state.square[k]!;
    assert(p.length === g.length, () => `adamWStep: parameter ${k} has ${p.length} values, its gradient ${g.length}`);
    for (let i = 0; i < p.length; i++) {
      const gi = g[i]!;
      const mi = (m[i] = beta1 * m[i]! + (1 - beta1) * gi);
      const vi = (v[i] = beta2 * v[i]! + (1 - beta2) * gi * gi);
      p[i] = p[i]! * decay - (stepSize * mi) / (Math.sqrt(vi) / rootCorrection + options.eps);
    }
  });
}

/** Euclidean norm of all values together; NaN or infinite where any value is. */
export function globalNorm(gradients: readonly Float32Array[]): number {
  let sum = 0;
  for (const g of gradients) for (let i = 0; i < g.length; i++) sum += g[i]! * g[i]!;
  return Math.sqrt(sum);
}

/**
 * Scales all gradients in place by min(1, maxNorm / (norm + 1e-6)); `maxNorm` 0 leaves them.
 * @returns the norm before clipping
 * Source: torch.nn.utils.clip_grad_norm_.
 */
export function clipGradNorm(gradients: readonly Float32Array[], maxNorm: number): number {
  const norm = globalNorm(gradients);
  const factor = Math.min(1, maxNorm / (norm + 1e-6));
  if (maxNorm > 0 && factor < 1) for (const g of gradients) for (let i = 0; i < g.length; i++) g[i] = g[i]! * factor;
  return norm;
}
