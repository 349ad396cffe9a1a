/** DDIM with eta 0. Source: arXiv 2010.02502 formulas (12), (16); diffusers 0.42.1 schedulers/scheduling_ddim.py. */
import { AppError } from '../base/errors.ts';
import { tf, type Tensor4D } from '../engine/tf.ts';
import { scope } from '../engine/scope.ts';
import { checkSteps, cumulativeAlphas, spacedTimesteps, trainingBetas } from './noise-schedule.ts';
import type { LinearStep, PredictionType, Scheduler } from './scheduler.ts';
import type { SchedulerSettings } from './settings.ts';

/** Both predictions of one step as linear maps of (x_t, model output). */
interface StepMaps {
  readonly original: LinearStep;
  readonly noise: LinearStep;
  /** sqrt(abar) and sqrt(1 - abar) of the step's end. */
  readonly rootPrevious: number;
  readonly noisePrevious: number;
}

/** @throws AppError for settings or a number of steps that cannot be */
export function ddimScheduler(settings: SchedulerSettings, steps: number): Scheduler {
  if (settings.flag('thresholding', false)) throw settings.refuse('thresholding', 'false');
  const predictionType = settings.oneOf('prediction_type', ['epsilon', 'v_prediction', 'sample'] as const, 'epsilon');
  const clip = settings.flag('clip_sample', true) ? settings.number('clip_sample_range', 1) : null;
  const alphas = cumulativeAlphas(trainingBetas(settings));
  const finalAlpha = settings.flag('set_alpha_to_one', true) ? 1 : alphas[0]!;
  const training = settings.number('num_train_timesteps', 1000);
  checkSteps(steps, training);
  const timesteps = spacedTimesteps({
    spacing: settings.oneOf('timestep_spacing', ['leading', 'linspace', 'trailing'] as const, 'leading'),
    training, steps, offset: settings.number('steps_offset', 0), rounded: true,
  });
  const maps = timesteps.map((t): StepMaps => {
    const alpha = alphas[t];
    if (alpha === undefined) throw new AppError('config', `With ${steps} steps the sampler starts at timestep ${t}, the model ends at ${alphas.length - 1}.`, { hint: 'Use fewer steps.' });
    if (alpha === 0 && predictionType === 'epsilon') throw settings.refuse('rescale_betas_zero_snr', 'false with prediction_type "epsilon"');
    const previous = t - Math.floor(training / steps);
    const alphaPrevious = previous >= 0 ? alphas[previous]! : finalAlpha;
    return {
      ...predictionMaps(predictionType, Math.sqrt(alpha), Math.sqrt(1 - alpha)),
      rootPrevious: Math.sqrt(alphaPrevious), noisePrevious: Math.sqrt(1 - alphaPrevious),
    };
  });
  const stepMap = ({ original, noise, rootPrevious, noisePrevious }: StepMaps): LinearStep => ({
    current: rootPrevious * original.current + noisePrevious * noise.current,
    output: rootPrevious * original.output + noisePrevious * noise.output,
  });
  const apply = (map: LinearStep, x: Tensor4D, output: Tensor4D): Tensor4D => tf.add(tf.mul(x, map.current), tf.mul(output, map.output));
  return {
    name: 'ddim', timesteps, predictionType, initNoiseSigma: 1,
    inputScale: () => 1,
    step(i, x, output) {
      const map = maps[i]!;
      return scope(() => {
        if (clip === null) return apply(stepMap(map), x, output);
        const original = tf.clipByValue(apply(map.original, x, output), -clip, clip);
        return tf.add(tf.mul(original, map.rootPrevious), tf.mul(apply(map.noise, x, output), map.noisePrevious));
      });
    },
    predOriginalSample: (i, x, output) => scope(() => {
      const original = apply(maps[i]!.original, x, output);
      return clip === null ? original : tf.clipByValue(original, -clip, clip);
    }),
    linearStep: (i) => (clip === null ? stepMap(maps[i]!) : null),
    linearOriginal: (i) => (clip === null ? maps[i]!.original : null),
  };
}

/**
 * x0 and eps from (x_t, output), with a = sqrt(abar_t), b = sqrt(1 - abar_t) and x_t = a x0 + b eps, v = a eps - b x0.
 */
function predictionMaps(type: PredictionType, a: number, b: number): { original: LinearStep; noise: LinearStep } {
  switch (type) {
    case 'epsilon': return { original: { current: 1 / a, output: -b / a }, noise: { current: 0, output: 1 } };
    case 'v_prediction': return { original: { current: a, output: -b }, noise: { current: b, output: a } };
    case 'sample': return { original: { current: 0, output: 1 }, noise: { current: 1 / b, output: -a / b } };
  }
}
