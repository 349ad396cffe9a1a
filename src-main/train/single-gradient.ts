/** One gradient by itself: the proof tool. Picture i has prompt i mod n and seed + i. */
import type { Tensor2D, Tensor4D } from '../engine/tf.ts';
import { disposeAdapter } from '../pipeline/adapter.ts';
import { cropped } from '../rewards/compose.ts';
import { drawCrop, drawIterationSteps, rankStream, type StepPlan } from './draw.ts';
import { algorithmGradient } from './algorithms/index.ts';
import type { RewardGradient } from './drtune.ts';
import { fullTapeGradient } from './full-tape.ts';
import { gradientBatch, picturesAtOnce } from './iteration.ts';
import { adapterParameters } from './parameters.ts';
import { withRankDropout } from './rank-dropout.ts';
import { withTextEncoders } from './text-gradient.ts';
import { startAdapter, type Session } from './session.ts';

export interface SingleGradient extends Omit<RewardGradient, 'gradients'> {
  readonly plan: StepPlan;
  /** By "<diffusers module path>.lora_A.weight" / ".lora_B.weight"; owned by the caller, as is x0. */
  readonly gradients: ReadonlyMap<string, Tensor2D>;
  readonly x0: Tensor4D;
}

/** @param method replay is the trainer's own, full-tape the oracle */
export function singleGradient(session: Session, method: 'replay' | 'full-tape'): SingleGradient {
  const { config, pipeline, rewards, prompts } = session;
  const pictures = Array.from({ length: config.batch }, (_, i) => ({ promptIndex: i % prompts.length, seed: config.seed + i }));
  const plan = drawIterationSteps(config, 0);
  const adapter = startAdapter(session);
  const { embed, ...batch } = gradientBatch(session, pictures, 0);
  try {
    const request = {
      ...batch, pipeline, rewards: cropped(rewards, config.augment.crop, drawCrop(config.seed, 0)), adapter, plan, kl: config.kl, worstCase: config.worstCase, picturesAtOnce: picturesAtOnce(session),
      scheduler: pipeline.scheduler(config.scheduler, config.steps, config.eta),
    };
    const { gradients, ...rest } = withRankDropout(request, config.lora.rankDropout, rankStream(config.seed, 0), (own) => withTextEncoders(own, embed, method === 'replay' ? algorithmGradient : fullTapeGradient));
    return { ...rest, plan, gradients: new Map(adapterParameters(adapter).map(({ name }, k) => [name, gradients[k]!])) };
  } finally {
    disposeAdapter(adapter);
    batch.conditioning.dispose();
    batch.noise.dispose();
  }
}
