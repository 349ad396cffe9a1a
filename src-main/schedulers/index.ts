/** Samplers by product name. A new one is one file, one line here and its golden test. */
import { AppError } from '../base/errors.ts';
import { ddimScheduler } from './ddim.ts';
import { eulerScheduler } from './euler.ts';
import type { Scheduler } from './scheduler.ts';
import { SchedulerSettings } from './settings.ts';

const schedulers: { readonly [name: string]: (settings: SchedulerSettings, steps: number) => Scheduler } = {
  ddim: ddimScheduler,
  euler: eulerScheduler,
};

export const schedulerNames: readonly string[] = Object.keys(schedulers);

/**
 * @param config values of the model's scheduler_config.json, of whatever class
 * @param path that file, for messages
 * @throws AppError('config') for an unknown name or number of steps, AppError('weights') for a setting not supported
 */
export function openScheduler(name: string, steps: number, config: Readonly<Record<string, unknown>>, path: string): Scheduler {
  if (!Object.hasOwn(schedulers, name)) {
    throw new AppError('config', `scheduler "${name}" is not in this version; use ${schedulerNames.join(' or ')}.`);
  }
  return schedulers[name]!(new SchedulerSettings(config, path), steps);
}
