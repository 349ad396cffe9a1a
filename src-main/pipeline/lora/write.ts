/**
 * Writes LoRA files for other programs: diffusers' file, PEFT's folder, kohya's file.
 * Source: diffusers 0.42.1 loaders/lora_base.py save_lora_weights; peft utils/save_and_load.py; kohya-ss/sd-scripts networks/lora.py save_weights.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { diskError, writeWhole } from '../../base/atomic.ts';
import { mkdirs } from '../../base/folder.ts';
import { readFloatsSync } from '../../engine/scope.ts';
import { isFull, LORA_PARTS, MATRICES, type Adapter, type LoraModule, type LoraPart, type LoraSet, type MatrixName } from '../../nn/lora.ts';
import { writeSafetensors, type TensorData } from '../../weights/safetensors.ts';
import { writeSharded, type TensorToWrite } from '../../weights/write.ts';
import { methodOf } from '../adapter.ts';
import type { LoraPlace } from './names.ts';

/**
 * A matrix's shape as torch has it: a convolution's are filters, A [rank, in, kh, kw], B [out, rank, 1, 1], magnitudes [1, out, 1, 1] and LoKr's second
 * factor [k, n, kh, kw].
 * @param name ends in one of MATRICES
 */
export function torchShape(name: string, [rows, columns]: readonly [number, number], kernel: readonly [number, number] | undefined): number[] {
  if (name.endsWith('lora_magnitude_vector')) return kernel ? [rows, columns, 1, 1] : [columns];
  const own = /^(.*\.)?(weight|bias)$/.test(name) && !/lora_[AB]\.weight$/.test(name); // of a network tuned in full: norms and biases have one row
  if (own && rows === 1) return [columns];
  if (!kernel || !(own || /lora_[AB]\.weight$|lokr_w2$/.test(name))) return [rows, columns];
  const [kh, kw] = name.endsWith('lora_B.weight') ? [1, 1] : kernel;
  return [rows, columns / (kh * kw), kh, kw];
}

/** The module of a matrix's name. */
export const moduleOf = (name: string): string => MATRICES.reduce((rest, end) => (rest.endsWith(`.${end}`) ? rest.slice(0, -end.length - 1) : rest), name);

function matricesOf({ matrices, kernel }: LoraModule): Array<[MatrixName, TensorData]> {
  return MATRICES.flatMap((name): Array<[MatrixName, TensorData]> => {
    const tensor = matrices[name];
    return tensor ? [[name, { shape: torchShape(name, tensor.shape, kernel), data: readFloatsSync(tensor) }]] : [];
  });
}

function* modulesOf(set: LoraSet): Generator<{ place: LoraPlace; own: LoraModule; scale: number }> {
  for (const part of LORA_PARTS) {
    const adapter = set[part];
    for (const [module, own] of Object.entries(adapter?.modules ?? {})) yield { place: { part, module }, own: own!, scale: adapter!.scale };
  }
}

/** What PEFT must know of an adapter: the usual rank and alpha, and the modules that differ. */
function peftSettings(adapter: Adapter) {
  const all = Object.entries(adapter.modules) as Array<[string, LoraModule]>;
  // transformers 5 has no text_model in CLIPTextModel: ends of names fit it and earlier ones.
  const own = (module: string): string => module.replace(/^text_model\./, '');
  const target_modules = all.map(([module]) => own(module)).sort();
  if (adapter.lokr) return { r: adapter.lokr.rank, alpha: adapter.scale * adapter.lokr.rank, decompose_factor: adapter.lokr.factor, target_modules };
  const ranks = all.map(([module, { matrices }]) => [module, matrices['lora_A.weight']!.shape[0]] as const);
  const rank = ranks[0]?.[1] ?? 1;
  const others = ranks.filter(([, each]) => each !== rank);
  const pattern = (module: string): string => `${own(module) === module ? '^' : ''}${own(module).replaceAll('.', '\\.')}`; // the UNet's from the start: ends of paths can be equal
  return {
    r: rank, lora_alpha: adapter.scale * rank, target_modules,
    rank_pattern: Object.fromEntries(others.map(([module, each]) => [pattern(module), each])),
    alpha_pattern: Object.fromEntries(others.map(([module, each]) => [pattern(module), adapter.scale * each])),
    ...(methodOf(adapter) === 'dora' && { use_dora: true }),
  };
}

