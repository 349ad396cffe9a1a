/** Euler's method on dx/dsigma, without churn. Source: arXiv 2206.00364 algorithm 2; diffusers 0.42.1 schedulers/scheduling_euler_discrete.py. */
import { tf, type Tensor4D } from '../engine/tf.ts';
import { scope } from '../engine/scope.ts';
import { checkSteps, cumulativeAlphas, linspace, linspaceFloat, spacedTimesteps, trainingBetas } from './noise-schedule.ts';
import type { LinearStep, PredictionType, Scheduler } from './scheduler.ts';
import type { SchedulerSettings } from './settings.ts';

const f = Math.fround;

/** @throws AppError for settings or a number of steps that cannot be */
export function eulerScheduler(settings: SchedulerSettings, steps: number): Scheduler {
  if (settings.flag('use_beta_sigmas', false)) throw settings.refuse('use_beta_sigmas', 'false');
  const predictionType = settings.oneOf('prediction_type', ['epsilon', 'v_prediction', 'sample'] as const, 'epsilon');
  const spacing = settings.oneOf('timestep_spacing', ['linspace', 'leading', 'trailing'] as const, 'linspace');
  const training = settings.number('num_train_timesteps', 1000);
  checkSteps(steps, training);
  const alphas = cumulativeAlphas(trainingBetas(settings));
  if (settings.flag('rescale_betas_zero_snr', false)) alphas[alphas.length - 1] = 2 ** -24; // so that sigma stays finite
  const trained = alphas.map((alpha) => Math.sqrt(f(f(1 - alpha) / alpha))); // sigma by training timestep
  const spaced = spacedTimesteps({ spacing, training, steps, offset: settings.number('steps_offset', 0), rounded: false });
  const { sigmas, timesteps } = inferenceSigmas(settings, trained, spaced, predictionType, steps);
  const largest = sigmas.reduce((most, sigma) => Math.max(most, sigma), 0);

  const step = (i: number): LinearStep => {
    const sigma = sigmas[i]!;
    const dt = sigmas[i + 1]! - sigma; // x + (x - x0) / sigma * dt
    const { current, output } = original(predictionType, sigma);
    return { current: 1 + ((1 - current) * dt) / sigma, output: (-output * dt) / sigma };
  };
  const apply = (map: LinearStep, x: Tensor4D, output: Tensor4D): Tensor4D => scope(() => tf.add(tf.mul(x, map.current), tf.mul(output, map.output)));
  return {
    name: 'euler', timesteps, predictionType,
    initNoiseSigma: spacing === 'leading' ? Math.sqrt(largest ** 2 + 1) : largest,
    inputScale: (i) => 1 / Math.sqrt(sigmas[i]! ** 2 + 1),
    // In diffusers' order of operations: at large sigma (zero terminal SNR) the roundings are part of the result.
    step: (i, x, output) => scope(() => {
      const sigma = sigmas[i]!;
      const derivative = tf.div<Tensor4D>(tf.sub(x, apply(original(predictionType, sigma), x, output)), sigma);
      return tf.add(x, tf.mul(derivative, f(sigmas[i + 1]! - sigma)));
    }),
    predOriginalSample: (i, x, output) => apply(original(predictionType, sigmas[i]!), x, output),
    linearStep: step,
    linearOriginal: (i) => original(predictionType, sigmas[i]!),
  };
}

/** x0 from (x, output) at noise level sigma. */
function original(type: PredictionType, sigma: number): LinearStep {
  switch (type) {
    case 'epsilon': return { current: 1, output: -sigma };
    case 'v_prediction': return { current: 1 / (sigma ** 2 + 1), output: -sigma / Math.sqrt(sigma ** 2 + 1) };
    case 'sample': return { current: 0, output: 1 };
  }
}

/** sigmas [T + 1] and timesteps [T]. */
function inferenceSigmas(settings: SchedulerSettings, trained: Float32Array, spaced: readonly number[], type: PredictionType, steps: number) {
  const interpolation = settings.oneOf('interpolation_type', ['linear', 'log_linear'] as const, 'linear');
  let sigmas: number[] = interpolation === 'linear'
    ? spaced.map((t) => interpolate(trained, t))
    : Array.from(linspaceFloat(Math.log(trained.at(-1)!), Math.log(trained[0]!), steps + 1), (log) => f(Math.exp(log)));
  let timesteps = [...spaced];
  const karras = settings.flag('use_karras_sigmas', false);
  const exponential = settings.flag('use_exponential_sigmas', false);
  if (karras && exponential) throw settings.refuse('use_exponential_sigmas', 'one of use_karras_sigmas and use_exponential_sigmas');
  if (karras || exponential) {
    const low = settings.number('sigma_min', sigmas.at(-1)!);
    const high = settings.number('sigma_max', sigmas[0]!);
    sigmas = karras ? karrasSigmas(low, high, steps) : spread(Math.log(high), Math.log(low), steps).map(Math.exp);
    const logs = trained.map((sigma) => Math.log(sigma));
    timesteps = sigmas.map((sigma) => f(timestepOf(sigma, logs)));
  }
  const last = settings.oneOf('final_sigmas_type', ['zero', 'sigma_min'] as const, 'zero') === 'zero' ? 0 : trained[0]!;
  sigmas = [...sigmas, last].map(f);
  if (settings.oneOf('timestep_type', ['discrete', 'continuous'] as const, 'discrete') === 'continuous' && type === 'v_prediction') {
    timesteps = sigmas.slice(0, steps).map((sigma) => f(0.25 * f(Math.log(sigma))));
  }
  return { sigmas, timesteps };
}

/** np.linspace, also for one point. */
function spread(from: number, to: number, count: number): number[] {
  return count === 1 ? [from] : linspace(from, to, count);
}

/** rho 7, as in the paper's formula (5). */
function karrasSigmas(low: number, high: number, steps: number): number[] {
  const [first, last] = [high ** (1 / 7), low ** (1 / 7)];
  return spread(0, 1, steps).map((ramp) => (first + ramp * (last - first)) ** 7);
}

/** Between the training sigmas at whole timesteps; held beyond the ends. */
function interpolate(trained: Float32Array, t: number): number {
  const at = Math.min(Math.max(Math.floor(t), 0), trained.length - 1);
  if (t <= 0 || at >= trained.length - 1) return trained[at]!;
  return (trained[at + 1]! - trained[at]!) * (t - at) + trained[at]!;
}

/** The training timestep whose log sigma is log(sigma), between whole numbers. */
function timestepOf(sigma: number, logs: Float32Array): number {
  const log = Math.log(Math.max(sigma, 1e-10));
  let low = 0;
  for (let i = 0; i < logs.length; i++) if (log - logs[i]! >= 0) low = i;
  low = Math.min(low, logs.length - 2);
  const w = Math.min(1, Math.max(0, (logs[low]! - log) / (logs[low]! - logs[low + 1]!)));
  return (1 - w) * low + w * (low + 1);
}
