/** Weights that are in memory while they are needed: loaded at first use, released when told, loaded again when used again. */
import { allSteps } from '../base/work.ts';
import { tf } from '../engine/tf.ts';
import type { ParameterShapes, Weights } from '../nn/parameters.ts';
import { checkWeights, disposeWeights, loadingWeights, type LoadOptions } from './load.ts';
import type { TensorSource } from './source.ts';

export interface ResidentWeights {
  readonly parameters: number;
  /** Bytes in memory when they are there. */
  readonly bytes: number;
  /** The weights, borrowed until the next release. @throws AppError('weights') if the file has gone or changed since it was opened */
  get(): Weights;
  /** Loads them step by step, as `get` does at once: yields the bytes loaded so far. */
  loading(): Generator<number, void>;
  /** Frees them; a gradient under way keeps those it needs until it is done. */
  release(): void;
}

/**
 * Checks the headers now, strictly; reads no value yet.
 * @param open opens the file, anew for each loading
 * @throws AppError('weights')
 */
export function residentWeights(open: () => TensorSource, expected: ParameterShapes, options: LoadOptions): ResidentWeights {
  using first = open();
  const { parameters, bytes } = checkWeights(first, expected, options);
  let weights: Weights | undefined;
  function* loading(): Generator<number, void> {
    if (weights) return;
    using source = open();
    const loaded = yield* loadingWeights(source, expected, options);
    for (const tensor of Object.values(loaded.weights)) tf.keep(tensor); // whatever scope the first use is in
    ({ weights } = loaded);
  }
  return {
    parameters, bytes, loading,
    get() {
      if (!weights) allSteps(loading());
      return weights!;
    },
    release() {
      if (weights) disposeWeights(weights);
      weights = undefined;
    },
  };
}
