/** The weight files of one model's folder, as transformers and diffusers lay them out. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AppError } from '../base/errors.ts';
import { openSafetensors } from './safetensors.ts';
import { joinSources, type TensorSource } from './source.ts';
import { openTorchPickle } from './torch-pickle.ts';

export interface FolderOptions {
  /** For messages: "the UNet". */
  readonly what: string;
  /** File name without endings: "model" or "diffusion_pytorch_model". */
  readonly stem: string;
}

/**
 * Opens the weights of a folder; the caller closes them.
 * @throws AppError('weights') if there are none
 */
export function openWeightFolder(folder: string, options: FolderOptions): TensorSource {
  const open: TensorSource[] = [];
  try {
    for (const file of weightFiles(folder, options)) open.push(file.endsWith('.bin') ? openTorchPickle(file) : openSafetensors(file));
    return joinSources(folder, open);
  } catch (error) {
    for (const source of open) source.close();
    throw error;
  }
}

/**
 * The files holding a model: safetensors before pickles; of each the plain file, its shards, else a variant's (fp16, bf16, ...).
 * @throws AppError('weights') if there are none
 */
export function weightFiles(folder: string, { stem, what }: FolderOptions): string[] {
  if (!existsSync(folder)) throw new AppError('weights', `There is no folder ${folder} for ${what}.`, { hint: 'Check that the download or copy is complete.' });
  const names = readdirSync(folder).sort();
  const candidates = [...filePatterns(stem, 'safetensors'), ...filePatterns(stem === 'model' ? 'pytorch_model' : stem, 'bin')];
  for (const candidate of candidates) {
    const fitting = names.filter((name) => candidate.test(name));
    const chosen = fitting.find((name) => name.includes('fp16')) ?? fitting[0];
    if (chosen === undefined) continue;
    return chosen.endsWith('.json') ? shards(join(folder, chosen), folder) : [join(folder, chosen)];
  }
  throw new AppError('weights', `There is no ${stem}.safetensors for ${what} in ${folder}.`, { hint: 'Check that the download or copy is complete.' });
}

/** The files that one named file stands for: an index for its shards too. @throws AppError('weights') */
export function filesOf(path: string): string[] {
  return path.endsWith('.index.json') ? [...shards(path, dirname(path)), path] : [path];
}

function filePatterns(stem: string, ending: string): RegExp[] {
  const escaped = stem.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return [
    new RegExp(`^${escaped}\\.${ending}$`),
    new RegExp(`^${escaped}\\.${ending}\\.index\\.json$`),
    new RegExp(`^${escaped}\\.(?!.*-of-)[\\w-]+\\.${ending}$`), // a variant: stem.fp16.safetensors
    new RegExp(`^${escaped}\\.(${ending}\\.index\\.[\\w-]+|[\\w-]+\\.${ending}\\.index)\\.json$`),
  ];
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
