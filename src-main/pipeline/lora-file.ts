/**
 * LoRA files: reads diffusers', PEFT's and kohya's keys, writes diffusers' and PEFT's.
 * Source: diffusers loaders/lora_base.py, peft utils/save_and_load.py, kohya-ss networks/lora.py.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import { readFloatsSync } from '../engine/scope.ts';
import { tf, type Tensor2D } from '../engine/tf.ts';
import type { Adapter, LoraPair, LoraTarget } from '../nn/lora.ts';
import { openSafetensors, writeSafetensors, type SafetensorsFile, type TensorData } from '../weights/safetensors.ts';

export { adapterHash, createAdapter } from './adapter.ts';

export interface ReadLoraOptions {
  /** Modules that may occur, with their sizes: `pipeline.loraTargets(everyLoraTarget)`, or those of a run's config. */
  readonly targets: readonly LoraTarget[];
  /** For a file that does not say; the rank if left out (scale 1). */
  readonly alpha?: number;
}

/** One module as found in the file: matrices by key, alpha if given. */
interface FoundModule {
  a?: string;
  b?: string;
  alpha?: string;
}

/**
 * Reads a LoRA file; the caller disposes the adapter. alpha is taken from `.alpha` keys, else from the file's metadata, else
 * from the options. Where modules differ in alpha / rank, the difference goes into B.
 * @throws AppError('weights'): one line with what is unknown, incomplete or of another shape
 */
export function readLora(path: string, options: ReadLoraOptions): Adapter {
  const file = openSafetensors(path);
  try {
    return readModules(file, options);
  } finally {
    file.close();
  }
}

function readModules(file: SafetensorsFile, options: ReadLoraOptions): Adapter {
  const found = collectModules(file, options.targets);
  checkModules(file, found, options.targets);
  const metadata = metadataAlpha(file);
  const scales = new Map<string, number>();
  for (const [module, { a, alpha }] of found) {
    const rank = file.entries.get(a!)!.shape[0]!;
    const value = alpha === undefined ? (metadata ?? options.alpha ?? rank) : file.readFloats(alpha)[0]!;
    scales.set(module, value / rank);
  }
  const scale = scales.values().next().value!;
  const modules: Record<string, LoraPair> = {};
  for (const [module, { a, b }] of found) {
    const [rank, inSize] = file.entries.get(a!)!.shape as [number, number];
    const outSize = file.entries.get(b!)!.shape[0]!;
    const own = scales.get(module)!;
    const bValues = file.readFloats(b!);
    modules[module] = {
      a: tf.tensor2d(file.readFloats(a!), [rank, inSize]),
      b: tf.tensor2d(own === scale ? bValues : bValues.map((value) => (value * own) / scale), [outSize, rank]),
    };
  }
  return { scale, modules };
}

const matrixEnds: ReadonlyArray<readonly [RegExp, keyof FoundModule]> = [
  [/\.(lora_A(\.\w+)?|lora\.down|lora_down)\.weight$/, 'a'],
  [/\.(lora_B(\.\w+)?|lora\.up|lora_up)\.weight$/, 'b'],
  [/_lora\.down\.weight$/, 'a'],
  [/_lora\.up\.weight$/, 'b'],
  [/\.alpha$/, 'alpha'],
];

function collectModules(file: SafetensorsFile, targets: readonly LoraTarget[]): Map<string, FoundModule> {
  const underscored = new Map(targets.map(({ path }) => [path.replaceAll('.', '_'), path]));
  const found = new Map<string, FoundModule>();
  const foreign: string[] = [];
  for (const key of file.entries.keys()) {
    const end = matrixEnds.find(([pattern]) => pattern.test(key));
    if (!end || /^(lora_te|text_encoder)/.test(key)) {
      foreign.push(key);
      continue;
    }
    let module = key.replace(end[0], '').replace(/^(base_model\.model\.)?(unet\.)?/, '').replace('.processor.', '.').replace(/\.to_out$/, '.to_out.0');
    if (module.startsWith('lora_unet_')) module = underscored.get(module.slice('lora_unet_'.length)) ?? module;
    const entry = found.get(module) ?? {};
    entry[end[1]] = key;
    found.set(module, entry);
  }
  if (foreign.length > 0) {
    throw new AppError('weights', `${file.path} has ${foreign.length} tensors that are no LoRA of the UNet (${foreign.slice(0, 2).join(', ')}).`, {
      hint: 'Keys must be unet.<module>.lora_A.weight and .lora_B.weight; text encoders are not adapted in this version.',
    });
  }
  if (found.size === 0) throw new AppError('weights', `${file.path} holds no LoRA: it has no tensors.`);
  return found;
}

