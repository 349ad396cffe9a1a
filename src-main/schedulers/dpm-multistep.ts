/**
 * DPM-Solver++ (multistep) and its relatives: each step goes on from the predictions of up to two steps before it.
 * Source: arXiv 2211.01095 algorithm 2, arXiv 2206.00927; diffusers 0.42.1 schedulers/scheduling_dpmsolver_multistep.py.
 */
import { roundHalfEven } from '../base/round.ts';
import { AppError } from '../base/errors.ts';
import { tf, type Tensor4D } from '../engine/tf.ts';
import { scope } from '../engine/scope.ts';
import { checkSteps, cumulativeAlphas, linspace, trainingBetas } from './noise-schedule.ts';
import { applyMap, predictionMaps, predictOriginal, readPredictionType, thresholdLimit } from './prediction.ts';
import type { LinearMap, LinearStep, Scheduler } from './scheduler.ts';
import type { SchedulerSettings } from './settings.ts';
import { checkStart, interpolate, logFloat, sigmaSpacing, spacedSigmas, spread, timestepOf, trainingSigmas } from './sigmas.ts';

const f = Math.fround;

const algorithms = ['dpmsolver++', 'sde-dpmsolver++', 'dpmsolver', 'sde-dpmsolver'] as const;
type Algorithm = (typeof algorithms)[number];

/** One step in terms of converted outputs: `next = x * current + sum predictions[k] * m[k] + noise * z`, m[0] this step's own. */
interface Update {
  readonly current: number;
  readonly predictions: readonly number[];
  readonly noise: number;
}

/** @throws AppError for settings or a number of steps that cannot be */
export function dpmMultistepScheduler(settings: SchedulerSettings, steps: number): Scheduler {
  const predictionType = readPredictionType(settings);
  const { algorithm, order, heun } = readSolver(settings);
  const training = settings.number('num_train_timesteps', 1000);
  checkSteps(steps, training);
  const { sigmas, timesteps } = inferenceSigmas(settings, training, steps);
  checkStart(timesteps);
  const T = timesteps.length;
  const limit = thresholdLimit(settings);
  const orders = stepOrders(settings, order, T);
  const levels = sigmas.map((sigma) => ({ alpha: 1 / Math.sqrt(sigma ** 2 + 1), sigma: sigma / Math.sqrt(sigma ** 2 + 1), lambda: -Math.log(sigma) }));
  const maps = timesteps.map((_, i) => predictionMaps(predictionType, levels[i]!.alpha, levels[i]!.sigma));
  const converted = algorithm.endsWith('++') ? 'original' : 'noise';
  const updates = timesteps.map((_, i) => update(algorithm, heun, levels.slice(Math.max(0, i - orders[i]! + 1), i + 2).reverse()));
  const finite = updates.every(({ current, predictions, noise }) => [current, noise, ...predictions].every(Number.isFinite));
  if (!finite) {
    throw new AppError('config', `With ${T} steps two of the sampler's noise levels are the same, and its solver divides by their distance.`, {
      hint: 'Use fewer steps, or "final_sigmas_type": "zero" in the model\'s scheduler settings.',
    });
  }

  const original = (i: number, x: Tensor4D, output: Tensor4D): Tensor4D => {
    const plain = predictOriginal(predictionType, { a: levels[i]!.alpha, b: levels[i]!.sigma }, x, output);
    return limit ? limit(plain) : plain;
  };
  const convert = (i: number, x: Tensor4D, output: Tensor4D): Tensor4D => {
    if (converted === 'original') return original(i, x, output);
    if (!limit) return applyMap(maps[i]!.noise, x, output);
    const { alpha, sigma } = levels[i]!;
    return tf.div(tf.sub(x, tf.mul(original(i, x, output), alpha)), sigma);
  };
  return {
    name: 'dpmpp2m', timesteps, predictionType, initNoiseSigma: 1,
    inputScale: () => 1,
    level: (i) => ({ signal: levels[i]!.alpha, noise: levels[i]!.sigma }),
    takesNoise: () => algorithm.startsWith('sde'),
    step: (i, { x, memory }, output, z) => scope(() => {
      const { current, predictions, noise } = updates[i]!;
      const all = [convert(i, x, output), ...memory];
      let next = tf.mul<Tensor4D>(x, current);
      predictions.forEach((weight, k) => (next = tf.add(next, tf.mul(all[k]!, weight))));
      if (z) next = tf.add(next, tf.mul(z, noise));
      return { x: next, memory: all.slice(0, order - 1).map((each, k) => (k === 0 ? each : tf.clone(each))) };
    }),
    predOriginalSample: (i, x, output) => scope(() => original(i, x, output)),
    linearStep(i): LinearStep | null {
      if (limit) return null;
      const { current, predictions: [own, ...memory], noise } = updates[i]!;
      const map = maps[i]![converted];
      return { current: current + own! * map.current, output: own! * map.output, memory, noise };
    },
    linearOriginal: (i): LinearMap | null => (limit ? null : maps[i]!.original),
    linearMemory: (i): LinearMap | null => (limit || order === 1 ? null : maps[i]![converted]),
  };
}

