/** From noise to pictures. The loop is a generator: its caller decides about progress, previews and stopping. */
import { AppError } from '../base/errors.ts';
import { TorchGenerator } from '../engine/rng.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor4D } from '../engine/tf.ts';
import type { Adapter } from '../nn/lora.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import type { Conditioning, Pipeline } from './pipeline.ts';

/** One step done. */
export interface DenoisedStep {
  /** 0 is the first. */
  readonly step: number;
  readonly steps: number;
  readonly timestep: number;
  /** [B, h, w, C] after the step; borrowed, gone when the next step is asked for, except after the last: then the caller's. */
  readonly latents: Tensor4D;
}

/**
 * Unit noise [count, h, w, C]: picture i has seed + i, its noise one [1, C, h, w] draw of torch's CPU generator.
 * @param seed an integer; 0 is a seed like any other
 */
export function initialNoise(seed: number, count: number, h: number, w: number, C: number): Tensor4D {
  const size = C * h * w;
  const values = new Float32Array(count * size);
  for (let i = 0; i < count; i++) values.set(new TorchGenerator(seed + i).randn(size), i * size);
  return scope(() => tf.transpose(tf.tensor4d(values, [count, C, h, w]), [0, 2, 3, 1]));
}

/**
 * Denoises step by step; `noise` is borrowed. A caller that stops early (break, return) leaves nothing behind.
 * @param options.noise [B, h, w, C] of unit variance; the scheduler scales it
 */
export function* denoise(
  pipeline: Pipeline, options: { adapter: Adapter | null; conditioning: Conditioning; scheduler: Scheduler; noise: Tensor4D },
): Generator<DenoisedStep, void, void> {
  const { adapter, conditioning, scheduler, noise } = options;
  const steps = scheduler.timesteps.length;
  let latents: Tensor4D = scope(() => tf.mul(noise, scheduler.initNoiseSigma));
  let done = false;
  try {
    for (const [i, timestep] of scheduler.timesteps.entries()) {
      const next = scope(() => {
        const scale = scheduler.inputScale(i);
        const input: Tensor4D = scale === 1 ? latents : tf.mul(latents, scale);
        const output = pipeline.guide(pipeline.predictBranches(adapter, input, timestep, conditioning), conditioning);
        return scheduler.step(i, latents, output);
      });
      latents.dispose();
      latents = next;
      done = i === steps - 1;
      yield { step: i, steps, timestep, latents };
    }
  } finally {
    if (!done) latents.dispose();
  }
}

export interface TextToImageOptions {
  readonly prompts: readonly string[];
  readonly negativePrompt?: string;
  readonly guidance: number;
  readonly width: number;
  readonly height: number;
  readonly scheduler: string;
  readonly steps: number;
  /** Picture i takes seed + i. */
  readonly seed: number;
  readonly adapter?: Adapter | null;
  /** [B, h, w, C] of unit variance instead of the seed's; borrowed. */
  readonly noise?: Tensor4D | undefined;
  /** After each step; false stops. */
  readonly onStep?: (step: DenoisedStep) => boolean | void;
}

/** Everything owned by the caller; null when stopped by onStep. */
export interface TextToImageResult {
  readonly noise: Tensor4D;
  /** [B, h, w, C] */
  readonly latents: Tensor4D;
  /** [B, H, W, 3] in about [-1, 1], not clamped */
  readonly image: Tensor4D;
}

/** Samples one batch of pictures. @throws AppError('config') for sizes or noise that do not fit the model */
export function textToImage(pipeline: Pipeline, options: TextToImageOptions): TextToImageResult | null {
  const { prompts, guidance, width, height, adapter = null } = options;
  const { vaeFactor, latentChannels } = pipeline.info;
  const scheduler = pipeline.scheduler(options.scheduler, options.steps);
  const conditioning = pipeline.encodePrompts(prompts, { negativePrompt: options.negativePrompt ?? '', guidance, width, height });
  try {
    const shape = [prompts.length, height / vaeFactor, width / vaeFactor, latentChannels] as const;
    if (options.noise && options.noise.shape.some((n, i) => n !== shape[i])) {
      throw new AppError('config', `The noise is [${options.noise.shape}] (pictures, height, width, channels), expected [${shape}].`);
    }
    const noise = options.noise ? scope(() => tf.clone(options.noise!)) : initialNoise(options.seed, shape[0], shape[1], shape[2], shape[3]);
    let kept = false;
    try {
      for (const step of denoise(pipeline, { adapter, conditioning, scheduler, noise })) {
        const stop = options.onStep?.(step) === false;
        if (step.step === step.steps - 1) {
          try {
            const image = stop ? null : pipeline.decode(step.latents);
            if (!image) return null;
            kept = true;
            return { noise, latents: step.latents, image };
          } finally {
            if (!kept) step.latents.dispose();
          }
        }
        if (stop) return null;
      }
      return null;
    } finally {
      if (!kept) noise.dispose();
    }
  } finally {
    conditioning.dispose();
  }
}
