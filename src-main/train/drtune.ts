/**
 * The DRTune gradient, by exact replay.
 *
 * DRTune detaches the network's input, so the only way from eps_t to the picture is the sampler itself: for a linear sampler
 * d x0 / d eps_t is a scalar w_t, and
 *   grad = sum over trained t of  J[eps_t]^T (w_t g),   g = d reward / d x0.
 * Peak memory is that of one network step, whatever T and K are. Source: DRTune, arXiv 2405.00760, algorithm 1.
 */
import { assert } from '../base/errors.ts';
import { readFloatsSync, scope } from '../engine/scope.ts';
import { tf, type Scalar, type Tensor, type Tensor2D, type Tensor4D } from '../engine/tf.ts';
import type { Adapter } from '../nn/lora.ts';
import { toUnitRange } from '../pipeline/images.ts';
import type { NoiseStreams } from '../pipeline/noise.ts';
import type { Conditioning, Pipeline } from '../pipeline/pipeline.ts';
import { scoresOfPictures, termMeans, type RewardSum } from '../rewards/compose.ts';
import type { LinearStep, SamplerState, Scheduler } from '../schedulers/scheduler.ts';
import type { StepPlan } from './draw.ts';
import { adapterParameters, withParameters } from './parameters.ts';

export interface GradientRequest {
  readonly pipeline: Pipeline;
  readonly scheduler: Scheduler;
  readonly rewards: RewardSum;
  readonly adapter: Adapter;
  readonly conditioning: Conditioning;
  readonly prompts: readonly string[];
  /** [B,h,w,C], unit variance */
  readonly noise: Tensor4D;
  /** Where steps that take noise draw it from; used up by one gradient. */
  readonly streams: NoiseStreams;
  readonly plan: StepPlan;
  /** Weight of the mean squared distance to the base model's noise prediction; 0 = none. */
  readonly kl: number;
  /** Pictures that go through VAE and reward at once. */
  readonly picturesAtOnce: number;
  /** Length of the push towards worse pictures before the reward's gradient is taken; none if left out. */
  readonly worstCase?: number;
}

export interface RewardGradient {
  /** d (reward - kl * KL) / d parameter, in the order of adapterParameters; the direction of ascent. Owned by the caller. */
  readonly gradients: Tensor2D[];
  /** [B,h,w,C] the final latents, owned by the caller. */
  readonly x0: Tensor4D;
  /** Mean over the batch of the weighted sum. */
  readonly reward: number;
  /** Mean of each term's own value over the pictures of the batch it counts for; without those that count for none. */
  readonly terms: Record<string, number>;
  /** Mean over trained steps of the mean squared distance to the base's prediction; 0 where kl is 0. */
  readonly kl: number;
}

/** Sampler step with index i (0 is pure noise), for a step counted from the end (1 is the last). */
export const stepIndex = (scheduler: Scheduler, fromEnd: number): number => scheduler.timesteps.length - fromEnd;

/** Index of the last step that runs. */
export const lastIndex = (scheduler: Scheduler, plan: StepPlan): number => stepIndex(scheduler, Math.max(1, plan.stop));

/** What step i makes of state and output: the next state, or the picture's latents where sampling stops early. */
export function advance(scheduler: Scheduler, plan: StepPlan, i: number, state: SamplerState, output: Tensor4D, noise: Tensor4D | null): SamplerState {
  if (stopsAt(scheduler, plan, i)) return { x: scheduler.predOriginalSample(i, state.x, output), memory: [] };
  return scheduler.step(i, state, output, noise);
}

const stopsAt = (scheduler: Scheduler, plan: StepPlan, i: number): boolean => plan.stop > 0 && i === lastIndex(scheduler, plan);

/** Noise for step i, owned by the caller; null where none is taken. */
export function stepNoise({ scheduler, plan, streams }: GradientRequest, i: number): Tensor4D | null {
  return scheduler.takesNoise(i) && !stopsAt(scheduler, plan, i) ? streams.draw() : null;
}

