/**
 * The training noise schedule, in float32 where diffusers has float32: betas, cumulative products, spacing of timesteps.
 * Source: diffusers 0.42.1 schedulers/scheduling_ddim.py, scheduling_euler_discrete.py.
 */
import { AppError } from '../base/errors.ts';
import { roundHalfEven } from '../base/round.ts';
import type { SchedulerSettings } from './settings.ts';

const f = Math.fround;

/** torch.linspace in float32: from both ends towards the middle. */
export function linspaceFloat(start: number, end: number, count: number): Float32Array {
  if (count === 1) return Float32Array.of(start);
  const [first, last] = [f(start), f(end)];
  const step = f(f(last - first) / (count - 1));
  // One rounding, as torch's kernel fuses the product and the sum.
  return Float32Array.from({ length: count }, (_, i) => (i < count / 2 ? first + step * i : last - step * (count - 1 - i)));
}

/** np.linspace in float64. */
export function linspace(start: number, end: number, count: number): number[] {
  const step = (end - start) / (count - 1);
  return Array.from({ length: count }, (_, i) => (i === 0 ? start : i === count - 1 ? end : i * step + start));
}

/** A class's own values for what the file leaves open. */
export interface BetaDefaults {
  readonly start: number;
  readonly end: number;
  readonly schedule: 'linear' | 'scaled_linear';
}

/** betas [N] by trained_betas or beta_schedule. */
export function trainingBetas(settings: SchedulerSettings, standard: BetaDefaults = { start: 0.0001, end: 0.02, schedule: 'linear' }): Float32Array {
  const trained = settings.numbers('trained_betas');
  const N = settings.number('num_train_timesteps', 1000);
  if (!Number.isSafeInteger(N) || N < 1 || N > 1e6) throw settings.refuse('num_train_timesteps', 'a whole number above 0');
  const start = settings.number('beta_start', standard.start);
  const end = settings.number('beta_end', standard.end);
  const schedule = settings.oneOf('beta_schedule', ['linear', 'scaled_linear', 'squaredcos_cap_v2'], standard.schedule);
  let betas: Float32Array;
  if (trained) betas = Float32Array.from(trained);
  else if (schedule === 'linear') betas = linspaceFloat(start, end, N);
  else if (schedule === 'scaled_linear') betas = linspaceFloat(Math.sqrt(start), Math.sqrt(end), N).map((b) => b * b);
  else {
    const bar = (t: number): number => Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2;
    betas = Float32Array.from({ length: N }, (_, i) => Math.min(1 - bar((i + 1) / N) / bar(i / N), 0.999));
  }
  return settings.flag('rescale_betas_zero_snr', false) ? rescaleZeroSnr(betas) : betas;
}

/** prod(1 - beta) so far, [N]: float32 factors, each product rounded to float32 from double. */
export function cumulativeAlphas(betas: Float32Array): Float32Array {
  let product = 1;
  return betas.map((beta) => (product *= f(1 - beta)));
}

/** Betas whose last step is pure noise. Source: arXiv 2305.08891, algorithm 1. */
function rescaleZeroSnr(betas: Float32Array): Float32Array {
  const root = cumulativeAlphas(betas).map((alpha) => Math.sqrt(alpha));
  const first = root[0]!;
  const last = root.at(-1)!;
  const stretch = f(first / f(first - last));
  const bar = root.map((value) => f(f(value - last) * stretch) ** 2);
  return bar.map((value, i) => 1 - f(i === 0 ? value : value / bar[i - 1]!));
}

export type TimestepSpacing = 'linspace' | 'leading' | 'trailing';

/** Timesteps from noise to picture, before euler's changes; between whole numbers with linspace if not rounded. */
export function spacedTimesteps(options: { spacing: TimestepSpacing; training: number; steps: number; offset: number; rounded: boolean }): number[] {
  const { spacing, training, steps, offset, rounded } = options;
  if (spacing === 'linspace') {
    const times = steps === 1 ? [0] : linspace(0, training - 1, steps);
    return times.map((t) => (rounded ? roundHalfEven(t) : f(t))).reverse();
  }
  if (spacing === 'leading') {
    const ratio = Math.floor(training / steps);
    return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * ratio + offset);
  }
  const delta = training + -training / steps - training; // as np.arange adds it up
  return Array.from({ length: steps }, (_, i) => roundHalfEven(training + i * delta) - 1);
}

/** @throws AppError('config') */
export function checkSteps(steps: number, training: number): void {
  if (!Number.isSafeInteger(steps) || steps < 1 || steps > training) {
    throw new AppError('config', `The number of steps is ${steps}, expected a whole number from 1 to ${training}.`);
  }
}
