/**
 * A LoRA merged into its base model: W + scale B A (or what DoRA and LoKr make of W) in float32, written in the type the base file has, one tensor at a time. A diffusers
 * folder or a file in the original layout becomes either. Source: peft tuners/lora/layer.py get_delta_weight.
 */
import { copyFileSync, existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, relative } from 'node:path';
import { diskError, writeWhole } from '../../base/atomic.ts';
import { mkdirs } from '../../base/folder.ts';
import { AppError } from '../../base/errors.ts';
import { allSteps } from '../../base/work.ts';
import { readFloatsSync, scope } from '../../engine/scope.ts';
import { tf } from '../../engine/tf.ts';
import { standardVocabulary } from '../../models/clip-tokenizer.ts';
import { readJson } from '../../models/config.ts';
import type { ModelFiles, PartName } from '../../models/files.ts';
import { originalLayout, originalTensors } from '../../models/single-file/layout.ts';
import { configMetadata } from '../../models/single-file/settings.ts';
import { publishedMerges, publishedVocabulary } from '../../models/single-file/tokenizer.ts';
import { mergedWeight, update, type Adapter, type LoraMatrices, type LoraSet } from '../../nn/lora.ts';
import { openTensorFile } from '../../weights/file.ts';
import { weightFiles } from '../../weights/folder.ts';
import { floatToBfloat, floatToHalf } from '../../weights/half.ts';
import { bytesOf, type TensorEntry, type TensorSource, type TensorType } from '../../weights/source.ts';
import { writingTensors, type TensorToWrite } from '../../weights/write.ts';

/** A source's tensors with the adapter's updates added where it has a pair; the rest byte for byte. Closing it closes the source. */
export function mergedSource(source: TensorSource, adapter: Adapter | undefined): TensorSource {
  if (!adapter) return source;
  const found = new Map<string, LoraMatrices>();
  for (const [module, own] of Object.entries(adapter.modules)) {
    if (own?.matrices.bias) found.set(`${module}.bias`, { weight: own.matrices.bias });
    const key = [`${module}.weight`, `${module.replace(/^text_model\./, '')}.weight`].find((each) => source.entries.has(each));
    if (key && own) found.set(key, own.matrices);
  }
  const readFloats = (name: string): Float32Array<ArrayBuffer> => {
    const values = source.readFloats(name);
    const own = found.get(name);
    return own ? mergedValues(values, own, adapter.scale, () => `"${name}" of ${source.path} is [${source.entries.get(name)!.shape}]`) : values;
  };
  return {
    path: source.path, entries: source.entries, readFloats,
    readRaw: (name) => (found.has(name) ? encode(readFloats(name), source.entries.get(name)!) : source.readRaw(name)),
    close: () => source.close(),
    [Symbol.dispose]: () => source.close(),
  };
}

/** @param values the weight, [out, in * kh * kw] */
function mergedValues(values: Float32Array<ArrayBuffer>, own: LoraMatrices, scale: number, what: () => string): Float32Array<ArrayBuffer> {
  if (own.weight) return Float32Array.from(readFloatsSync(own.weight)); // tuned in full
  return scope(() => {
    const { shape: [rows, columns], size } = update(own);
    if (size !== values.length) throw new AppError('weights', `${what()}, which the LoRA's ${size} values do not fit.`);
    return Float32Array.from(readFloatsSync(mergedWeight(tf.tensor2d(values, [rows, columns]), own, scale)));
  });
}