function readSolver(settings: SchedulerSettings): { algorithm: Algorithm; order: 1 | 2 | 3; heun: boolean } {
  const named = settings.oneOf('algorithm_type', [...algorithms, 'deis'] as const, 'dpmsolver++');
  const algorithm = named === 'deis' ? 'dpmsolver++' : named; // as diffusers reads files of other multistep classes
  const solver = settings.oneOf('solver_type', ['midpoint', 'heun', 'logrho', 'bh1', 'bh2'] as const, 'midpoint');
  const order = settings.number('solver_order', 2);
  if (order !== 1 && order !== 2 && order !== 3) throw settings.refuse('solver_order', '1, 2 and 3');
  if (order === 3 && algorithm === 'sde-dpmsolver') throw settings.refuse('solver_order', '1 and 2 with algorithm_type "sde-dpmsolver"');
  if (settings.has('variance_type')) throw settings.refuse('variance_type', 'null');
  if (settings.flag('use_flow_sigmas', false)) throw settings.refuse('use_flow_sigmas', 'false');
  if (!named.endsWith('++') && settings.oneOf('final_sigmas_type', ['zero', 'sigma_min'] as const, 'zero') === 'zero') {
    throw settings.refuse('algorithm_type', `dpmsolver++ and sde-dpmsolver++ unless final_sigmas_type is "sigma_min"`);
  }
  return { algorithm, order, heun: solver === 'heun' };
}

/** The order of each step: rising at the start, and at the end falling where the settings say so. */
function stepOrders(settings: SchedulerSettings, order: number, T: number): number[] {
  const few = settings.flag('lower_order_final', true) && T < 15;
  const firstAtEnd = settings.flag('euler_at_final', false) || few || settings.oneOf('final_sigmas_type', ['zero', 'sigma_min'] as const, 'zero') === 'zero';
  return Array.from({ length: T }, (_, i) => {
    if (i === T - 1 && firstAtEnd) return 1;
    return Math.min(order, i + 1, few && i === T - 2 ? 2 : 3);
  });
}

interface Level {
  readonly alpha: number;
  readonly sigma: number;
  /** log(alpha / sigma) */
  readonly lambda: number;
}

/** The update from levels[1] to levels[0], with the predictions at levels[1], levels[2] ... */
function update(algorithm: Algorithm, heun: boolean, [to, from, ...before]: readonly Level[]): Update {
  const h = to!.lambda - from!.lambda;
  const scales = solverScales(algorithm, heun, to!, from!, h);
  const { current, noise } = scales;
  if (before.length === 0) return { current, predictions: [scales.D0], noise };
  const r0 = (from!.lambda - before[0]!.lambda) / h;
  if (before.length === 1) return { current, predictions: [scales.D0 + scales.D1 / r0, -scales.D1 / r0], noise };
  const r1 = (before[0]!.lambda - before[1]!.lambda) / h;
  const [near, far] = [[1 / r0, -1 / r0, 0], [0, 1 / r1, -1 / r1]];
  const predictions = [0, 1, 2].map((k) => {
    const bend = (near[k]! - far[k]!) / (r0 + r1);
    return (k === 0 ? scales.D0 : 0) + scales.D1third * (near[k]! + r0 * bend) + scales.D2 * bend;
  });
  return { current, predictions, noise };
}