/** A matrix's key in diffusers' file; in text encoders it looks for its own older names. */
export function diffusersKey(part: LoraPart, name: string): string {
  return `${part}.${part === 'unet' ? name : name.replace(/\.lora_A\.weight$/, '.lora_linear_layer.down.weight').replace(/\.lora_B\.weight$/, '.lora_linear_layer.up.weight')}`;
}

/** As {@link diffusersKey}, from a trained parameter's name: text encoders' begin with their part. */
export function parameterKey(name: string): string {
  const part = LORA_PARTS.find((each) => each !== 'unet' && name.startsWith(`${each}.`));
  return part ? diffusersKey(part, name.slice(part.length + 1)) : diffusersKey('unet', name);
}

/** Writes a file that diffusers' load_lora_weights reads (LoKr in the same manner, which it does not). @throws AppError('disk') */
export function writeDiffusersLora(path: string, set: LoraSet, metadata: Readonly<Record<string, string>> = {}): void {
  const tensors: Record<string, TensorData> = {};
  for (const { place: { part, module }, own } of modulesOf(set)) for (const [name, data] of matricesOf(own)) tensors[diffusersKey(part, `${module}.${name}`)] = data;
  const settings = Object.fromEntries(LORA_PARTS.flatMap((part) => (set[part] && !isFull(set[part]) ? Object.entries(peftSettings(set[part])).map(([key, value]) => [`${part}.${key}`, value]) : [])));
  writeSafetensors(path, tensors, { metadata: { format: 'pt', lora_adapter_metadata: JSON.stringify(settings), ...metadata } });
}

/** How diffusers calls the files of a network. */
export const NETWORK_STEM = 'diffusion_pytorch_model';

/** Writes a UNet tuned in full as diffusers has it in `unet/`, one matrix in memory at a time. @returns the files' names, as {@link writeSharded} @throws AppError('disk') */
export function writeNetwork(folder: string, { modules }: Adapter, shardBytes?: number): string[] {
  const tensors = Object.entries(modules).flatMap(([module, own]) => MATRICES.flatMap((name): TensorToWrite[] => {
    const tensor = own!.matrices[name];
    if (!tensor) return [];
    const read = (): Uint8Array => {
      const { buffer, byteOffset, byteLength } = readFloatsSync(tensor);
      return new Uint8Array(buffer, byteOffset, byteLength);
    };
    return [{ name: `${module}.${name}`, dtype: 'F32', shape: torchShape(name, tensor.shape, own!.kernel), read }];
  }));
  return writeSharded(folder, NETWORK_STEM, tensors, { metadata: { format: 'pt' }, ...(shardBytes !== undefined && { shardBytes }) });
}

/** Writes a folder that PEFT's load_adapter reads: adapter_config.json and adapter_model.safetensors. @throws AppError('disk') */
export function writePeftLora(folder: string, adapter: Adapter, options: { baseModel: string; metadata?: Readonly<Record<string, string>> }): void {
  const common = { base_model_name_or_path: options.baseModel, inference_mode: true, ...peftSettings(adapter), task_type: null };
  const config = adapter.lokr
    ? { peft_type: 'LOKR', ...common, rank_dropout: 0, module_dropout: 0, use_effective_conv2d: false, decompose_both: false, init_weights: true }
    : { peft_type: 'LORA', use_dora: false, ...common, bias: 'none', fan_in_fan_out: false, lora_dropout: 0, init_lora_weights: true, use_rslora: false };
  const tensors: Record<string, TensorData> = {};
  for (const { place: { module }, own } of modulesOf({ unet: adapter })) for (const [name, data] of matricesOf(own)) tensors[`base_model.model.${module}.${name}`] = data;
  try {
    mkdirs(folder);
    writeWhole(join(folder, 'adapter_config.json'), `${JSON.stringify(config, null, 2)}\n`);
  } catch (cause) {
    throw diskError(folder, cause);
  }
  writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors, { metadata: { format: 'pt', ...options.metadata } });
}

