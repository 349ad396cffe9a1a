/**
 * Reads LoRA files: diffusers' keys old and new, PEFT's folders, kohya's names with alphas; safetensors, or torch's own files. What is no LoRA of this model is refused in
 * one line that names what it is. Writing: lora/write.ts.
 * Source: diffusers 0.42.1 loaders/lora_base.py, lora_conversion_utils.py, utils/peft_utils.py get_peft_kwargs; peft tuners/lora/model.py;
 * kohya-ss/sd-scripts networks/lora.py.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AppError } from '../base/errors.ts';
import { tf } from '../engine/tf.ts';
import { LORA_PARTS, type Adapter, type LoraMatrices, type LoraModule, type LoraPart, type LoraSet, type LoraTarget, type MatrixName } from '../nn/lora.ts';
import { openTensorFile } from '../weights/file.ts';
import { openWeightFolder } from '../weights/folder.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import type { TensorFile, TensorSource } from '../weights/source.ts';
import { adapterOfSet, disposeAdapter } from './adapter.ts';
import { nameReader, type LoraModules } from './lora/names.ts';
import { NETWORK_STEM, parameterKey } from './lora/write.ts';

export interface ReadLoraOptions {
  /** For a file that does not say; the rank if left out (scale 1). */
  readonly alpha?: number;
}

/**
 * Reads a LoRA for a whole pipeline; the caller disposes the adapters. Alpha is taken from `.alpha` keys, else from what PEFT or diffusers
 * noted beside the weights, else from the options. Where modules differ in alpha / rank, the difference goes into B.
 * @param path a .safetensors file (or torch's own .bin, .pt), or a folder of PEFT or diffusers
 * @param modules what may occur: `pipeline.loraModules()`
 * @throws AppError('weights'): one line with what it is, or what is unknown, incomplete or of another shape
 */
export function readLoras(path: string, modules: LoraModules, options: ReadLoraOptions = {}): LoraSet {
  const { file, notes } = openLora(path);
  using source = file;
  const found = collectModules(source, modules);
  checkModules(source, found, modules);
  const set: { [part in LoraPart]?: Adapter } = {};
  try {
    for (const part of LORA_PARTS) {
      const own = found.get(part);
      if (own && notes?.[part]?.dora && [...own.values()].some((keys) => !keys.lora_magnitude_vector)) {
        throw new AppError('weights', `${source.path} is a DoRA by its settings, and ${own.keys().next().value} has no magnitudes (lora_magnitude_vector).`);
      }
      if (own) set[part] = readAdapter(source, own, notes?.[part], new Map(modules[part]!.map((target) => [target.path, target])), options);
    }
    return set;
  } catch (error) {
    for (const adapter of Object.values(set)) disposeAdapter(adapter);
    throw error;
  }
}

/**
 * Reads a LoRA of the UNet alone; the caller disposes it.
 * @param options.targets modules that may occur, with their sizes: those of a run's config, or all
 * @throws AppError('weights') as {@link readLoras}, and for keys of text encoders
 */
export function readLora(path: string, options: ReadLoraOptions & { readonly targets: readonly LoraTarget[] }): Adapter {
  const { unet } = readLoras(path, { unet: options.targets }, options);
  return unet!; // a file without modules is refused
}

const isNetwork = (path: string): boolean => basename(path).startsWith(NETWORK_STEM);

/** A checkpoint's weights: a LoRA file, or the files of a network tuned in full. @param path of the file, or of the index of several */
export function openRunWeights(path: string): TensorSource {
  return isNetwork(path) ? openWeightFolder(dirname(path), { what: 'the tuned UNet', stem: NETWORK_STEM }) : openSafetensors(path);
}

/** The key of a trained parameter in {@link openRunWeights}. */
export const runWeightKey = (path: string, name: string): string => (isNetwork(path) ? name : parameterKey(name));

