/**
 * A run's LoRA for other programs: a LoRA file of diffusers or kohya, a folder of PEFT, or the whole model with the LoRA merged into it.
 * Everything is written beside its place, opened again by the code that opens anyone's files, and its picture compared with that of base
 * and checkpoint; only then does it take its place.
 */
import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { byFinalName, diskError } from '../../base/atomic.ts';
import { freeBytes } from '../../base/disk.ts';
import { AppError } from '../../base/errors.ts';
import { stepping, unwatched, type Work } from '../../base/work.ts';
import { readFloatsSync } from '../../engine/scope.ts';
import { tf } from '../../engine/tf.ts';
import type { Engine } from '../../engine/engine.ts';
import { openModelFiles, type ModelFiles } from '../../models/files.ts';
import type { LoraSet } from '../../nn/lora.ts';
import type { TensorType } from '../../weights/source.ts';
import { disposeLoras, lorasHash, methodOf, setOf } from '../adapter.ts';
import { openPipeline } from '../load.ts';
import { readLoras, readRunLora } from '../lora-file.ts';
import type { Pipeline, PipelineMemory } from '../pipeline.ts';
import { sampleAt } from '../sample.ts';
import { makeFolder, mergedBytes, merging } from './merge.ts';
import { kohyaWriter } from './names.ts';
import { writeDiffusersLora, writeKohyaLora, writePeftLora } from './write.ts';

