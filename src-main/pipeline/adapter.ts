/** LoRA adapters in memory: made, named, combined. */
import { createHash } from 'node:crypto';
import { AppError } from '../base/errors.ts';
import { TorchGenerator } from '../engine/rng.ts';
import { readFloatsSync, scope } from '../engine/scope.ts';
import { tf, type Tensor2D } from '../engine/tf.ts';
import { toTorchLayout } from '../weights/layout.ts';
import type { Weights } from '../nn/parameters.ts';
import { factorization } from './lora/factorization.ts';
import { isFull, LORA_PARTS, MATRICES, type Adapter, type LoraMatrices, type LoraModule, type LoraPart, type LoraSet, type LoraTarget } from '../nn/lora.ts';

/** What fresh adapters are made of. */
export interface AdapterOptions {
  readonly method?: 'lora' | 'dora' | 'lokr';
  readonly rank: number;
  readonly alpha: number;
  readonly seed: number;
  /** LoKr: see {@link factorization}. */
  readonly factor?: number;
  /** DoRA: |W| of each row of a module's weight, [1, out]; taken over. */
  readonly norms?: (target: LoraTarget) => Tensor2D;
}

/**
 * A fresh adapter that changes nothing: A is Kaiming-uniform with a = sqrt(5), so uniform within 1/sqrt(in), and B zero; DoRA's magnitudes are
 * the weight's own; LoKr's first factor is zero, the others as A. The caller disposes it.
 * Source: peft tuners/lora/layer.py reset_lora_parameters, tuners/lokr/layer.py update_layer and reset_adapter_parameters.
 */
export function createAdapter(targets: readonly LoraTarget[], options: AdapterOptions): Adapter {
  const { method = 'lora', rank, alpha, seed, factor = -1, norms } = options;
  const generator = new TorchGenerator(seed);
  const uniform = (rows: number, columns: number): Tensor2D => {
    const bound = 1 / Math.sqrt(columns);
    return tf.tensor2d(generator.rand(rows * columns).map((u) => u * 2 * bound - bound), [rows, columns]);
  };
  const modules: Record<string, LoraModule> = {};
  for (const target of targets) {
    const { path, inFeatures, outFeatures, kernel } = target;
    const matrices = method === 'lokr' ? lokrMatrices(target, rank, factor, uniform)
      : { 'lora_A.weight': uniform(rank, inFeatures), 'lora_B.weight': tf.zeros([outFeatures, rank]) as Tensor2D, ...(method === 'dora' && { lora_magnitude_vector: norms!(target) }) };
    modules[path] = { matrices, ...(kernel && { kernel }) };
  }
  return { scale: alpha / rank, modules, ...(method === 'lokr' && { lokr: { rank, factor } }) };
}

function lokrMatrices({ inFeatures, outFeatures, kernel: [kh, kw] = [1, 1] }: LoraTarget, rank: number, factor: number, uniform: (rows: number, columns: number) => Tensor2D): LoraMatrices {
  const [m, n] = factorization(inFeatures / (kh * kw), factor);
  const [l, k] = factorization(outFeatures, factor);
  const w1: Tensor2D = tf.zeros([l, m]);
  if (rank >= Math.max(k, n) / 2) return { lokr_w1: w1, lokr_w2: uniform(k, n * kh * kw) };
  return { lokr_w1: w1, lokr_w2_a: uniform(k, rank), lokr_w2_b: uniform(rank, n * kh * kw) };
}

/** A network's own weights, in torch's orientation, as an adapter; copies. @param weights by state-dict key, as the engine has them */
export function wholeAdapter(weights: Weights): Adapter {
  const modules: Record<string, LoraModule> = {};
  for (const [key, weight] of Object.entries(weights)) {
    const { shape, data } = toTorchLayout(weight);
    const [path, end] = [key.slice(0, key.lastIndexOf('.')), key.slice(key.lastIndexOf('.') + 1)];
    const rows = shape.length === 1 ? 1 : shape[0]!;
    const tensor = tf.tensor2d(data.slice(), [rows, data.length / rows]);
    modules[path] = { ...modules[path], matrices: { ...modules[path]?.matrices, [end]: tensor }, ...(shape.length === 4 && { kernel: [shape[2]!, shape[3]!] as const }) };
  }
  return { scale: 1, modules };
}

/** What an adapter is, by its matrices. */
export function methodOf(adapter: Adapter): 'lora' | 'dora' | 'lokr' | 'full' {
  const all = Object.values(adapter.modules);
  if (isFull(adapter)) return 'full';
  if (all.some((own) => own && !own.matrices['lora_B.weight'])) return 'lokr';
  return all.some((own) => own?.matrices.lora_magnitude_vector) ? 'dora' : 'lora';
}

export function disposeAdapter(adapter: Adapter): void {
  for (const own of Object.values(adapter.modules)) tf.dispose(Object.values(own?.matrices ?? {}));
  if (adapter.textEncoders) disposeLoras(adapter.textEncoders);
}

/** A run's adapter as the set that files and samples know. */
export function setOf(adapter: Adapter): LoraSet {
  const { textEncoders, ...unet } = adapter;
  return { unet, ...textEncoders };
}

/** The way back from {@link setOf}. @param set with one of the UNet */
export function adapterOfSet({ unet, ...textEncoders }: LoraSet): Adapter {
  return Object.keys(textEncoders).length > 0 ? { ...unet!, textEncoders } : unet!;
}

