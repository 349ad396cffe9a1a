/** What a sampler is to the rest: pure maths over latents, no knowledge of the network. Source: diffusers' scheduler contract. */
import type { Tensor4D } from '../engine/tf.ts';

/** `next = x * current + modelOutput * output`: one step's exact linear coefficients. */
export interface LinearStep {
  readonly current: number;
  readonly output: number;
}

/** What the network's output stands for. */
export type PredictionType = 'epsilon' | 'v_prediction' | 'sample';

/** A sampler set to T steps. Step i runs from 0 (pure noise) to T-1 (the last); "counted from the end" it is T - i. */
export interface Scheduler {
  readonly name: string;
  readonly timesteps: readonly number[];
  /** Latents start as unit noise times this. */
  readonly initNoiseSigma: number;
  readonly predictionType: PredictionType;
  /** The network sees x times this at step i. */
  inputScale(i: number): number;
  /** x [B,h,w,C], model output [B,h,w,C] -> latents after step i [B,h,w,C]. Differentiable by the tape. */
  step(i: number, x: Tensor4D, modelOutput: Tensor4D): Tensor4D;
  /** The one-step prediction of x0 at step i, [B,h,w,C]. Differentiable by the tape. */
  predOriginalSample(i: number, x: Tensor4D, modelOutput: Tensor4D): Tensor4D;
  /** Coefficients of `step` and `predOriginalSample`; null where the sampler is not linear (clip_sample). */
  linearStep(i: number): LinearStep | null;
  linearOriginal(i: number): LinearStep | null;
}
