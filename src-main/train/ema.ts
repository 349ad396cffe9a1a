/** Exponential moving average of parameters. */

/**
 * average = d average + (1 - d) parameter, in place. The decay grows with the number of updates, so that a short run's
 * average is not its start: d = min(decay, (1 + n) / (10 + n)).
 * @param updates n, how often the average was updated before
 * Source: diffusers.training_utils.EMAModel.get_decay.
 */
export function updateAverage(average: readonly Float32Array[], parameters: readonly Float32Array[], decay: number, updates: number): void {
  const d = Math.min(decay, (1 + updates) / (10 + updates));
  average.forEach((a, k) => {
    const p = parameters[k]!;
    for (let i = 0; i < a.length; i++) a[i] = d * a[i]! + (1 - d) * p[i]!;
  });
}
