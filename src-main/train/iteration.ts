/** One iteration: draw, gradient (accumulated), clip, optimiser, average. */
import { assert } from '../base/errors.ts';
import { readAllFloatsSync, tensorCount } from '../engine/scope.ts';
import { tf, type Tensor2D } from '../engine/tf.ts';
import type { LoraSet } from '../nn/lora.ts';
import { clipGradNorm } from './gradient-norm.ts';
import type { Optimizer } from './optimizers/optimizer.ts';
import type { TrainerState } from './checkpoint.ts';
import { cropped, termMeans } from '../rewards/compose.ts';
import { drawConditions, drawCrop, drawGroups, drawIterationSteps, drawPictures, rankStream, type Draw } from './draw.ts';
import { algorithmGradient } from './algorithms/index.ts';
import type { GradientRequest, RewardGradient } from './drtune.ts';
import { updateAverage } from './ema.ts';
import { lrFactor } from './lr-schedule.ts';
import { promptOptions, sentence } from './prompts.ts';
import { NoiseStreams } from '../pipeline/noise.ts';
import { withRankDropout } from './rank-dropout.ts';
import type { Session } from './session.ts';
import { withTextEncoders } from './text-gradient.ts';
import type { TrainableLora } from './trainable-lora.ts';

export interface IterationResult {
  /** Means over the iteration's pictures. */
  readonly reward: number;
  readonly terms: Record<string, number>;
  readonly kl: number;
  /** Before clipping. */
  readonly gradNorm: number;
  readonly lr: number;
  /** True where reward or gradient was not finite: nothing was changed. */
  readonly skipped: boolean;
}

export interface GradientBatch extends Pick<GradientRequest, 'prompts' | 'conditioning' | 'noise' | 'streams'> {
  /** As {@link withTextEncoders} wants it. */
  readonly embed: (adapters: LoraSet) => Record<string, Tensor2D>;
}

/** Everything one gradient needs but its steps: prompts as rewards read them, noise, conditioning. The caller frees conditioning and noise. */
export function gradientBatch(session: Session, pictures: readonly Draw[], iteration: number, accumulation = 0): GradientBatch {
  const { pipeline } = session;
  const { width, height, guidance } = drawConditions(session.config, session, iteration, accumulation);
  const config = { ...session.config, guidance };
  const prompts = pictures.map((each) => session.prompts[each.promptIndex]!);
  const options = promptOptions(config, width, height);
  const conditioning = pipeline.encodePrompts(prompts, options);
  const { vaeFactor, latentChannels } = pipeline.info;
  const streams = new NoiseStreams(pictures.map((each) => each.seed), [height / vaeFactor, width / vaeFactor, latentChannels]);
  return { prompts: prompts.map((prompt) => sentence(config, prompt)), conditioning, noise: streams.draw(), streams, embed: (adapters) => pipeline.embedPrompts(prompts, { ...options, adapters }) };
}

/** Pictures that go through VAE and reward at once. */
export function picturesAtOnce({ plan }: Session): number {
  return plan.picturesAtOnce;
}

/** Does iteration `state.step` (0 is the first) and counts it. No tensor is left over. */
export function iterate(session: Session, lora: TrainableLora, optimizer: Optimizer, state: TrainerState): IterationResult {
  const { config } = session;
  const before = tensorCount();
  const lr = config.optimizer.lr * lrFactor(config.lrSchedule, state.step, config.iterations);
  const { gradients, ...scores } = accumulatedGradient(session, lora, state.step);
  const gradNorm = clipGradNorm(gradients, config.optimizer.clipNorm);
  const skipped = !Number.isFinite(gradNorm) || !Number.isFinite(scores.reward);
  if (!skipped) {
    for (const g of gradients) for (let i = 0; i < g.length; i++) g[i] = -g[i]!; // optimisers descend, the reward is to rise
    optimizer.step(lora.values, gradients, state.optimizer, lr);
    lora.upload();
    if (state.average) updateAverage(state.average, lora.values, config.ema, state.averageUpdates++);
  }
  state.skippedInARow = skipped ? state.skippedInARow + 1 : 0;
  state.skipped += Number(skipped);
  state.step += 1;
  assert(tensorCount() === before, () => `iteration ${state.step} left ${tensorCount() - before} tensors behind`);
  return { ...scores, gradNorm, lr, skipped };
}

interface Accumulated {
  gradients: Float32Array[];
  reward: number;
  terms: Record<string, number>;
  kl: number;
}

/** Mean gradient over the accumulation steps, as numbers. */
function accumulatedGradient(session: Session, lora: TrainableLora, iteration: number): Accumulated {
  const { batch, accumulate, seed } = session.config;
  const count = session.prompts.length;
  const pictures = session.config.algorithm === 'nft' ? drawGroups(seed, iteration, batch, accumulate, count) : drawPictures(seed, iteration, batch * accumulate, count);
  const sum: Accumulated = { gradients: lora.values.map((each) => new Float32Array(each.length)), reward: 0, terms: {}, kl: 0 };
  const terms: Record<string, number>[] = [];
  for (let n = 0; n < accumulate; n++) {
    const one = oneGradient(session, lora, pictures.slice(n * batch, (n + 1) * batch), iteration, n);
    readAllFloatsSync(one.gradients).forEach((values, k) => {
      const into = sum.gradients[k]!;
      for (let i = 0; i < into.length; i++) into[i] = into[i]! + values[i]! / accumulate;
    });
    tf.dispose([one.gradients, one.x0]);
    sum.reward += one.reward / accumulate;
    sum.kl += one.kl / accumulate;
    terms.push(one.terms);
  }
  return { ...sum, terms: termMeans(terms) };
}

function oneGradient(session: Session, lora: TrainableLora, pictures: readonly Draw[], iteration: number, accumulation: number): RewardGradient {
  const { config, pipeline, rewards } = session;
  const { embed, ...batch } = gradientBatch(session, pictures, iteration, accumulation);
  try {
    const request: GradientRequest = {
      ...batch, pipeline, rewards: cropped(rewards, config.augment.crop, drawCrop(config.seed, iteration, accumulation)), adapter: lora.adapter, kl: config.kl, worstCase: config.worstCase, picturesAtOnce: picturesAtOnce(session),
      scheduler: pipeline.scheduler(config.scheduler, config.steps, config.eta), plan: drawIterationSteps(config, iteration, accumulation),
    };
    return withRankDropout(request, config.lora.rankDropout, rankStream(config.seed, iteration, accumulation), (own) => withTextEncoders(own, embed, algorithmGradient));
  } finally {
    batch.conditioning.dispose();
    batch.noise.dispose();
  }
}
