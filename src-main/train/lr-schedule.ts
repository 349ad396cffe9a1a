/** Learning rate of each iteration. */
import type { RunConfig } from '../contract/run.ts';

/**
 * Factor on the learning rate: rises linearly over `warmup` iterations to 1, then stays, falls linearly to 0, or follows half a
 * cosine to 0.
 * @param iteration from 0 to iterations - 1
 * @returns in (0,1]
 * Source: transformers.get_{constant,linear,cosine}_schedule_with_warmup, with the warm-up counted from 1 so that no step is lost.
 */
export function lrFactor(schedule: RunConfig['lrSchedule'], iteration: number, iterations: number): number {
  const { kind, warmup } = schedule;
  if (iteration < warmup) return (iteration + 1) / (warmup + 1);
  const done = (iteration - warmup) / Math.max(1, iterations - warmup);
  switch (kind) {
    case 'constant':
      return 1;
    case 'linear':
      return Math.max(0, 1 - done);
    case 'cosine':
      return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * done)));
  }
}
