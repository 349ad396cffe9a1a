/** Loads a model's parameters, strictly: every expected key, no other, in the expected shape. */
import { AppError } from '../base/errors.ts';
import { allSteps } from '../base/work.ts';
import type { ParameterShapes, Weights } from '../nn/parameters.ts';
import type { Engine } from '../engine/engine.ts';
import type { Tensor } from '../engine/tf.ts';
import { engineParameter, toEngineLayout } from './layout.ts';
import type { TensorEntry, TensorSource } from './source.ts';

/**
 * How weights are kept in memory. float32; stored: float16 and bfloat16 as the file has them, the same numbers in half the
 * memory; half: float32 too is rounded to float16. An engine without half precision keeps float32.
 */
export type Precision = 'float32' | 'stored' | 'half';

export interface LoadOptions {
  /** For messages: "the UNet". */
  readonly what: string;
  /** A file's key as the model names it; null for keys to ignore. */
  readonly rename?: (key: string, keys: ReadonlySet<string>) => string | null;
  /** Keeps the weights in memory of their own, which goes back to the system with them. */
  readonly engine?: Engine;
  /** 'float32' if left out; only with `engine`. */
  readonly precision?: Precision;
}

export interface LoadedWeights {
  /** Owned by the caller. */
  readonly weights: Weights;
  readonly parameters: number;
  /** Bytes in memory. */
  readonly bytes: number;
}

/**
 * Loads `expected` from `source`, one tensor at a time: peak memory is the model and one tensor. The source stays open.
 * @throws AppError('weights'): one line with what is missing, extra or of another shape
 */
export function loadWeights(source: TensorSource, expected: ParameterShapes, options: LoadOptions): LoadedWeights {
  return allSteps(loadingWeights(source, expected, options));
}

/** As {@link loadWeights}, step by step: yields the bytes in memory so far. Left early, it frees them. */
export function* loadingWeights(source: TensorSource, expected: ParameterShapes, options: LoadOptions): Generator<number, LoadedWeights> {
  const found = match(source, expected, options);
  const weights: Record<string, Tensor> = {};
  let parameters = 0;
  let bytes = 0;
  let done = false;
  try {
    for (const [key, entry] of found) {
      const count = entry.shape.reduce((product, n) => product * n, 1);
      const size = keptBytes(entry, options);
      weights[key] = loadOne(source, entry, expected.get(key)!, options, size);
      parameters += count;
      bytes += count * size;
      yield bytes;
    }
    done = true;
    return { weights, parameters, bytes };
  } finally {
    if (!done) disposeWeights(weights);
  }
}

/** Bytes of one value in memory. Vectors (biases, norms) stay float32: little to save, and half of all tensors. */
function keptBytes({ dtype, shape }: TensorEntry, { engine, precision = 'float32' }: LoadOptions): 2 | 4 {
  if (!engine?.half || precision === 'float32' || shape.length < 2) return 4;
  return dtype === 'F16' || dtype === 'BF16' || (dtype === 'F32' && precision === 'half') ? 2 : 4;
}

function loadOne(source: TensorSource, { name, dtype }: TensorEntry, shape: readonly number[], { engine }: LoadOptions, size: 2 | 4): Tensor {
  if (size === 2 && dtype !== 'F32') return engineParameter(engine!, shape, dtype as 'F16' | 'BF16', source.readRaw(name));
  const floats = source.readFloats(name);
  if (!engine) return toEngineLayout(floats, shape);
  const fits = size === 2 && floats.every((x) => Math.abs(x) <= largestHalf); // else infinity would stand there
  return engineParameter(engine, shape, 'F32', new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength), fits ? 'F16' : 'F32');
}

/** What float16 holds. */
const largestHalf = 65504;

/** What {@link loadWeights} would load, from the headers alone. @throws AppError('weights') as it does */
export function checkWeights(source: TensorSource, expected: ParameterShapes, options: LoadOptions): Omit<LoadedWeights, 'weights'> {
  let parameters = 0;
  let bytes = 0;
  for (const entry of match(source, expected, options).values()) {
    const count = entry.shape.reduce((product, n) => product * n, 1);
    parameters += count;
    bytes += count * keptBytes(entry, options);
  }
  return { parameters, bytes };
}

export function disposeWeights(weights: Weights): void {
  for (const tensor of Object.values(weights)) tensor.dispose();
}

function match(source: TensorSource, expected: ParameterShapes, options: LoadOptions): Map<string, TensorEntry> {
  const keys = new Set(source.entries.keys());
  const found = new Map<string, TensorEntry>();
  const extra: string[] = [];
  const misshapen: string[] = [];
  for (const entry of source.entries.values()) {
    const key = options.rename ? options.rename(entry.name, keys) : entry.name;
    if (key === null) continue;
    const shape = expected.get(key);
    if (!shape) extra.push(entry.name);
    else if (!sameShape(shape, entry.shape)) misshapen.push(`${entry.name} is [${entry.shape}], expected [${shape}]`);
    else found.set(key, entry);
  }
  const misshapenKeys = new Set(misshapen.map((line) => line.split(' is [')[0]));
  const missing = [...expected.keys()].filter((key) => !found.has(key) && !misshapenKeys.has(key));
  if (missing.length + extra.length + misshapen.length === 0) return found;
  const parts = [list('missing', missing), list('not expected', extra), list('of another shape', misshapen)].filter((part) => part !== '');
  throw new AppError('weights', `The weights of ${options.what} in ${source.path} do not fit its config.json: ${parts.join('; ')}.`, {
    hint: 'Check that the folder is complete and that its config.json belongs to these weights.',
  });
}

function list(what: string, names: readonly string[]): string {
  if (names.length === 0) return '';
  const first = names.slice(0, 3).join(', ');
  return `${names.length} ${what} (${first}${names.length > 3 ? ', ...' : ''})`;
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}