/** Values as the type has them, rounded to nearest. @throws AppError('weights') where they do not fit it */
function encode(values: Float32Array<ArrayBuffer>, { name, dtype }: TensorEntry): Uint8Array<ArrayBuffer> {
  const encoders: Partial<Record<TensorType, (values: Float32Array) => ArrayBufferView>> = { F32: (v) => v, F64: (v) => Float64Array.from(v), F16: floatToHalf, BF16: floatToBfloat };
  const encoder = encoders[dtype];
  if (!encoder) throw new AppError('weights', `"${name}" is of the type ${dtype}, into which nothing can be merged.`, { hint: 'Use the float16, bfloat16 or float32 version of the model.' });
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (!Number.isFinite(largest) || (dtype === 'F16' && largest >= 65520)) throw new AppError('weights', `The merged "${name}" reaches ${largest}, too large for ${dtype}.`, { hint: 'Merge into the float32 version of the model.' });
  const bytes = encoder(values);
  return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

const notes = (lora: string): Record<string, string> => ({ 'drtune_studio.merged_lora': lora });
const stemOf = (part: PartName): string => (part.startsWith('text_encoder') ? 'model' : 'diffusion_pytorch_model');
const partsOf = (files: ModelFiles): PartName[] => ['unet', 'vae', 'text_encoder', ...(files.architecture === 'sdxl' ? ['text_encoder_2' as const] : [])];
const isFolder = (files: ModelFiles): boolean => statSync(files.path).isDirectory();
const asFile = /\.safetensors$/i;

/** Files of weights and their indices, in all the forms that lie in model folders. */
const weightEnds = /\.(safetensors|bin|ckpt|pt|pth|msgpack|h5|onnx|onnx_data|pb|gguf)$|\.(safetensors|bin)\.index(\.[\w-]+)?\.json$/i;

/**
 * Bytes the merged model will have, to be free where it is written.
 * @param out a .safetensors file, or a folder
 */
export function mergedBytes(files: ModelFiles, out: string): number {
  if (isFolder(files) && !asFile.test(out)) return copied(files).reduce((sum, file) => sum + statSync(file).size, 0);
  if (!isFolder(files)) return statSync(files.path).size;
  using parts = new OpenParts(files, {});
  return parts.originals().reduce((sum, { shape, dtype }) => sum + shape.reduce((product, n) => product * n, bytesOf[dtype]), 0);
}

/** A model's parts with a LoRA merged into them, each opened when it is first asked for. */
class OpenParts implements Disposable {
  private readonly files: ModelFiles;
  private readonly set: LoraSet;
  private readonly open = new Map<PartName, TensorSource>();

  constructor(files: ModelFiles, set: LoraSet) {
    this.files = files;
    this.set = set;
  }

  /** The tensors of the model as one file in the original layout. */
  originals(): TensorToWrite[] {
    return originalTensors(originalLayout(this.files.architecture, this.files.config), (part) => this.part(part));
  }

  part(part: PartName): TensorSource {
    const source = this.open.get(part) ?? mergedSource(prefixed(this.files.open(part)), part === 'vae' ? undefined : this.set[part]);
    this.open.set(part, source);
    return source;
  }

  [Symbol.dispose](): void {
    for (const source of this.open.values()) source.close();
  }
}

/**
 * Writes the merged model at `out`, which must not be there.
 * @param out a .safetensors file (original layout), otherwise a folder in diffusers format
 * @param lora told in the files' metadata
 * @throws AppError('weights' | 'disk')
 */
export function writeMerged(files: ModelFiles, set: LoraSet, out: string, lora: string): void {
  allSteps(merging(files, set, out, lora));
}

/** As {@link writeMerged}, step by step: yields bytes when they are written. */
export function* merging(files: ModelFiles, set: LoraSet, out: string, lora: string): Generator<number, void> {
  for (const part of ['unet', 'text_encoder', 'text_encoder_2'] as const) if (set[part]) checkModules(files, part, set[part]);
  if (asFile.test(out)) {
    if (isFolder(files)) yield* folderToFile(files, set, out, lora);
    else yield* fileToFile(files, set, out, lora);
  } else if (isFolder(files)) yield* folderToFolder(files, set, out, lora);
  else yield* fileToFolder(files, set, out, lora);
}

function checkModules(files: ModelFiles, part: PartName, adapter: Adapter): void {
  using source = files.open(part);
  const missing = Object.keys(adapter.modules).filter((module) => !source.entries.has(`${module}.weight`) && !source.entries.has(`${module.replace(/^text_model\./, '')}.weight`));
  if (missing.length > 0) throw new AppError('weights', `${files.path} has no ${missing[0]}.weight in its ${part}, which the LoRA adapts.`, { hint: 'Export from the model that the run was tuned from.' });
}

function toWrite(source: TensorSource): TensorToWrite[] {
  return [...source.entries.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape, read: () => source.readRaw(name) }));
}

