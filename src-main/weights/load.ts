/** Loads a model's parameters from its folder, strictly: every expected key, no other, in the expected shape. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { ParameterShapes, Weights } from '../nn/parameters.ts';
import type { Tensor } from '../engine/tf.ts';
import { toEngineLayout } from './layout.ts';
import { openSafetensors, type SafetensorsEntry, type SafetensorsFile } from './safetensors.ts';

export interface LoadOptions {
  /** For messages: "the UNet". */
  readonly what: string;
  /** File name without endings: "model" or "diffusion_pytorch_model". */
  readonly stem: string;
  /** A file's key as the model names it; null for keys to ignore. */
  readonly rename?: (key: string, keys: ReadonlySet<string>) => string | null;
}

export interface LoadedWeights {
  /** Owned by the caller. */
  readonly weights: Weights;
  readonly parameters: number;
  /** Bytes in memory, as float32. */
  readonly bytes: number;
}

/**
 * Loads `expected` from `folder`, one tensor at a time: peak memory is the model and one tensor.
 * @throws AppError('weights'): one line with what is missing, extra or of another shape
 */
export function loadWeights(folder: string, expected: ParameterShapes, options: LoadOptions): LoadedWeights {
  const files = weightFiles(folder, options).map(openSafetensors);
  try {
    const found = match(files, expected, folder, options);
    const weights: Record<string, Tensor> = {};
    let parameters = 0;
    try {
      for (const [key, { file, entry }] of found) {
        weights[key] = toEngineLayout(file.readFloats(entry.name), expected.get(key)!);
        parameters += entry.shape.reduce((product, n) => product * n, 1);
      }
    } catch (error) {
      disposeWeights(weights);
      throw error;
    }
    return { weights, parameters, bytes: parameters * 4 };
  } finally {
    for (const file of files) file.close();
  }
}

export function disposeWeights(weights: Weights): void {
  for (const tensor of Object.values(weights)) tensor.dispose();
}

interface Found {
  readonly file: SafetensorsFile;
  readonly entry: SafetensorsEntry;
}

function match(files: readonly SafetensorsFile[], expected: ParameterShapes, folder: string, options: LoadOptions): Map<string, Found> {
  const keys = new Set(files.flatMap((file) => [...file.entries.keys()]));
  const found = new Map<string, Found>();
  const extra: string[] = [];
  const misshapen: string[] = [];
  for (const file of files) {
    for (const entry of file.entries.values()) {
      const key = options.rename ? options.rename(entry.name, keys) : entry.name;
      if (key === null) continue;
      const shape = expected.get(key);
      if (!shape) extra.push(entry.name);
      else if (!sameShape(shape, entry.shape)) misshapen.push(`${entry.name} is [${entry.shape}], expected [${shape}]`);
      else found.set(key, { file, entry });
    }
  }
  const misshapenKeys = new Set(misshapen.map((line) => line.split(' is [')[0]));
  const missing = [...expected.keys()].filter((key) => !found.has(key) && !misshapenKeys.has(key));
  if (missing.length + extra.length + misshapen.length === 0) return found;
  const parts = [list('missing', missing), list('not expected', extra), list('of another shape', misshapen)].filter((part) => part !== '');
  throw new AppError('weights', `The weights of ${options.what} in ${folder} do not fit its config.json: ${parts.join('; ')}.`, {
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

/**
 * The safetensors files holding a model: the plain file, its shards, else a variant's (fp16, bf16, ...).
 * @throws AppError('weights') if there are none, with advice where only pickles are
 */
export function weightFiles(folder: string, { stem, what }: LoadOptions): string[] {
  if (!existsSync(folder)) throw new AppError('weights', `There is no folder ${folder} for ${what}.`, { hint: 'Check that the download or copy is complete.' });
  const names = readdirSync(folder).sort();
  const escaped = stem.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const candidates = [
    new RegExp(`^${escaped}\\.safetensors$`),
    new RegExp(`^${escaped}\\.safetensors\\.index\\.json$`),
    new RegExp(`^${escaped}\\.(?!.*-of-)[\\w-]+\\.safetensors$`), // a variant: stem.fp16.safetensors
    new RegExp(`^${escaped}\\.(safetensors\\.index\\.[\\w-]+|[\\w-]+\\.safetensors\\.index)\\.json$`),
  ];
  for (const candidate of candidates) {
    const fitting = names.filter((name) => candidate.test(name));
    const chosen = fitting.find((name) => name.includes('fp16')) ?? fitting[0];
    if (chosen === undefined) continue;
    return chosen.endsWith('.json') ? shards(join(folder, chosen), folder) : [join(folder, chosen)];
  }
  const pickles = names.filter((name) => /\.(bin|pt|ckpt|pth)$/.test(name));
  if (pickles.length > 0) {
    throw new AppError('weights', `${folder} holds ${what} only as ${pickles[0]}, a pickle, which can run code and is not read.`, {
      hint: 'Use the safetensors version of the model, or save it again with safe_serialization=True.',
    });
  }
  throw new AppError('weights', `There is no ${stem}.safetensors for ${what} in ${folder}.`, { hint: 'Check that the download or copy is complete.' });
}

function shards(index: string, folder: string): string[] {
  let map: unknown;
  try {
    map = (JSON.parse(readFileSync(index, 'utf8')) as { weight_map?: unknown }).weight_map;
  } catch (cause) {
    throw new AppError('weights', `${index} cannot be read: ${(cause as Error).message}.`, { cause });
  }
  const files = typeof map === 'object' && map !== null ? [...new Set(Object.values(map as Record<string, unknown>))] : [];
  if (files.length === 0) throw new AppError('weights', `${index} names no weight files.`);
  return files.map((file) => {
    if (typeof file !== 'string' || basename(file) !== file || file === '..') {
      throw new AppError('weights', `${index} names ${JSON.stringify(file)}, which is not a file beside it.`);
    }
    return join(folder, file);
  });
}