/** Decoded latents as rewards see them: decode / 2 + 0.5, clamped. [B,h,w,C] -> [B,H,W,3] in [0,1] */
export function picturesOf(pipeline: Pipeline, latents: Tensor4D): Tensor4D {
  return scope(() => toUnitRange(pipeline.decode(latents)));
}

/**
 * The DRTune gradient of one batch.
 * @throws Error if the plan trains nothing or names a step that does not run
 */
export function replayGradient(request: GradientRequest): RewardGradient {
  const { scheduler, plan } = request;
  const end = lastIndex(scheduler, plan);
  const trained = plan.trained.map((t) => stepIndex(scheduler, t));
  assert(trained.length > 0 && trained.every((i) => i >= 0 && i <= end), () => `replayGradient: trained steps ${trained} outside 0..${end}`);
  return scope(() => {
    const path = rollOut(request, trained, end);
    const { gradient, ...scores } = pictureGradient(request, path.x0);
    const cotangents = pullBack(request, path, gradient, trained, end);
    const sum = new GradientSum();
    for (const i of trained) sum.add(networkGradient(request, path.inputs.get(i)!, i, cotangents.get(i)!, trained.length));
    return { gradients: sum.gradients, x0: path.x0, kl: sum.kl, ...scores };
  });
}

/** Adds up gradients of several network steps; inside a scope. */
export class GradientSum {
  gradients: Tensor2D[] = [];
  kl = 0;

  /** Takes over the gradients; `kl` counts by its share. */
  add(own: { readonly gradients: Tensor2D[]; readonly kl: number }): void {
    this.kl += own.kl;
    const before = this.gradients;
    if (before.length === 0) {
      this.gradients = own.gradients;
      return;
    }
    this.gradients = own.gradients.map((g, k) => tf.add(g, before[k]!));
    tf.dispose([before, own.gradients]);
  }
}

export interface Path {
  readonly x0: Tensor4D;
  /** What the network saw at trained steps, by index. */
  readonly inputs: Map<number, Tensor4D>;
  /** What every step went on from, kept only for a sampler that is not linear. */
  readonly states: (SamplerState & { output: Tensor4D; noise: Tensor4D | null })[] | null;
}

/** (1) Samples without a tape; keeps only the trained steps' latents. */
export function rollOut(request: GradientRequest, trained: readonly number[], end: number): Path {
  const { pipeline, scheduler, adapter, conditioning, plan } = request;
  const linear = Array.from({ length: end + 1 }, (_, i) => scheduler.linearStep(i)).every((each) => each !== null);
  const bound = pipeline.bind(adapter, conditioning);
  const inputs = new Map<number, Tensor4D>();
  const states: NonNullable<Path['states']> = [];
  let state: SamplerState = { x: tf.mul<Tensor4D>(request.noise, scheduler.initNoiseSigma), memory: [] };
  for (let i = 0; i <= end; i++) {
    const { input, output, noise, next } = scope(() => {
      const seen = tf.mul<Tensor4D>(state.x, scheduler.inputScale(i));
      const out = bound.predict(seen, scheduler.timesteps[i]!);
      const z = stepNoise(request, i);
      return { input: seen, output: out, noise: z, next: advance(scheduler, plan, i, state, out, z) };
    });
    if (trained.includes(i)) inputs.set(i, input);
    else input.dispose();
    if (linear) tf.dispose([state.x, ...state.memory, output, ...(noise ? [noise] : [])]);
    else states.push({ ...state, output, noise });
    state = next;
  }
  tf.dispose([...state.memory]);
  bound.dispose();
  return { x0: state.x, inputs, states: linear ? null : states };
}

export type PictureGradient = { gradient: Tensor4D } & Pick<RewardGradient, 'reward' | 'terms'>;