/** The UNet's own weights, by diffusers' keys. */
function readNetwork(path: string): Adapter {
  using file = openRunWeights(path);
  const modules: Record<string, LoraModule> = {};
  for (const [key, { shape }] of file.entries) {
    const [, module, end] = /^(.+)\.(weight|bias)$/.exec(key) ?? [];
    if (module === undefined || end === undefined) throw new AppError('weights', `${path} has "${key}", which is no weight of a UNet.`);
    const rows = shape.length === 1 ? 1 : shape[0]!;
    const values = readFinite(file, key);
    const matrices = { ...modules[module]?.matrices, [end]: tf.tensor2d(values, [rows, values.length / rows]) };
    modules[module] = { ...modules[module], matrices, ...(shape.length === 4 && { kernel: [shape[2]!, shape[3]!] as const }) };
  }
  return { scale: 1, modules };
}

/** Reads a run's LoRA with those of its text encoders; the caller disposes it. @throws AppError('weights') as {@link readLoras} */
export function readRunLora(path: string, modules: LoraModules): Adapter {
  if (isNetwork(path)) return readNetwork(path);
  return adapterOfSet(readLoras(path, modules));
}

/** What PEFT's adapter_config.json or diffusers' metadata say of one part. */
interface Notes {
  readonly alpha: number | undefined;
  readonly alphas: ReadonlyArray<readonly [RegExp, number]>;
  /** alpha / sqrt(rank) in place of alpha / rank. */
  readonly rootScale: boolean;
  /** Said to be a DoRA. */
  readonly dora: boolean;
  /** LoKr's rank and factor, which whole factors do not show. */
  readonly rank: number | undefined;
  readonly factor: number | undefined;
}

type PartNotes = { readonly [part in LoraPart]?: Notes };

function openLora(path: string): { file: TensorFile; notes: PartNotes | undefined } {
  let weights = path;
  if (existsSync(path) && statSync(path).isDirectory()) {
    const names = ['adapter_model.safetensors', 'pytorch_lora_weights.safetensors', 'adapter_model.bin', 'pytorch_lora_weights.bin'];
    const name = names.find((each) => existsSync(join(path, each)));
    if (!name) throw new AppError('weights', `${path} is a folder without ${names[0]} or ${names[1]}.`, { hint: 'Name the LoRA file itself.' });
    weights = join(path, name);
  }
  const config = join(dirname(weights), 'adapter_config.json');
  const beside = basename(weights).startsWith('adapter_model') && existsSync(config) ? readConfig(config) : undefined;
  const file = openTensorFile(weights);
  try {
    const stored = beside ? prefixed(beside) : metadataOf(file);
    return { file, notes: stored && notesOf(stored) };
  } catch (error) {
    file.close();
    throw error;
  }
}

function readConfig(path: string): Record<string, unknown> {
  let config: Record<string, unknown>;
  try {
    config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new AppError('weights', `${path} cannot be read: ${(cause as Error).message}.`, { cause });
  }
  const type = config['peft_type'] ?? 'LORA';
  if (type !== 'LORA' && type !== 'LOKR') throw new AppError('weights', `${path} is of an adapter of the type ${String(type)}; this version reads LoRA, DoRA and LoKr.`);
  return config;
}

/** PEFT's config knows one model: it holds for whatever part the file's keys are of. */
function prefixed(config: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(LORA_PARTS.flatMap((part) => Object.entries(config).map(([key, value]) => [`${part}.${key}`, value])));
}