/** The files of a model folder that are copied or rewritten: of each part's weights only those that are read. */
function copied(files: ModelFiles): string[] {
  const paths = filesBelow(files.path, 0);
  const chosen = new Set(partsOf(files).flatMap((part) => partFiles(files, part)));
  const partFolders = new Set(partsOf(files).map((part) => join(files.path, part)));
  const others = new Map<string, string[]>(); // weights of folders that are no part of ours, e.g. the safety checker
  for (const path of paths) if (weightEnds.test(path) && !partFolders.has(dirname(path))) others.set(dirname(path), [...(others.get(dirname(path)) ?? []), path]);
  return paths.filter((path) => {
    if (!weightEnds.test(path)) return true;
    if (dirname(path) === files.path) return false; // the whole model once more in one file
    if (partFolders.has(dirname(path))) return chosen.has(path) || (path.endsWith('.json') && isIndexOf(path, chosen));
    return others.get(dirname(path))!.length === 1 || asFile.test(path) || !others.get(dirname(path))!.some((each) => asFile.test(each));
  });
}

/** Files of a model folder, links followed; what leads nowhere is left out, and so are other programs' hidden folders. */
function filesBelow(folder: string, depth: number): string[] {
  return readdirSync(folder).filter((name) => !/^\.(git|cache|huggingface)$/.test(name)).flatMap((name) => {
    const path = join(folder, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory()) return depth < 4 ? filesBelow(path, depth + 1) : []; // links may go round in circles
    return stat?.isFile() ? [path] : [];
  });
}

/** Whether an index of shards names none but those that are kept. */
function isIndexOf(index: string, kept: ReadonlySet<string>): boolean {
  const shards = Object.values((readJson(index)['weight_map'] ?? {}) as Record<string, string>);
  return shards.length > 0 && shards.every((shard) => kept.has(join(dirname(index), shard)));
}

function partFiles(files: ModelFiles, part: PartName): string[] {
  return weightFiles(join(files.path, part), { what: part, stem: stemOf(part) });
}

function* folderToFolder(files: ModelFiles, set: LoraSet, out: string, lora: string): Generator<number, void> {
  const rewritten = new Map<string, Adapter>();
  const pickled = new Set<string>(); // folders whose weights become one safetensors file
  for (const part of ['unet', 'text_encoder', 'text_encoder_2'] as const) {
    const adapter = set[part];
    if (!adapter) continue;
    const chosen = partFiles(files, part);
    if (chosen.every((file) => asFile.test(file))) for (const file of chosen) rewritten.set(file, adapter);
    else {
      pickled.add(join(files.path, part));
      using source = mergedSource(files.open(part), adapter);
      makeFolder(join(out, part));
      yield* writingTensors(join(out, part, `${stemOf(part)}.safetensors`), toWrite(source), { format: 'pt', ...notes(lora) });
    }
  }
  for (const file of copied(files)) {
    if (pickled.has(dirname(file)) && weightEnds.test(file)) continue;
    const to = join(out, relative(files.path, file));
    const adapter = rewritten.get(file);
    if (adapter) yield* rewrite(file, to, adapter, lora);
    else {
      copy(file, to);
      yield statSync(to).size;
    }
  }
}

function* rewrite(file: string, to: string, adapter: Adapter, lora: string): Generator<number, void> {
  makeFolder(dirname(to));
  using source = openTensorFile(file);
  yield* writingTensors(to, toWrite(mergedSource(source, adapter)), { format: 'pt', ...source.metadata, ...notes(lora) });
}