/** (2) g = d reward / d x0 through VAE decoder and rewards, `picturesAtOnce` at a time. */
export function pictureGradient({ pipeline, rewards, prompts, picturesAtOnce, worstCase = 0 }: GradientRequest, x0: Tensor4D): PictureGradient {
  const [B, h, w, C] = x0.shape;
  const terms: Record<string, number>[] = [];
  let reward = 0;
  const parts: Tensor4D[] = [];
  for (let from = 0; from < B; from += picturesAtOnce) {
    const count = Math.min(picturesAtOnce, B - from);
    const part = scope(() => {
      const latents = tf.slice(x0, [from, 0, 0, 0], [count, h, w, C]);
      const own = prompts.slice(from, from + count);
      const sum = (pictures: Tensor4D, note: boolean): Scalar => {
        const scores = rewards.score(pictures, own);
        if (note) terms.push(...scoresOfPictures(scores).map((each) => each.terms));
        const mean = tf.div<Scalar>(tf.sum(scores.total), B);
        if (note) reward += readFloatsSync(mean)[0]!;
        return mean;
      };
      const push = worstCase > 0 ? worstPush((pictures) => sum(pictures, true), picturesOf(pipeline, latents), worstCase) : null;
      const mean = (x: Tensor4D): Scalar => {
        const pictures = picturesOf(pipeline, x);
        return push ? sum(tf.add(pictures, push), false) : sum(pictures, true);
      };
      return tf.grad(mean as (x: Tensor) => Scalar)(latents) as Tensor4D;
    });
    parts.push(part);
  }
  return { gradient: parts.length === 1 ? parts[0]! : tf.concat(parts, 0), reward, terms: termMeans(terms) };
}

/**
 * Where a ball of this radius around each picture is worst: - radius g / |g|, g the reward's gradient there and |g| its
 * Euclidean norm over one picture. Source: RSA-FT (reward sharpness-aware fine-tuning), after SAM, arXiv 2010.01412.
 * @param pictures [B,H,W,3]
 * @returns [B,H,W,3]
 */
export function worstPush(reward: (pictures: Tensor4D) => Scalar, pictures: Tensor4D, radius: number): Tensor4D {
  return scope(() => {
    const g = tf.grad(reward as (x: Tensor) => Scalar)(pictures) as Tensor4D;
    const norm = tf.sqrt(tf.sum(tf.square(g), [1, 2, 3], true));
    return tf.mul<Tensor4D>(tf.div(g, tf.add(norm, 1e-12)), -radius);
  });
}

/** (3a) d reward / d output of each trained step: w_t g, or g pulled back through the sampler's steps. */
function pullBack(request: GradientRequest, path: Path, gradient: Tensor4D, trained: readonly number[], end: number): Map<number, Tensor4D> {
  const { scheduler, plan } = request;
  const cotangents = new Map<number, Tensor4D>();
  if (!path.states) {
    const weights = outputWeights(scheduler, plan);
    for (const i of trained) cotangents.set(i, tf.mul<Tensor4D>(gradient, weights[i]!));
    return cotangents;
  }
  let cotangent: SamplerState = { x: gradient, memory: [] };
  for (let i = end; i >= Math.min(...trained); i--) {
    const { output, ...state } = pullThrough(request, path.states[i]!, i, cotangent);
    if (trained.includes(i)) cotangents.set(i, output);
    cotangent = state;
  }
  return cotangents;
}

/** d / d (what step i went on from, network's output) by the tape of the sampler's own step, from d / d what it led to. */
export function pullThrough({ scheduler, plan }: GradientRequest, from: NonNullable<Path['states']>[number], i: number, cotangent: SamplerState): SamplerState & { output: Tensor4D } {
  const { x, memory, output, noise } = from;
  const along = (...inputs: Tensor[]): Scalar => {
    const [a, b, ...rest] = inputs as Tensor4D[];
    const next = advance(scheduler, plan, i, { x: a!, memory: rest }, b!, noise);
    // A step that does not look at something has the derivative 0 in it, not none.
    const parts = [...[a!, ...rest].map((each) => tf.mul(tf.sum(each), 0)), tf.sum(tf.mul(next.x, cotangent.x)), ...cotangent.memory.map((each, k) => tf.sum(tf.mul(next.memory[k]!, each)))];
    return tf.addN(parts) as Scalar;
  };
  const [toX, toOutput, ...toMemory] = tf.grads(along)([x, output, ...memory]) as Tensor4D[];
  return { x: toX!, output: toOutput!, memory: toMemory };
}