export const EXPORT_FORMATS = ['diffusers', 'kohya', 'peft', 'merged'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

export interface ExportRequest {
  readonly model: { readonly name: string; readonly path: string };
  /** The checkpoint's LoRA file. */
  readonly checkpoint: string;
  readonly format: ExportFormat;
  /** Absolute. Ends in .safetensors for a file; a folder otherwise (into which diffusers' and kohya's file goes under its usual name). */
  readonly out: string;
  /** What the compared picture is of. */
  readonly prompt: string;
  /** Noted in the files. */
  readonly run: string;
  readonly step: number;
}

export interface ExportReport {
  readonly format: ExportFormat;
  /** The file, or the folder of PEFT and merged models. */
  readonly path: string;
  readonly bytes: number;
  readonly modules: number;
  /** Hash of the checkpoint's adapter, as pictures carry it. */
  readonly weights: string;
  /** Relative L2 of the picture by the export to that by base and checkpoint, and to that by the base alone. */
  readonly difference: number;
  readonly fromBase: number;
  /** What `difference` had to stay below. */
  readonly bound: number;
  /** One line of what was checked. */
  readonly checked: string;
}

/** Where an export goes: what is written lands in `folder` under `names`. */
interface Place {
  readonly folder: string;
  readonly name: string;
  /** What is reported as the export's path. */
  readonly path: string;
}

/** diffusers looks for this name in a folder. */
const DIFFUSERS_FILE = 'pytorch_lora_weights.safetensors';
const KOHYA_FILE = 'lora.safetensors';

/**
 * Exports and checks.
 * @throws AppError where anything cannot be read or written, where the export's picture is not the checkpoint's, or where `work` is ended; nothing is left then
 */
export async function exportRunLora(engine: Engine, request: ExportRequest, work: Work = unwatched): Promise<ExportReport> {
  const { format, model } = request;
  const place = placeOf(request);
  const files = openModelFiles(model.path);
  checkPlace(request, place, files);
  const staging = join(place.folder, `.${place.name}.part`);
  let pipeline: Pipeline | null = null;
  let set: LoraSet = {};
  const made = makeFolder(place.folder);
  let done = false;
  try {
    rmSync(staging, { recursive: true, force: true });
    pipeline = await openPipeline(engine, model.path, { name: model.name, memory: sparing });
    const modules = pipeline.loraModules();
    set = setOf(readRunLora(request.checkpoint, modules));
    checkForm(format, set);
    await pipeline.load(work);
    const base = await paint(pipeline, {}, request.prompt, work, 'painting with the base model');
    const tuned = await paint(pipeline, set, request.prompt, work, 'painting with the checkpoint');
    await work.at('writing');
    const { architecture } = pipeline.info;
    makeFolder(staging);
    const staged = join(staging, place.name);
    const metadata = { drtune_run: request.run, drtune_step: String(request.step) };
    let again: Float32Array;
    if (format === 'merged') {
      pipeline.dispose(); // the base and the export need not be in memory together
      pipeline = null;
      let written = 0;
      await stepping(work, 'merging and writing', mergedBytes(files, staged), merging(files, set, staged, `${request.run} step ${request.step}`), (bytes) => (written += bytes));
      pipeline = await openPipeline(engine, staged, { memory: sparing });
      await pipeline.load(work);
      again = await paint(pipeline, {}, request.prompt, work, AGAIN);
    } else {
      if (format === 'diffusers') writeDiffusersLora(staged, set, metadata);
      else if (format === 'peft') writePeftLora(staged, set.unet!, { baseModel: model.path, metadata });
      else writeKohyaLora(staged, set, { nameOf: kohyaWriter(modules, architecture === 'sdxl'), baseVersion: baseVersion(files), metadata });
      const read = readLoras(staged, modules);
      try {
        again = await paint(pipeline, read, request.prompt, work, AGAIN);
      } finally {
        disposeLoras(read);
      }
    }
    const type = format === 'merged' ? coarsest(files, set) : 'F32';
    const result = compare({ base, tuned, again }, type, request);
    const bytes = settle(staging, place, format);
    done = true;
    return { format, path: place.path, bytes, modules: Object.values(set).reduce((sum, adapter) => sum + Object.keys(adapter.modules).length, 0), weights: lorasHash(set).slice(0, 16), ...result };
  } catch (error) {
    throw byFinalName(error, staging, place.folder);
  } finally {
    pipeline?.dispose();
    disposeLoras(set);
    rmSync(staging, { recursive: true, force: true });
    if (!done && made !== undefined) rmSync(made, { recursive: true, force: true });
  }
}

/** What a form cannot hold. @throws AppError('config') */
function checkForm(format: ExportFormat, { unet, ...text }: LoraSet): void {
  if (format !== 'merged' && methodOf(unet!) === 'full') throw new AppError('config', 'This run tuned the whole network, so there is no LoRA to export.', { hint: 'Export it as merged: a whole model.' });
  if (format === 'diffusers' && methodOf(unet!) === 'lokr') throw new AppError('config', 'diffusers reads no LoKr for Stable Diffusion.', { hint: 'Export it as peft or kohya, or merged into the model.' });
  if (format === 'peft' && Object.keys(text).length > 0) throw new AppError('config', "PEFT's folder holds one network, and this run trained text encoders too.", { hint: 'Export it as diffusers or kohya, or merged into the model.' });
}

function placeOf({ format, out }: ExportRequest): Place {
  const file = /\.safetensors$/i.test(out);
  if (format === 'peft') {
    if (file) throw new AppError('config', `PEFT reads a folder, and ${out} is named like a file.`, { hint: 'Leave out ".safetensors".' });
    return { folder: dirname(out), name: basename(out), path: out };
  }
  if (file || format === 'merged') return { folder: dirname(out), name: basename(out), path: out };
  const name = format === 'kohya' ? KOHYA_FILE : DIFFUSERS_FILE;
  return { folder: out, name, path: join(out, name) };
}

/** Before anything is loaded: a place that is taken, a disk that is full. */
function checkPlace({ format, model }: ExportRequest, { folder, path }: Place, files: ModelFiles): void {
  if (existsSync(path)) {
    const empty = statSync(path).isDirectory() && readdirSync(path).length === 0;
    if (format === 'merged' && !empty) throw new AppError('config', `There is already something at ${path}.`, { hint: 'Name another place for the merged model.' });
    if (format === 'peft' && !statSync(path).isDirectory()) throw new AppError('config', `${path} is a file, and PEFT reads a folder.`, { hint: 'Name a folder.' });
    if (format === 'peft' && !empty && !existsSync(join(path, 'adapter_config.json'))) {
      throw new AppError('config', `The folder ${path} holds other things than a PEFT adapter.`, { hint: 'Name a folder of its own.' });
    }
    if (format !== 'peft' && format !== 'merged' && statSync(path).isDirectory()) throw new AppError('config', `${path} is a folder, and the LoRA is a file.`, { hint: 'Name a file that ends in .safetensors.' });
  }
  if (format !== 'merged') return;
  const needed = mergedBytes(files, path);
  const free = freeBytes(folder);
  if (free < needed) {
    throw new AppError('disk', `The merged model of ${model.name} takes ${gigabytes(needed)} and ${folder} has ${gigabytes(free)} free.`, { hint: 'Free some space, name another place, or export the LoRA alone.' });
  }
}

const gigabytes = (bytes: number): string => (bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

/** Weights in the file's own type, text encoders and VAE only while they work: a few pictures, and perhaps a run at work beside. */
const sparing: PipelineMemory = {
  unet: { precision: 'stored', memory: 'residuals' }, vae: { precision: 'stored', memory: 'residuals' }, text: 'stored', leave: new Set(['textEncoders', 'vae']),
};

/** Pictures for the comparison: the model's own size, but no larger, and few steps. */
const checkPixels = 256;
const checkSteps = 3;

const AGAIN = 'painting with what was written';

/** [H, W, 3] of one prompt, seed 0, without clamping. */
async function paint(pipeline: Pipeline, set: LoraSet, prompt: string, work: Work, what: string): Promise<Float32Array> {
  const { vaeFactor, defaultWidth, defaultHeight } = pipeline.info;
  const most = Math.max(1, Math.floor(checkPixels / vaeFactor)) * vaeFactor;
  const { noise, latents, image } = await sampleAt(work, { what, before: 0, total: 1 }, pipeline, {
    prompts: [prompt], guidance: 2, scheduler: 'ddim', steps: checkSteps, seed: 0, width: Math.min(defaultWidth, most), height: Math.min(defaultHeight, most),
    adapter: set.unet ?? null, textAdapters: set,
  });
  try {
    return Float32Array.from(readFloatsSync(image));
  } finally {
    tf.dispose([noise, latents, image]);
  }
}

/**
 * How far the picture may be off by the export's type. A float32 export differs by the order of additions only. Merged weights are rounded
 * to the base's own type, at most 2^-11 (float16) or 2^-8 (bfloat16) of each weight; seen on the starter: 2e-4 and 6e-4 of the picture.
 */
const bounds: Partial<Record<TensorType, number>> = { F64: 1e-3, F32: 1e-3, F16: 5e-3, BF16: 4e-2 };
const typeNames: Partial<Record<TensorType, string>> = { F64: 'float64', F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

/** The type of the adapted weights of least precision. */
function coarsest(files: ModelFiles, set: LoraSet): TensorType {
  const order: readonly TensorType[] = ['BF16', 'F16', 'F32', 'F64'];
  const types = new Set<TensorType>();
  for (const part of ['unet', 'text_encoder', 'text_encoder_2'] as const) {
    if (!set[part]) continue;
    using source = files.open(part);
    for (const module of Object.keys(set[part].modules)) {
      const weight = source.entries.get(`${module}.weight`) ?? source.entries.get(`${module.replace(/^text_model\./, '')}.weight`); // as transformers 5 names them
      types.add(weight!.dtype);
    }
  }
  return order.find((type) => types.has(type)) ?? 'F32';
}

interface Pictures { base: Float32Array; tuned: Float32Array; again: Float32Array }

/** @throws AppError('run') unless the export paints what the checkpoint paints, and something else than the base */
function compare({ base, tuned, again }: Pictures, type: TensorType, { step, format }: ExportRequest): Pick<ExportReport, 'difference' | 'fromBase' | 'bound' | 'checked'> {
  const bound = bounds[type] ?? 1e-3;
  const difference = relativeL2(again, tuned);
  const fromBase = relativeL2(again, base);
  const effect = relativeL2(tuned, base);
  if (!(effect > 0)) throw new AppError('run', `The LoRA of step ${step} changes nothing: its picture is the base model's.`, { hint: 'Export a later step.' });
  if (!(difference < bound)) {
    throw new AppError('run', `The export was removed: its picture differs from the checkpoint's by ${difference.toExponential(1)}, the bound for ${typeNames[type]} is ${bound}.`, {
      hint: format === 'merged' && type !== 'F32' ? `Merge into the float32 version of the model, or export the LoRA alone.` : 'Try again; check the disk.',
    });
  }
  if (!(difference < effect / 2)) {
    throw new AppError('run', `The export was removed: the base model's ${typeNames[type]} rounds away what step ${step} has learnt (${effect.toExponential(1)} of the picture, rounding ${difference.toExponential(1)}).`, {
      hint: 'Train further, merge into the float32 version of the model, or export the LoRA alone.',
    });
  }
  return { difference, fromBase, bound, checked: `read back, its picture differs from the checkpoint's by ${difference.toExponential(1)} (bound ${bound}) and from the base's by ${fromBase.toExponential(1)}` };
}

/** |a - b| / |b| */
function relativeL2(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Infinity;
  let [difference, norm] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return Math.sqrt(norm > 0 ? difference / norm : difference);
}

/** Moves what was written and checked to its place. @returns its bytes */
function settle(staging: string, { folder }: Place, format: ExportFormat): number {
  try {
    let bytes = 0;
    for (const entry of readdirSync(staging, { withFileTypes: true, recursive: true })) if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size;
    for (const name of readdirSync(staging)) {
      const to = join(folder, name);
      if (existsSync(to) && statSync(to).isDirectory() && (format === 'peft' || readdirSync(to).length === 0)) rmSync(to, { recursive: true });
      renameSync(join(staging, name), to);
    }
    return bytes;
  } catch (cause) {
    throw diskError(folder, cause);
  }
}

/** As kohya's trainer notes it. Source: kohya-ss/sd-scripts library/model_util.py, sdxl_model_util.py. */
function baseVersion({ architecture, scheduler }: ModelFiles): string {
  if (architecture === 'sdxl') return 'sdxl_base_v1-0';
  return architecture === 'sd1' ? 'sd_v1' : scheduler.config['prediction_type'] === 'v_prediction' ? 'sd_v2_v' : 'sd_v2';
}