function* folderToFile(files: ModelFiles, set: LoraSet, out: string, lora: string): Generator<number, void> {
  using parts = new OpenParts(files, set);
  makeFolder(dirname(out));
  yield* writingTensors(out, parts.originals(), { format: 'pt', ...configMetadata(files), ...notes(lora) });
  // A file has no tokenizer: where it is not CLIP's own, it goes beside the file.
  for (const part of partsOf(files)) {
    if (!part.startsWith('text_encoder') || files.config(part).size('vocab_size', publishedVocabulary) === publishedVocabulary) continue;
    const name = part.replace('text_encoder', 'tokenizer');
    copy(join(files.path, name), join(dirname(out), `${basename(out, extname(out))}.${name}`));
  }
}

/** Keys as the original layout's table asks for them: old files of text encoders lack "text_model.". */
function prefixed(source: TensorSource): TensorSource {
  if (!source.entries.has('embeddings.token_embedding.weight')) return source;
  const own = (name: string): string => name.replace(/^text_model\./, '');
  const entries = new Map([...source.entries.values()].map((entry) => {
    const name = /^(embeddings|encoder|final_layer_norm)\./.test(entry.name) ? `text_model.${entry.name}` : entry.name;
    return [name, { ...entry, name }] as const;
  }));
  return { ...source, entries, readFloats: (name) => source.readFloats(own(name)), readRaw: (name) => source.readRaw(own(name)), [Symbol.dispose]: () => source.close() };
}

function* fileToFile(files: ModelFiles, set: LoraSet, out: string, lora: string): Generator<number, void> {
  using raw = openTensorFile(files.path);
  using parts = new OpenParts(files, set);
  const layout = originalLayout(files.architecture, files.config);
  const merged = new Map<string, TensorToWrite>();
  for (const tensor of parts.originals()) {
    const { part, from } = layout.get(tensor.name)!;
    const modules = part === 'vae' ? undefined : set[part]?.modules;
    if (!modules || !from.some(({ key }) => modules[key.replace(/\.weight$/, '')] || modules[key.replace(/\.bias$/, '')]?.matrices.bias)) continue;
    merged.set(raw.entries.has(tensor.name) ? tensor.name : tensor.name.replace('.transformer.text_model.', '.transformer.'), tensor);
  }
  // the file's own shapes: some leave out the ones of a 1x1 convolution
  const tensors = toWrite(raw).map((tensor) => ({ ...tensor, read: () => merged.get(tensor.name)?.read() ?? tensor.read() }));
  makeFolder(dirname(out));
  yield* writingTensors(out, tensors, { format: 'pt', ...raw.metadata, ...notes(lora) });
  for (const ending of ['.json', '.yaml']) if (existsSync(files.path + ending)) copy(files.path + ending, out + ending);
  const [from, to] = [files.path, out].map((path) => join(dirname(path), basename(path, extname(path)))) as [string, string];
  for (const ending of ['.yaml', '.tokenizer', '.tokenizer_2']) if (existsSync(from + ending)) copy(from + ending, to + ending);
}

/** A folder in diffusers format, with the configs that the file's shapes and settings tell. */
function* fileToFolder(files: ModelFiles, set: LoraSet, out: string, lora: string): Generator<number, void> {
  using parts = new OpenParts(files, set);
  for (const part of partsOf(files)) {
    makeFolder(join(out, part));
    writeJson(join(out, part, 'config.json'), partConfig(files, part));
    yield* writingTensors(join(out, part, `${stemOf(part)}.safetensors`), toWrite(parts.part(part)), { format: 'pt', ...(set[part as keyof LoraSet] && notes(lora)) });
    if (part.startsWith('text_encoder')) writeTokenizer(files, part, join(out, part.replace('text_encoder', 'tokenizer')));
  }
  writeJson(join(out, 'scheduler', 'scheduler_config.json'), files.scheduler.config);
  const xl = files.architecture === 'sdxl';
  writeJson(join(out, 'model_index.json'), {
    _class_name: xl ? 'StableDiffusionXLPipeline' : 'StableDiffusionPipeline', ...(xl ? { force_zeros_for_empty_prompt: true } : { requires_safety_checker: false }),
    feature_extractor: [null, null], image_encoder: [null, null], ...(!xl && { safety_checker: [null, null] }),
    scheduler: ['diffusers', files.scheduler.config['_class_name']], unet: ['diffusers', 'UNet2DConditionModel'], vae: ['diffusers', 'AutoencoderKL'],
    text_encoder: ['transformers', 'CLIPTextModel'], tokenizer: ['transformers', 'CLIPTokenizer'],
    ...(xl && { text_encoder_2: ['transformers', 'CLIPTextModelWithProjection'], tokenizer_2: ['transformers', 'CLIPTokenizer'] }),
  });
}