/**
 * w_t = d x0 / d output_t of each executed step of a linear sampler: the step's own coefficient times the coefficients by
 * which later steps carry latents on, plus what later steps take of the prediction it leaves in the memory.
 */
export function outputWeights(scheduler: Scheduler, plan: StepPlan): number[] {
  const end = lastIndex(scheduler, plan);
  const weights = new Array<number>(end + 1);
  const remembered = new Array<number>(end + 1).fill(0); // d x0 / d what step i left in the memory
  let carried = 1; // d x0 / d latents after step i
  for (let i = end; i >= 0; i--) {
    const step = linearAdvance(scheduler, plan, i);
    const memory = scheduler.linearMemory(i) ?? { current: 0, output: 0 };
    weights[i] = carried * step.output + remembered[i]! * memory.output;
    step.memory.forEach((weight, k) => (remembered[i - 1 - k]! += carried * weight));
    carried = carried * step.current + remembered[i]! * memory.current;
  }
  return weights;
}

/** Coefficients of `advance`. */
export function linearAdvance(scheduler: Scheduler, plan: StepPlan, i: number): LinearStep {
  const original = stopsAt(scheduler, plan, i) ? scheduler.linearOriginal(i) : null;
  const coefficients = original ? { ...original, memory: [], noise: 0 } : scheduler.linearStep(i);
  assert(coefficients, () => `outputWeights: step ${i} of ${scheduler.name} is not linear`);
  return coefficients;
}

export interface NetworkGradient {
  /** d / d parameters */
  readonly gradients: Tensor2D[];
  /** d / d what the network saw, [B,h,w,C]; only where asked for. */
  readonly toInput: Tensor4D | null;
  /** This step's share of the distance to the base. */
  readonly kl: number;
}

/**
 * (3b) One VJP of the network: d [<output, cotangent> - kl / K * mean (branches - base branches)^2] / d (parameters, input).
 * The base's prediction is a constant.
 * @param K among how many steps the distance is averaged
 * @param attached whether d / d input is wanted
 */
export function networkGradient(request: GradientRequest, input: Tensor4D, i: number, cotangent: Tensor4D, K: number, attached = false): NetworkGradient {
  const { pipeline, scheduler, adapter, conditioning } = request;
  const timestep = scheduler.timesteps[i]!;
  let kl = 0;
  const found = scope(() => {
    const base = request.kl > 0 ? pipeline.predictBranches(null, input, timestep, conditioning) : undefined;
    const parameters = adapterParameters(adapter).map((each) => each.tensor);
    const objective = (...tensors: Tensor[]): Scalar => {
      const tuned = withParameters(adapter, tensors.slice(0, parameters.length) as Tensor2D[]);
      const branches = pipeline.predictBranches(tuned, attached ? (tensors.at(-1) as Tensor4D) : input, timestep, conditioning);
      const along = tf.sum(tf.mul(pipeline.guide(branches, conditioning), cotangent)) as Scalar;
      if (!base) return along;
      const distance = tf.mean(tf.square(tf.sub(branches, base))) as Scalar;
      kl = readFloatsSync(distance)[0]! / K;
      return tf.sub(along, tf.mul(distance, request.kl / K));
    };
    return tf.grads(objective)(attached ? [...parameters, input] : parameters);
  });
  const toInput = attached ? (found.pop() as Tensor4D) : null;
  return { gradients: found as Tensor2D[], toInput, kl };
}
