/** The optimisers by name. */
import type { OptimizerConfig } from '../../contract/run.ts';
import { adafactor } from './adafactor.ts';
import { adamW } from './adamw.ts';
import { adamW8bit } from './adamw-8bit.ts';
import type { Optimizer, Shape } from './optimizer.ts';
import { prodigy } from './prodigy.ts';

const makers: { readonly [kind in OptimizerConfig['kind']]: (config: OptimizerConfig, shapes: readonly Shape[]) => Optimizer } = { adamw: adamW, adamw8bit: adamW8bit, adafactor, prodigy };

/** @param shapes of the parameters, in their order */
export function openOptimizer(config: OptimizerConfig, shapes: readonly Shape[]): Optimizer {
  return makers[config.kind](config, shapes);
}