/** A copy at a strength, 1 is the adapter itself. */
export function atStrength(adapter: Adapter, strength: number): Adapter {
  return adapterOfSet(combineLoras([{ set: setOf(adapter), strength }]));
}

/** sha256 over names, shapes, values and scale: equal hashes, equal adapters. */
export function adapterHash(adapter: Adapter): string {
  if (adapter.textEncoders) return lorasHash(setOf(adapter));
  const hash = createHash('sha256').update(`scale ${adapter.scale}\n`);
  for (const path of Object.keys(adapter.modules).sort()) {
    const { matrices } = adapter.modules[path]!;
    for (const name of [...MATRICES, 'strength'] as const) {
      const tensor = matrices[name];
      if (!tensor) continue;
      const values = readFloatsSync(tensor);
      hash.update(`${path}.${name.replace(/\.weight$/, '')} ${tensor.shape.join('x')}\n`).update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
  }
  return hash.digest('hex');
}

/**
 * The sum of several adapters, each times its strength, as one: per module the ranks are put side by side. A DoRA at a strength lies on the line from
 * the base's weight to its own. The arguments are borrowed, the result is the caller's.
 * @throws AppError where two adapt one module and one of them is no plain LoRA
 */
export function combineAdapters(parts: ReadonlyArray<{ readonly adapter: Adapter; readonly strength: number }>): Adapter {
  if (parts.some(({ adapter, strength }) => isFull(adapter) && (strength !== 1 || parts.length > 1))) throw new AppError('config', 'A network tuned in full has no strength but 1, and goes with no LoRA.', { hint: 'Set the strength to 1.' });
  const paths = new Set(parts.flatMap(({ adapter }) => Object.keys(adapter.modules)));
  const [only] = parts;
  const single = parts.length === 1 && only !== undefined && (only.strength === 1 || Object.values(only.adapter.modules).every((own) => !own?.matrices.lora_magnitude_vector));
  const modules: Record<string, LoraModule> = {};
  for (const path of paths) {
    const all = parts.flatMap(({ adapter, strength }) => {
      const own = adapter.modules[path];
      return own ? [{ own, scale: single ? 1 : adapter.scale, strength: single ? 1 : strength }] : [];
    });
    const { kernel } = all[0]!.own;
    if (all.length > 1 && all.some(({ own }) => !isPlain(own.matrices))) {
      throw new AppError('config', `Two LoRAs adapt ${path}, and one of them is a DoRA or LoKr.`, { hint: 'Use it alone, or merge one of them into the model.' });
    }
    modules[path] = { matrices: scope(() => (all.length > 1 ? sideBySide(all) : scaled(all[0]!))), ...(kernel && { kernel }) };
  }
  return single ? { ...only.adapter, scale: only.adapter.scale * only.strength, modules } : { scale: 1, modules };
}

interface Scaled { readonly own: LoraModule; readonly scale: number; readonly strength: number }

const isPlain = (matrices: LoraMatrices): boolean => matrices['lora_B.weight'] !== undefined && !matrices.lora_magnitude_vector;

function sideBySide(all: readonly Scaled[]): LoraMatrices {
  const of = (name: 'lora_A.weight' | 'lora_B.weight') => all.map(({ own, scale, strength }) => (name === 'lora_A.weight' ? own.matrices[name]! : tf.mul<Tensor2D>(own.matrices[name]!, scale * strength)));
  return { 'lora_A.weight': tf.concat(of('lora_A.weight'), 0) as Tensor2D, 'lora_B.weight': tf.concat(of('lora_B.weight'), 1) as Tensor2D };
}

/** Copies; the scale goes into the matrix that is zero at first, a DoRA's strength stays apart. */
function scaled({ own: { matrices }, scale, strength }: Scaled): LoraMatrices {
  const dora = matrices.lora_magnitude_vector !== undefined;
  const factor = dora ? scale : scale * strength;
  const into = (['lora_B.weight', 'lokr_w1', 'lokr_w1_a'] as const).find((name) => matrices[name]);
  const copies = Object.entries(matrices).map(([name, tensor]) => [name, name === into && factor !== 1 ? tf.mul(tensor, factor) : tf.clone(tensor)]);
  return { ...(Object.fromEntries(copies) as LoraMatrices), ...(dora && strength !== 1 && { strength: tf.tensor2d([[strength]]) }) };
}

/** {@link combineAdapters} for each network that is adapted; the arguments are borrowed, the result is the caller's. */
export function combineLoras(parts: ReadonlyArray<{ readonly set: LoraSet; readonly strength: number }>): LoraSet {
  const combined: { [part in LoraPart]?: Adapter } = {};
  for (const part of LORA_PARTS) {
    const adapters = parts.flatMap(({ set, strength }) => (set[part] ? [{ adapter: set[part], strength }] : []));
    if (adapters.length > 0) combined[part] = combineAdapters(adapters);
  }
  return combined;
}

export function disposeLoras(set: LoraSet): void {
  for (const part of LORA_PARTS) if (set[part]) disposeAdapter(set[part]);
}

/** One hash for all parts; that of the UNet's adapter where it is alone. */
export function lorasHash(set: LoraSet): string {
  const hashes = LORA_PARTS.flatMap((part) => (set[part] ? [`${part} ${adapterHash(set[part])}`] : []));
  if (hashes.length === 1 && set.unet) return adapterHash(set.unet);
  return createHash('sha256').update(hashes.join('\n')).digest('hex');
}
