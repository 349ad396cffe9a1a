/** From noise to pictures. The loop is a generator: its caller decides about progress, previews and stopping. */
import { AppError } from '../base/errors.ts';
import { allSteps, stepping, type Work } from '../base/work.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor4D } from '../engine/tf.ts';
import type { Adapter, LoraSet } from '../nn/lora.ts';
import type { SamplerState, Scheduler } from '../schedulers/scheduler.ts';
import { NoiseStreams } from './noise.ts';
import type { Conditioning, Pipeline, PromptOptions } from './pipeline.ts';

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
  return new NoiseStreams(Array.from({ length: count }, (_, i) => seed + i), [h, w, C]).draw();
}

/**
 * Denoises step by step; `noise` is borrowed. A caller that stops early (break, return) leaves nothing behind.
 * @param options.noise [B, h, w, C] of unit variance; the scheduler scales it
 * @param options.streams noise of the steps that take some
 * @param options.late the steps before `from` are the base model's: without the adapter, with that conditioning
 */
export function* denoise(
  pipeline: Pipeline, options: { adapter: Adapter | null; conditioning: Conditioning; scheduler: Scheduler; noise: Tensor4D; streams: NoiseStreams; late?: { readonly from: number; readonly conditioning: Conditioning } },
): Generator<DenoisedStep, void, void> {
  const { adapter, conditioning, scheduler, noise, streams, late } = options;
  const steps = scheduler.timesteps.length;
  let bound = late ? pipeline.bind(null, late.conditioning) : pipeline.bind(adapter, conditioning);
  let state: SamplerState = { x: scope(() => tf.mul(noise, scheduler.initNoiseSigma)), memory: [] };
  let done = false;
  try {
    for (const [i, timestep] of scheduler.timesteps.entries()) {
      const { x } = state;
      if (i === late?.from) {
        bound.dispose();
        bound = pipeline.bind(adapter, conditioning);
      }
      const next = scope(() => {
        const scale = scheduler.inputScale(i);
        const input: Tensor4D = scale === 1 ? x : tf.mul(x, scale);
        return scheduler.step(i, state, bound.predict(input, timestep), scheduler.takesNoise(i) ? streams.draw() : null);
      });
      tf.dispose([state.x, ...state.memory]);
      state = next;
      done = i === steps - 1;
      yield { step: i, steps, timestep, latents: state.x };
    }
  } finally {
    bound.dispose();
    tf.dispose([...state.memory]);
    if (!done) state.x.dispose();
  }
}

export interface TextToImageOptions extends Omit<PromptOptions, 'negativePrompt' | 'adapters'> {
  readonly prompts: readonly string[];
  /** null or left out: none. */
  readonly negativePrompt?: string | null;
  readonly scheduler: string;
  readonly steps: number;
  /** As openScheduler's; 0 if left out. */
  readonly eta?: number;
  /** Picture i takes seed + i, or seeds[i] where they are given. */
  readonly seed: number;
  readonly seeds?: readonly number[];
  readonly adapter?: Adapter | null;
  /** The first sampling steps, so many, are the base model's alone: what it lays out is kept, and the LoRA paints the rest. 0 if left out. */
  readonly loraFrom?: number;
  /** LoRA of the text encoders. */
  readonly textAdapters?: LoraSet;
  /** [B, h, w, C] of unit variance to start from; borrowed. The seeds' first draws then go to the first step that takes noise. */
  readonly noise?: Tensor4D | undefined;
}

/** Everything owned by the caller. */
export interface TextToImageResult {
  readonly noise: Tensor4D;
  /** [B, h, w, C] */
  readonly latents: Tensor4D;
  /** [B, H, W, 3] in about [-1, 1], not clamped */
  readonly image: Tensor4D;
}

/** Samples one batch of pictures. @throws AppError('config') for sizes or noise that do not fit the model */
export function textToImage(pipeline: Pipeline, options: TextToImageOptions): TextToImageResult {
  return allSteps(sampling(pipeline, options));
}

/** As {@link textToImage}, step by step. Left early, it leaves nothing behind. */
export function* sampling(pipeline: Pipeline, options: TextToImageOptions): Generator<DenoisedStep, TextToImageResult> {
  const { prompts, width, height, adapter = null, loraFrom = 0 } = options;
  const { vaeFactor, latentChannels } = pipeline.info;
  const scheduler = pipeline.scheduler(options.scheduler, options.steps, options.eta);
  if (loraFrom > scheduler.timesteps.length) throw new AppError('config', `The LoRA is to begin at sampling step ${loraFrom}, but there are ${scheduler.timesteps.length}.`, { hint: 'Steps are counted from 0; half of them is a good start.' });
  const encoded = (adapters: LoraSet = {}): Conditioning => pipeline.encodePrompts(prompts, { ...options, negativePrompt: options.negativePrompt ?? null, adapters });
  const conditioning = encoded(options.textAdapters);
  const early = loraFrom > 0 ? encoded() : null;
  try {
    const shape = [prompts.length, height / vaeFactor, width / vaeFactor, latentChannels] as const;
    if (options.noise && options.noise.shape.some((n, i) => n !== shape[i])) {
      throw new AppError('config', `The noise is [${options.noise.shape}] (pictures, height, width, channels), expected [${shape}].`);
    }
    const streams = new NoiseStreams(options.seeds ?? prompts.map((_, i) => options.seed + i), [shape[1], shape[2], shape[3]]);
    const noise = options.noise ? scope(() => tf.clone(options.noise!)) : streams.draw();
    let latents: Tensor4D | undefined;
    let kept = false;
    try {
      for (const step of denoise(pipeline, { adapter, conditioning, scheduler, noise, streams, ...(early && { late: { from: loraFrom, conditioning: early } }) })) {
        if (step.step === step.steps - 1) ({ latents } = step); // ours from here on
        yield step;
      }
      const image = pipeline.decode(latents!);
      kept = true;
      return { noise, latents: latents!, image };
    } finally {
      if (!kept) tf.dispose([noise, ...(latents ? [latents] : [])]);
    }
  } finally {
    early?.dispose();
    conditioning.dispose();
  }
}

/**
 * As {@link textToImage}, telling how far it is, in pictures: `before` others of `total` are done.
 * @throws AppError('cancelled') after the step at which `work` is ended; nothing is left then
 */
export function sampleAt(work: Work, { what, before, total }: { what: string; before: number; total: number }, pipeline: Pipeline, options: TextToImageOptions): Promise<TextToImageResult> {
  const share = ({ step, steps }: DenoisedStep): number => before + (options.prompts.length * (step + 1)) / (steps + 1); // the decoder is as one step
  return stepping(work, what, total, sampling(pipeline, options), share);
}