export interface KohyaOptions {
  /** A module's name in the file: `kohyaWriter`. */
  readonly nameOf: (place: LoraPlace) => string;
  /** ss_base_model_version, e.g. "sdxl_base_v1-0". */
  readonly baseVersion: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

const kohyaNames: Partial<Record<MatrixName, string>> = { 'lora_A.weight': 'lora_down.weight', 'lora_B.weight': 'lora_up.weight', lora_magnitude_vector: 'dora_scale' };

/**
 * Writes a file that kohya's trainer, A1111 and ComfyUI read, each module with its alpha; DoRA and LoKr as LyCORIS names them. A LoKr of two whole
 * factors has no rank to divide alpha by, so its scale goes into the first. Source: LyCORIS modules/lokr.py; ComfyUI comfy/weight_adapter/lokr.py.
 * @throws AppError('disk')
 */
export function writeKohyaLora(path: string, set: LoraSet, { nameOf, baseVersion, metadata }: KohyaOptions): void {
  const tensors: Record<string, TensorData> = {};
  const ranks: number[] = [];
  let alpha = 0;
  for (const { place, own, scale } of modulesOf(set)) {
    const name = nameOf(place);
    const { matrices } = own;
    const rank = (matrices['lora_A.weight'] ?? matrices.lokr_w2_b ?? matrices.lokr_w1_b)?.shape[0];
    for (const [matrix, { shape, data }] of matricesOf(own)) {
      const whole = rank === undefined && matrix === 'lokr_w1';
      // a DoRA's magnitude lies along the first axis
      const shaped = matrix === 'lora_magnitude_vector' ? [data.length, ...new Array<number>(own.kernel ? 3 : 1).fill(1)] : shape;
      tensors[`${name}.${kohyaNames[matrix] ?? matrix}`] = { shape: shaped, data: whole ? Float32Array.from(data, (value) => value * scale) : data };
    }
    ranks.push(rank ?? 1);
    alpha ||= scale * (rank ?? 0);
    tensors[`${name}.alpha`] = { shape: [], data: Float32Array.of(rank === undefined ? 1 : scale * rank) };
  }
  const lokr = LORA_PARTS.some((part) => set[part] && methodOf(set[part]) === 'lokr');
  const notes = {
    ss_network_module: lokr ? 'lycoris.kohya' : 'networks.lora', ...(lokr && { ss_network_args: JSON.stringify({ algo: 'lokr' }) }),
    ss_network_dim: String(ranks[0] ?? 0), ss_network_alpha: String(alpha), ss_base_model_version: baseVersion,
    ...(baseVersion.startsWith('sd_v2') && { ss_v2: 'True' }), sshs_model_hash: tensorsHash(tensors), format: 'pt',
  };
  writeSafetensors(path, tensors, { metadata: { ...notes, ...metadata } });
}

/** sha256 over the data section: tensors by name, as they lie in the file; kohya's addnet_hash_safetensors hashes the same bytes. */
function tensorsHash(tensors: Readonly<Record<string, TensorData>>): string {
  const hash = createHash('sha256');
  for (const name of Object.keys(tensors).sort()) {
    const { data } = tensors[name]!;
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

/** The parts that a set adapts. */
export function partsOf(set: LoraSet): LoraPart[] {
  return LORA_PARTS.filter((part) => set[part]);
}