/** Weights of the latents, the prediction D0, its slope D1 (second order; third order) and curve D2, and fresh noise. */
function solverScales(algorithm: Algorithm, heun: boolean, to: Level, from: Level, h: number) {
  switch (algorithm) {
    case 'dpmsolver++': {
      const grown = Math.expm1(-h);
      const slope = to.alpha * (grown / h + 1);
      return { current: to.sigma / from.sigma, D0: -to.alpha * grown, D1: heun ? slope : -0.5 * to.alpha * grown, D1third: slope, D2: -to.alpha * ((grown + h) / h ** 2 - 0.5), noise: 0 };
    }
    case 'dpmsolver': {
      const grown = Math.expm1(h);
      const slope = -to.sigma * (grown / h - 1);
      return { current: to.alpha / from.alpha, D0: -to.sigma * grown, D1: heun ? slope : -0.5 * to.sigma * grown, D1third: slope, D2: -to.sigma * ((grown - h) / h ** 2 - 0.5), noise: 0 };
    }
    case 'sde-dpmsolver++': {
      const gone = -Math.expm1(-2 * h);
      const slope = to.alpha * (gone / (-2 * h) + 1);
      return {
        current: (to.sigma / from.sigma) * Math.exp(-h), D0: to.alpha * gone, D1: heun ? slope : 0.5 * to.alpha * gone, D1third: slope,
        D2: to.alpha * ((gone - 2 * h) / (2 * h) ** 2 - 0.5), noise: to.sigma * Math.sqrt(gone),
      };
    }
    case 'sde-dpmsolver': {
      const grown = Math.expm1(h);
      return {
        current: to.alpha / from.alpha, D0: -2 * to.sigma * grown, D1: heun ? -2 * to.sigma * (grown / h - 1) : -to.sigma * grown, D1third: NaN, D2: NaN,
        noise: to.sigma * Math.sqrt(Math.expm1(2 * h)),
      };
    }
  }
}

/** sigmas [T + 1] and whole timesteps [T]. */
function inferenceSigmas(settings: SchedulerSettings, training: number, steps: number): { sigmas: number[]; timesteps: number[] } {
  const trained = trainingSigmas(settings);
  const ends = { high: trained.at(-1)!, low: trained[0]! };
  const logs = trained.map(logFloat);
  const by = sigmaSpacing(settings);
  const smooth = settings.oneOf('beta_schedule', ['linear', 'scaled_linear', 'squaredcos_cap_v2'] as const, 'linear') === 'squaredcos_cap_v2';
  let sigmas: number[];
  let rounded = !smooth;
  if (by === 'karras') sigmas = spacedSigmas(settings, by, ends, steps);
  else if (settings.flag('use_lu_lambdas', false)) sigmas = spread(logs.at(-1)!, logs[0]!, steps).map(Math.exp);
  else if (by) [sigmas, rounded] = [spacedSigmas(settings, by, ends, steps), false];
  else {
    const timesteps = spacedOverEnd(settings, training, steps);
    return { sigmas: withLast(settings, timesteps.map((t) => interpolate(trained, t)), trained), timesteps };
  }
  const between = sigmas.map((sigma) => timestepOf(sigma, logs));
  return { sigmas: withLast(settings, sigmas, trained), timesteps: between.map((t) => (rounded ? roundHalfEven(t) : Math.trunc(t))) };
}

function withLast(settings: SchedulerSettings, sigmas: readonly number[], trained: Float32Array): number[] {
  const last = settings.oneOf('final_sigmas_type', ['zero', 'sigma_min'] as const, 'zero') === 'zero' ? 0 : trained[0]!;
  return [...sigmas, last].map(f);
}

/** Timesteps that leave room for one more, the picture; above those with lambda below lambda_min_clipped. */
function spacedOverEnd(settings: SchedulerSettings, training: number, steps: number): number[] {
  const end = training - clippedTimesteps(settings);
  switch (settings.oneOf('timestep_spacing', ['linspace', 'leading', 'trailing'] as const, 'linspace')) {
    case 'linspace': return linspace(0, end - 1, steps + 1).map(roundHalfEven).reverse().slice(0, -1);
    case 'leading': {
      const ratio = Math.floor(end / (steps + 1));
      const offset = settings.number('steps_offset', 0);
      return Array.from({ length: steps }, (_, i) => (steps - i) * ratio + offset);
    }
    case 'trailing': {
      const ratio = training / steps;
      const count = end === training ? steps : Math.ceil(end / ratio);
      return Array.from({ length: count }, (_, i) => roundHalfEven(end + i * (end - ratio - end)) - 1);
    }
  }
}

/** How many training timesteps, from the noisiest down, have a lambda below lambda_min_clipped. */
function clippedTimesteps(settings: SchedulerSettings): number {
  const lowest = settings.lowest('lambda_min_clipped');
  const alphas = cumulativeAlphas(trainingBetas(settings));
  if (settings.flag('rescale_betas_zero_snr', false)) alphas[alphas.length - 1] = 2 ** -24;
  return alphas.filter((alpha) => Math.log(Math.sqrt(alpha)) - Math.log(Math.sqrt(1 - alpha)) < lowest).length;
}