function checkModules(file: SafetensorsFile, found: ReadonlyMap<string, FoundModule>, targets: readonly LoraTarget[]): void {
  const byPath = new Map(targets.map((target) => [target.path, target]));
  const problems: string[] = [];
  const unknown = [...found.keys()].filter((module) => !byPath.has(module));
  if (unknown.length > 0) problems.push(`${unknown.length} modules that this model or its targets do not have (${unknown.slice(0, 2).join(', ')})`);
  const half = [...found].filter(([module, { a, b }]) => byPath.has(module) && (!a || !b)).map(([module]) => module);
  if (half.length > 0) problems.push(`${half.length} modules with only one of lora_A and lora_B (${half[0]})`);
  const misshapen: string[] = [];
  for (const [module, { a, b }] of found) {
    const target = byPath.get(module);
    if (!target || !a || !b) continue;
    const [down, up] = [file.entries.get(a)!.shape, file.entries.get(b)!.shape];
    const rank = down[0] ?? 0;
    if (!isMatrix(down, rank, target.inFeatures) || !isMatrix(up, target.outFeatures, rank) || rank === 0) {
      misshapen.push(`${module} has [${down}] and [${up}], expected [rank,${target.inFeatures}] and [${target.outFeatures},rank]`);
    }
  }
  if (misshapen.length > 0) problems.push(`${misshapen.length} modules of another shape (${misshapen[0]})`);
  if (problems.length > 0) {
    throw new AppError('weights', `The LoRA ${file.path} does not fit: it has ${problems.join('; ')}.`, { hint: 'Use a LoRA made for this model, and name its modules among the targets.' });
  }
}

/** [rows, columns], also as a 1x1 convolution. */
function isMatrix(shape: readonly number[], rows: number, columns: number): boolean {
  return shape.length >= 2 && shape[0] === rows && shape[1] === columns && shape.slice(2).every((n) => n === 1);
}

/** lora_alpha as diffusers keeps it, if it holds for all modules. */
function metadataAlpha(file: SafetensorsFile): number | undefined {
  try {
    const values = JSON.parse(file.metadata['lora_adapter_metadata'] ?? 'null') as Record<string, unknown> | null;
    const alpha = values?.['unet.lora_alpha'] ?? values?.['lora_alpha'];
    return typeof alpha === 'number' && Number.isFinite(alpha) ? alpha : undefined;
  } catch {
    return undefined;
  }
}

function loraTensors(adapter: Adapter, prefix: string): Record<string, TensorData> {
  const tensors: Record<string, TensorData> = {};
  const put = (name: string, tensor: Tensor2D): void => {
    tensors[name] = { shape: [...tensor.shape], data: readFloatsSync(tensor) };
  };
  for (const [module, pair] of Object.entries(adapter.modules)) {
    put(`${prefix}${module}.lora_A.weight`, pair!.a);
    put(`${prefix}${module}.lora_B.weight`, pair!.b);
  }
  return tensors;
}

/** What PEFT must know of the adapter: the usual rank and alpha, and the modules that differ. */
function peftSettings(adapter: Adapter) {
  const ranks = Object.entries(adapter.modules).map(([module, pair]) => [module, pair!.a.shape[0]] as const);
  const rank = ranks[0]?.[1] ?? 1;
  const others = ranks.filter(([, own]) => own !== rank);
  return {
    r: rank, lora_alpha: adapter.scale * rank, target_modules: ranks.map(([module]) => module).sort(),
    rank_pattern: Object.fromEntries(others), alpha_pattern: Object.fromEntries(others.map(([module, own]) => [module, adapter.scale * own])),
  };
}

/** Writes a file that diffusers' load_lora_weights reads. @throws AppError('disk') */
export function writeDiffusersLora(path: string, adapter: Adapter, metadata: Readonly<Record<string, string>> = {}): void {
  const settings = Object.fromEntries(Object.entries(peftSettings(adapter)).map(([key, value]) => [`unet.${key}`, value]));
  writeSafetensors(path, loraTensors(adapter, 'unet.'), { metadata: { format: 'pt', lora_adapter_metadata: JSON.stringify(settings), ...metadata } });
}

/** Writes a folder that PEFT's load_adapter reads: adapter_config.json and adapter_model.safetensors. @throws AppError('disk') */
export function writePeftLora(folder: string, adapter: Adapter, options: { baseModel: string; metadata?: Readonly<Record<string, string>> }): void {
  const config = {
    peft_type: 'LORA', base_model_name_or_path: options.baseModel, inference_mode: true, ...peftSettings(adapter),
    bias: 'none', fan_in_fan_out: false, lora_dropout: 0, init_lora_weights: true, use_rslora: false, use_dora: false, task_type: null,
  };
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'adapter_config.json'), `${JSON.stringify(config, null, 2)}\n`);
  } catch (cause) {
    throw new AppError('disk', `The adapter could not be written to ${folder}: ${(cause as Error).message}.`, { hint: 'Check free space and permissions.', cause });
  }
  writeSafetensors(join(folder, 'adapter_model.safetensors'), loraTensors(adapter, 'base_model.model.'), { metadata: { format: 'pt', ...options.metadata } });
}