/** A part's config.json: lists of equal numbers as one, since diffusers wants one number of layers where it numbers blocks itself. */
function partConfig(files: ModelFiles, part: PartName): Record<string, unknown> {
  const values = Object.entries(files.config(part).values).map(([key, value]) => {
    const alike = key === 'layers_per_block' && Array.isArray(value) && value.every((each) => each === value[0]);
    return [key, alike ? (value as unknown[])[0] : value] as const;
  });
  const clip = { architectures: [part === 'text_encoder' ? 'CLIPTextModel' : 'CLIPTextModelWithProjection'], model_type: 'clip_text_model' };
  return { ...(part.startsWith('text_encoder') && clip), ...Object.fromEntries(values) };
}

/** CLIP's own, or the folder that stood beside the file. */
function writeTokenizer(files: ModelFiles, part: PartName, folder: string): void {
  const name = basename(folder);
  if (files.config(part).size('vocab_size', publishedVocabulary) !== publishedVocabulary) {
    const from = [join(dirname(files.path), `${basename(files.path, extname(files.path))}.${name}`), join(dirname(files.path), name)].find((each) => existsSync(each));
    if (!from) throw new AppError('weights', `There is no ${name} beside ${files.path}.`, { hint: 'Put the model\'s tokenizer folder there.' });
    return copy(from, folder);
  }
  const pad = files.architecture === 'sd2' || part === 'text_encoder_2' ? '!' : '<|endoftext|>';
  const marks = { bos_token: '<|startoftext|>', eos_token: '<|endoftext|>', pad_token: pad, unk_token: '<|endoftext|>' };
  const merges = publishedMerges();
  writeText(join(folder, 'vocab.json'), JSON.stringify(Object.fromEntries(standardVocabulary(merges).map((token, id) => [token, id]))));
  writeText(join(folder, 'merges.txt'), `#version: 0.2\n${merges.join('\n')}\n`);
  writeJson(join(folder, 'special_tokens_map.json'), marks);
  writeJson(join(folder, 'tokenizer_config.json'), { add_prefix_space: false, do_lower_case: true, errors: 'replace', model_max_length: 77, tokenizer_class: 'CLIPTokenizer', ...marks });
}

const writeJson = (path: string, value: unknown): void => writeText(path, `${JSON.stringify(value, null, 2)}\n`);

/** @returns the topmost folder that had to be made, undefined if it was there */
export function makeFolder(folder: string): string | undefined {
  try {
    return mkdirs(folder);
  } catch (cause) {
    throw diskError(folder, cause);
  }
}

/** A file or folder; links become what they lead to. File by file, as Node's own copy of a folder calls a full disk an input error. */
function copy(from: string, to: string): void {
  if (statSync(from).isDirectory()) return filesBelow(from, 0).forEach((file) => copy(file, join(to, relative(from, file))));
  makeFolder(dirname(to));
  try {
    copyFileSync(from, to);
  } catch (cause) {
    throw diskError(to, cause);
  }
}

function writeText(path: string, text: string): void {
  makeFolder(dirname(path));
  try {
    writeWhole(path, text);
  } catch (cause) {
    throw diskError(path, cause);
  }
}