/** What diffusers noted in the file's header; absent or unreadable notes are none. */
function metadataOf(file: TensorFile): Record<string, unknown> | undefined {
  try {
    const values: unknown = JSON.parse(file.metadata['lora_adapter_metadata'] ?? 'null');
    return typeof values === 'object' && values !== null ? (values as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function notesOf(stored: Record<string, unknown>): PartNotes {
  const notes: { [part in LoraPart]?: Notes } = {};
  for (const part of LORA_PARTS) {
    const value = (key: string): unknown => stored[`${part}.${key}`];
    const alpha = value('lora_alpha') ?? value('alpha') ?? (part === 'unet' ? stored['lora_alpha'] : undefined);
    const patterns = Object.entries((value('alpha_pattern') ?? {}) as Record<string, unknown>).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
    notes[part] = {
      alpha: numberOf(alpha),
      alphas: patterns.map(([pattern, each]) => [patternOf(pattern), each] as const), rootScale: value('use_rslora') === true, dora: value('use_dora') === true,
      rank: numberOf(value('r')), factor: numberOf(value('decompose_factor')),
    };
  }
  return notes;
}

const numberOf = (value: unknown): number | undefined => (typeof value === 'number' && Number.isFinite(value) ? value : undefined);

/** As PEFT matches a pattern: the end of a module's path, from a dot on. A pattern that is no regular expression is taken as it stands. */
function patternOf(pattern: string): RegExp {
  try {
    return new RegExp(`^(.*\\.)?(${pattern})$`);
  } catch {
    return new RegExp(`^(.*\\.)?(${pattern.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')})$`);
  }
}

/** One module as found in the file: its matrices' keys, and alpha's if given. */
type FoundModule = { [name in MatrixName | 'alpha']?: string };

type Found = ReadonlyMap<LoraPart, ReadonlyMap<string, FoundModule>>;

/** Ends of keys; a matrix by its own name where the end says it, LoKr's. */
const matrixEnds: ReadonlyArray<readonly [RegExp, keyof FoundModule | null]> = [
  [/\.(lora_A(\.\w+)?|lora\.down|lora_down|lora_linear_layer\.down)\.weight$/, 'lora_A.weight'],
  [/\.(lora_B(\.\w+)?|lora\.up|lora_up|lora_linear_layer\.up)\.weight$/, 'lora_B.weight'],
  [/_lora\.down\.weight$/, 'lora_A.weight'],
  [/_lora\.up\.weight$/, 'lora_B.weight'],
  [/\.(lora_magnitude_vector(\.\w+)*|dora_scale)$/, 'lora_magnitude_vector'],
  [/\.(lokr_w[12](?:_[ab])?)$/, null],
  [/(_lora|\.lora|\.lora_linear_layer)?\.alpha$/, 'alpha'],
];

/** What a file is that is no LoRA of a Stable Diffusion model, by a key that gives it away. */
const otherKinds: ReadonlyArray<readonly [RegExp, string]> = [
  [/\.lokr_t2$/, 'a LoKr in Tucker form, with a third matrix (lokr_t2)'],
  [/\.hada_/, 'a LoHa (Hadamard products)'],
  [/\.oft_|\.oft_blocks/, 'an OFT (rotations of the weights)'],
  [/\.lora_mid\./, 'a LoCon in Tucker form, with a third matrix (lora_mid)'],
  [/\.(diff|diff_b|w_norm|b_norm|set_weight)$/, 'a file of whole weight differences, not of low-rank matrices'],
  [/\.(a1|a2|b1|b2)\.weight$/, 'a GLoRA'],
  [/\.lora_[AB](\.\w+)?\.bias$|\.lora_(up|down)\.bias$/, 'a LoRA with biases'],
  [/^lora_unet_(double|single)_blocks|^(transformer\.)?(single_)?transformer_blocks\.|^(diffusion_model\.)?(double|single)_blocks\.|^lora_transformer_|^lora_unet_joint_blocks|^transformer\./,
    'a LoRA of a transformer network (FLUX, SD3 and the like)'],
  [/^lora_te3_|^text_encoder_3\./, 'a LoRA with a third text encoder (SD3, FLUX)'],
  [/^bundle_emb\./, 'a LoRA with bundled textual inversions'],
  [/^(emb_params|clip_[lg]|string_to_param)/, 'a textual inversion'],
  [/^lora_controlnet$|^control_model\./, 'a ControlNet or control LoRA'],
  [/^model\.diffusion_model\.|^first_stage_model\./, 'a whole model'],
];

function unsupported(path: string, what: string): AppError {
  return new AppError('weights', `${path} is ${what}; this version reads LoRA, LoCon, DoRA and LoKr of SD 1.x, SD 2.x and SDXL.`, { hint: 'Use a plain LoRA of the same idea.' });
}

function collectModules(file: TensorFile, modules: LoraModules): Found {
  const place = nameReader(modules);
  const found = new Map<LoraPart, Map<string, FoundModule>>();
  const foreign: string[] = [];
  for (const key of file.entries.keys()) {
    const other = otherKinds.find(([pattern]) => pattern.test(key));
    if (other) throw unsupported(file.path, other[1]);
    const end = matrixEnds.find(([pattern]) => pattern.test(key));
    if (!end) {
      foreign.push(key);
      continue;
    }
    const matched = end[0].exec(key)!;
    const name = end[1] ?? (matched[1] as MatrixName);
    // "attn1.processor.to_q_lora.down.weight": what stands before "_lora" is the module
    const { part, module } = place(key.slice(0, matched.index));
    const own = found.get(part) ?? new Map<string, FoundModule>();
    found.set(part, own);
    const entry = own.get(module) ?? {};
    if (entry[name] !== undefined) throw new AppError('weights', `${file.path} has ${module} twice: ${entry[name]} and ${key}.`, { hint: 'Use a file with one LoRA.' });
    entry[name] = key;
    own.set(module, entry);
  }
  if (foreign.length > 0) {
    throw new AppError('weights', `${file.path} has ${foreign.length} tensors that are no LoRA's (${foreign.slice(0, 2).join(', ')}).`, {
      hint: 'Keys must be those of diffusers, PEFT or kohya, e.g. unet.<module>.lora_A.weight and .lora_B.weight.',
    });
  }
  if (found.size === 0) throw new AppError('weights', `${file.path} holds no LoRA: it has no tensors.`);
  return found;
}

const partNames: Readonly<Record<LoraPart, string>> = { unet: 'UNet', text_encoder: 'text encoder', text_encoder_2: 'second text encoder' };

function checkModules(file: TensorFile, found: Found, modules: LoraModules): void {
  const problems: string[] = [];
  const unknown: string[] = [];
  const half: string[] = [];
  const misshapen: string[] = [];
  for (const [part, own] of found) {
    const targets = modules[part];
    if (!targets) {
      problems.push(`${own.size} modules of the ${partNames[part]} (${own.keys().next().value}), which is not adapted here`);
      continue;
    }
    const byPath = new Map(targets.map((target) => [target.path, target]));
    for (const [module, keys] of own) {
      const target = byPath.get(module);
      const shape = (name: MatrixName): readonly number[] | undefined => (keys[name] === undefined ? undefined : file.entries.get(keys[name])!.shape);
      if (!target) unknown.push(part === 'unet' ? module : `${part}.${module}`);
      else if (isLokr(keys)) {
        const problem = lokrProblem(shape, target);
        if (problem) misshapen.push(`${module} has ${problem}`);
      } else if (!keys['lora_A.weight'] || !keys['lora_B.weight']) half.push(module);
      else {
        const [down, up, magnitude] = [shape('lora_A.weight')!, shape('lora_B.weight')!, shape('lora_magnitude_vector')];
        const rank = down[0] ?? 0;
        if (rank === 0 || !isDown(down, target) || !isUp(up, target.outFeatures, rank)) {
          misshapen.push(`${module} has [${down}] and [${up}], expected [rank,${downShape(target)}] and [${target.outFeatures},rank]`);
        } else if (magnitude && !isMagnitude(magnitude, target.outFeatures, keys.lora_magnitude_vector!)) {
          misshapen.push(`${module} has magnitudes [${magnitude}], expected one for each of ${target.outFeatures} outputs`);
        }
      }
    }
  }
  if (unknown.length > 0) problems.push(`${unknown.length} modules that this model or its targets do not have (${unknown.slice(0, 2).join(', ')})`);
  if (half.length > 0) problems.push(`${half.length} modules with only one of lora_A and lora_B (${half[0]})`);
  if (misshapen.length > 0) problems.push(`${misshapen.length} modules of another shape (${misshapen[0]})`);
  if (problems.length > 0) {
    const other = otherText(file, found, modules);
    if (other) problems.unshift(other);
    throw new AppError('weights', `The LoRA ${file.path} does not fit: it has ${problems.join('; ')}.`, { hint: 'Use a LoRA made for this model, and name its modules among the targets.' });
  }
}

/** Widths of the text that published models attend to. */
const textWidths: Readonly<Record<number, string>> = { 768: ' as in SD 1.x', 1024: ' as in SD 2.x', 2048: ' as in SDXL' };

/** In words that the LoRA is for models of another text encoder, undefined where it is not. */
function otherText(file: TensorFile, found: Found, modules: LoraModules): string | undefined {
  const [, { 'lora_A.weight': a } = {}] = [...(found.get('unet') ?? [])].find(([module, each]) => /attn2[._]to_[kv]$/.test(module) && each['lora_A.weight']) ?? [];
  const own = modules.unet?.find(({ path }) => /attn2\.to_[kv]$/.test(path))?.inFeatures;
  const width = a && file.entries.get(a)!.shape[1];
  if (!width || own === undefined || width === own) return undefined;
  return `a text of width ${width}${textWidths[width] ?? ''}, where this model has ${own}${textWidths[own] ?? ''}`;
}

const channelsOf = ({ inFeatures, kernel }: LoraTarget): number => (kernel ? inFeatures / (kernel[0] * kernel[1]) : inFeatures);

/** The shape of `a` behind the rank, as torch has it. */
function downShape(target: LoraTarget): number[] {
  return target.kernel ? [channelsOf(target), ...target.kernel] : [target.inFeatures];
}

/** [rank, in] or [rank, in, kh, kw]; a 1x1 filter may be left out or be there. */
function isDown(shape: readonly number[], target: LoraTarget): boolean {
  const [kh, kw] = target.kernel ?? [1, 1];
  const filter = shape.length === 2 && kh * kw === 1 ? [1, 1] : shape.slice(2);
  if (shape.length === 2 && kh * kw === 1) return shape[1] === target.inFeatures;
  return shape.length === 4 && shape[1] === channelsOf(target) && filter[0] === kh && filter[1] === kw;
}

/** [out, rank], also as a 1x1 convolution. */
function isUp(shape: readonly number[], rows: number, columns: number): boolean {
  return (shape.length === 2 || shape.length === 4) && shape[0] === rows && shape[1] === columns && shape.slice(2).every((n) => n === 1);
}

const isLokr = (keys: FoundModule): boolean => Object.keys(keys).some((name) => name.startsWith('lokr_'));

/** PEFT's [out] or [1, out, 1, 1], kohya's [out, 1] or [out, 1, 1, 1]; magnitudes of inputs, as LyCORIS once had them, are others. */
function isMagnitude(shape: readonly number[], out: number, key: string): boolean {
  return shape.reduce((product, n) => product * n, 1) === out && (!key.endsWith('dora_scale') || shape[0] === out);
}

/** What does not fit of LoKr's factors: [l, m] and [k, n], n with the filter, l k the outputs and m n the inputs; null where all does. */
function lokrProblem(shape: (name: MatrixName) => readonly number[] | undefined, target: LoraTarget): string | null {
  const factor = (name: 'lokr_w1' | 'lokr_w2'): readonly [number, number] | string => {
    const [whole, a, b] = [shape(name), shape(`${name}_a`), shape(`${name}_b`)];
    if (whole ? a || b : !a || !b) return whole ? `${name} twice` : `no ${name}`;
    const [down, up] = whole ? [whole, whole] : [a!, b!];
    if (!whole && (down[1] !== up[0] || down.length !== 2)) return `${name} of [${down}] and [${up}]`;
    return [down[0]!, up.slice(1).reduce((product, n) => product * n, 1)];
  };
  const [first, second] = [factor('lokr_w1'), factor('lokr_w2')];
  if (typeof first === 'string' || typeof second === 'string') return typeof first === 'string' ? first : (second as string);
  const [rows, columns] = [first[0] * second[0], first[1] * second[1]];
  return rows === target.outFeatures && columns === target.inFeatures ? null : `factors that make [${rows},${columns}], expected [${target.outFeatures},${target.inFeatures}]`;
}

function readAdapter(file: TensorFile, found: ReadonlyMap<string, FoundModule>, notes: Notes | undefined, targets: ReadonlyMap<string, LoraTarget>, options: ReadLoraOptions): Adapter {
  const scales = new Map([...found].map(([module, keys]) => [module, scaleOf(file, module, keys, notes, options)]));
  const scale = mostCommon([...scales.values()]);
  const modules: Record<string, LoraModule> = {};
  try {
    for (const [module, { alpha: _, ...keys }] of found) {
      const target = targets.get(module)!;
      const factor = scales.get(module)! / scale;
      const matrices: { -readonly [name in keyof LoraMatrices]: LoraMatrices[name] } = {};
      for (const [name, key] of Object.entries(keys) as Array<[MatrixName, string]>) {
        const values = readFinite(file, key);
        const rows = name === 'lora_magnitude_vector' ? 1 : file.entries.get(key)!.shape[0]!;
        matrices[name] = tf.tensor2d(CARRIERS.has(name) && factor !== 1 ? values.map((value) => value * factor) : values, [rows, values.length / rows]);
      }
      modules[module] = { matrices, ...(target.kernel && { kernel: target.kernel }) };
    }
    const lokr = notes?.rank !== undefined && notes.factor !== undefined && { lokr: { rank: notes.rank, factor: notes.factor } };
    return { scale, modules, ...lokr };
  } catch (error) {
    disposeAdapter({ scale, modules });
    throw error;
  }
}

/** Into which of a module's matrices a scale of its own goes. */
const CARRIERS: ReadonlySet<string> = new Set(['lora_B.weight', 'lokr_w1', 'lokr_w1_a']);

/** alpha / rank of one module; LyCORIS scales no LoKr of two whole factors, PEFT does. */
function scaleOf(file: TensorFile, module: string, keys: FoundModule, notes: Notes | undefined, options: ReadLoraOptions): number {
  const lokr = isLokr(keys);
  const first = keys['lora_A.weight'] ?? keys.lokr_w2_b ?? keys.lokr_w1_b;
  const own = first === undefined ? undefined : file.entries.get(first)!.shape[0]!;
  if (lokr && keys.alpha !== undefined && !own) return 1;
  const rank = own ?? notes?.rank;
  if (rank === undefined) return 1;
  const noted = notes?.alphas.find(([pattern]) => pattern.test(module))?.[1] ?? notes?.alpha;
  const value = keys.alpha === undefined ? (noted ?? options.alpha ?? rank) : readAlpha(file, keys.alpha, rank);
  return value / (keys.alpha === undefined && notes?.rootScale ? Math.sqrt(rank) : rank);
}

function readFinite(file: TensorSource, key: string): Float32Array<ArrayBuffer> {
  const values = file.readFloats(key);
  if (!values.every(Number.isFinite)) throw new AppError('weights', `${file.path} holds values that are not finite (${key}).`, { hint: 'Use an earlier save of it.' });
  return values;
}

/** A number; kohya's trainer takes 0 for the rank. */
function readAlpha(file: TensorFile, key: string, rank: number): number {
  const [value, ...more] = file.readFloats(key);
  if (value === undefined || more.length > 0 || !Number.isFinite(value)) throw new AppError('weights', `${file.path} has ${key} of the shape [${file.entries.get(key)!.shape}] and the value ${value}, expected one number.`);
  return value === 0 ? rank : value;
}

/** The scale of most modules; never 0, which B could not be divided by. */
function mostCommon(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].filter(([value]) => value !== 0).reduce((best, each) => (each[1] > best[1] ? each : best), [1, 0] as [number, number])[0];
}
