/** Sweeps: `--sweep key=a,b,c`; more than one as a grid, or with --paired as a list whose values go together. */
import { MOST_RUNS, sweepCount, sweepRuns, sweepValues } from '../contract/sweep.ts';
import { UsageError } from './arguments.ts';

/**
 * The assignments of each run: ["lora.rank=4,8", "seed=[1,2]"] -> [[lora.rank=4, seed=1], [lora.rank=4, seed=2], ...], paired [[lora.rank=4, seed=1], [lora.rank=8, seed=2]].
 * @throws UsageError
 */
export function expandSweeps(texts: readonly string[], as: 'grid' | 'list' = 'grid'): string[][] {
  const keys = new Set<string>();
  const sweeps = texts.map((text) => {
    const at = text.indexOf('=');
    const [key, values] = [text.slice(0, at), at < 1 ? [] : sweepValues(text.slice(at + 1))];
    if (values.length === 0) throw new UsageError(`--sweep ${text} is not key=a,b,c.`);
    if (keys.has(key)) throw new UsageError(`--sweep names ${key} twice.`);
    if (key === 'engine') throw new UsageError('The engine cannot be swept: a process has one.');
    keys.add(key);
    return { key, values };
  });
  const count = sweepCount(sweeps, as);
  if (Number.isNaN(count)) throw new UsageError(`--paired needs as many values of each setting: ${sweeps.map(({ key, values }) => `${key} has ${values.length}`).join(', ')}.`);
  if (count > MOST_RUNS) throw new UsageError(`The sweeps make more than ${MOST_RUNS} runs.`);
  return sweepRuns(sweeps, as).map((run) => run.map(({ key, value }) => `${key}=${value}`));
}
