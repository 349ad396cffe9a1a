/**
 * A checkpoint's LoRA for other programs, without an engine: names change, values do not. Checkpoints hold diffusers' keys
 * (`unet.PATH.lora_A.weight`) and the adapter's settings as diffusers stores them.
 * Source: peft utils/save_and_load.py, diffusers loaders/lora_base.py.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AppError, errorLine } from '../base/errors.ts';
import { openSafetensors, writeSafetensors, type TensorData } from '../weights/safetensors.ts';

const OURS = 'unet.';
const PEFT = 'base_model.model.';
const SETTINGS = 'lora_adapter_metadata';

/**
 * @param path file for diffusers, folder for PEFT
 * @throws AppError('weights') where the checkpoint is damaged, AppError('disk') where the export cannot be written or read back
 */
export function exportLora(source: string, format: 'diffusers' | 'peft', path: string, baseModel: string): void {
  const { tensors, settings } = readAdapter(source);
  if (format === 'diffusers') {
    makeFolder(dirname(path));
    writeSafetensors(path, tensors, { metadata: { format: 'pt', [SETTINGS]: JSON.stringify(settings) } });
    return verify(path, tensors);
  }
  const renamed = Object.fromEntries(Object.entries(tensors).map(([key, tensor]) => [PEFT + key.slice(OURS.length), tensor]));
  makeFolder(path);
  const file = join(path, 'adapter_model.safetensors');
  writeSafetensors(file, renamed, { metadata: { format: 'pt' } });
  writeFileSync(join(path, 'adapter_config.json'), `${JSON.stringify(peftConfig(settings, tensors, baseModel), null, 2)}\n`);
  verify(file, renamed);
}

interface Read { tensors: Record<string, TensorData>; settings: Record<string, unknown> }

function readAdapter(source: string): Read {
  using file = openSafetensors(source);
  const tensors: Record<string, TensorData> = {};
  for (const [key, { shape }] of file.entries) {
    if (!key.startsWith(OURS)) throw new AppError('weights', `The checkpoint ${source} has an unknown key ${key}.`);
    const data = file.readFloats(key);
    if (!data.every(Number.isFinite)) throw new AppError('weights', `The checkpoint ${source} holds values that are not finite (${key}).`, { hint: 'Export an earlier step.' });
    tensors[key] = { shape, data };
  }
  const stored = file.metadata[SETTINGS];
  return { tensors, settings: stored ? (JSON.parse(stored) as Record<string, unknown>) : {} };
}

/** PEFT's config; where the checkpoint says nothing, rank and modules are read off the matrices and alpha is the rank. */
function peftConfig(settings: Record<string, unknown>, tensors: Record<string, TensorData>, baseModel: string): Record<string, unknown> {
  const matrices = Object.entries(tensors).filter(([key]) => key.endsWith('.lora_A.weight'));
  const rank = matrices[0]?.[1].shape[0] ?? 1;
  return {
    peft_type: 'LORA', base_model_name_or_path: baseModel, inference_mode: true,
    r: settings['unet.r'] ?? rank, lora_alpha: settings['unet.lora_alpha'] ?? rank,
    target_modules: settings['unet.target_modules'] ?? matrices.map(([key]) => key.slice(OURS.length, -'.lora_A.weight'.length)).sort(),
    rank_pattern: settings['unet.rank_pattern'] ?? {}, alpha_pattern: settings['unet.alpha_pattern'] ?? {},
    bias: 'none', fan_in_fan_out: false, lora_dropout: 0, init_lora_weights: true, use_rslora: false, use_dora: false, task_type: null,
  };
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw new AppError('disk', `The folder ${folder} cannot be made: ${errorLine(cause)}.`, { hint: 'Check free space and permissions.', cause });
  }
}

function verify(path: string, tensors: Record<string, TensorData>): void {
  using file = openSafetensors(path);
  const equal = file.entries.size === Object.keys(tensors).length && Object.entries(tensors).every(([key, { data }]) => {
    const again = file.entries.has(key) ? file.readFloats(key) : [];
    return again.length === data.length && data.every((value, i) => value === again[i]);
  });
  if (!equal) throw new AppError('disk', `${path} does not hold what was written.`, { hint: 'Try again; check the disk.' });
}
