/** What a model's memory depends on, from its configs and the headers of its weights: no tensor is read, TensorFlow is not loaded. */
import type { TensorEntry } from '../weights/source.ts';
import type { ModelFiles, PartName } from './files.ts';

/** Numbers of values of one part. */
export interface PartFacts {
  readonly part: PartName;
  readonly parameters: number;
  /** Of matrices and filters stored in float16 or bfloat16. */
  readonly halves: number;
  /** Of matrices and filters stored in float32. */
  readonly floats: number;
  /** Of the largest tensor. */
  readonly largest: number;
}

/** One weight or bias. */
export interface TensorFacts {
  readonly part: PartName;
  readonly name: string;
  readonly shape: readonly number[];
}

/** One block of a network. */
export interface BlockFacts {
  readonly kind: 'resnet' | 'transformer' | 'upsample' | 'attention';
  /** The picture's sides are those of the network's input divided by 2^level; negative in the decoder. */
  readonly level: number;
  /** Channels in and out. */
  readonly from: number;
  readonly to: number;
  readonly heads: number;
  readonly parameters: number;
}

export interface MemoryFacts {
  readonly parts: readonly PartFacts[];
  readonly unet: readonly BlockFacts[];
  /** Of the VAE. */
  readonly decoder: readonly BlockFacts[];
  /** All that is in the UNet, and the text encoders' linear layers: what can be trained. */
  readonly tensors: readonly TensorFacts[];
  /** Pixels per latent cell. */
  readonly factor: number;
}

/** @throws AppError('weights') */
export function memoryFacts(files: ModelFiles): MemoryFacts {
  const parts: PartName[] = ['unet', 'vae', 'text_encoder', ...(files.architecture === 'sdxl' ? ['text_encoder_2' as const] : [])];
  const entries = new Map(parts.map((part) => {
    using source = files.open(part);
    return [part, [...source.entries.values()]];
  }));
  const heads = files.config('unet').values['attention_head_dim'] ?? 8;
  const headsAt = (level: number): number => Number(Array.isArray(heads) ? (heads[level] ?? 8) : heads);
  const channels = files.config('vae').values['block_out_channels'];
  return {
    parts: parts.map((part) => partFacts(part, entries.get(part)!)),
    unet: unetBlocks(entries.get('unet')!, headsAt),
    decoder: decoderBlocks(entries.get('vae')!),
    tensors: parts.flatMap((part) => (part === 'vae' ? [] : entries.get(part)!)
      .filter(({ name, shape }) => part === 'unet' || (shape.length === 2 && name.endsWith('_proj.weight'))).map(({ name, shape }) => ({ part, name, shape }))),
    factor: 2 ** ((Array.isArray(channels) ? channels.length : 4) - 1),
  };
}

const countOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

function partFacts(part: PartName, entries: readonly TensorEntry[]): PartFacts {
  const sum = (some: (entry: TensorEntry) => boolean): number => entries.filter(some).reduce((total, { shape }) => total + countOf(shape), 0);
  return {
    part, parameters: sum(() => true),
    halves: sum(({ shape, dtype }) => shape.length >= 2 && (dtype === 'F16' || dtype === 'BF16')),
    floats: sum(({ shape, dtype }) => shape.length >= 2 && dtype === 'F32'),
    largest: Math.max(0, ...entries.map(({ shape }) => countOf(shape))),
  };
}

function unetBlocks(entries: readonly TensorEntry[], headsAt: (level: number) => number): BlockFacts[] {
  const levels = 1 + Math.max(0, ...entries.map(({ name }) => Number(/^down_blocks\.(\d+)\./.exec(name)?.[1] ?? 0)));
  const levelOf = (name: string): number => {
    const place = /^(down|up)_blocks\.(\d+)\./.exec(name);
    if (!place) return levels - 1;
    return place[1] === 'down' ? Number(place[2]) : levels - 1 - Number(place[2]);
  };
  return blocksOf(entries, levelOf, headsAt);
}

function decoderBlocks(entries: readonly TensorEntry[]): BlockFacts[] {
  const own = entries.filter(({ name }) => name.startsWith('decoder.'));
  return blocksOf(own, (name) => -Number(/^decoder\.up_blocks\.(\d+)\./.exec(name)?.[1] ?? 0), () => 1);
}

/** The block a tensor belongs to, and what marks it. */
const marks: ReadonlyArray<readonly [BlockFacts['kind'], RegExp]> = [
  ['resnet', /^(.*resnets\.\d+)\.conv1\.weight$/], ['transformer', /^(.*transformer_blocks\.\d+)\.attn1\.to_q\.weight$/],
  ['upsample', /^(.*upsamplers\.0)\.conv\.weight$/], ['attention', /^(decoder\.mid_block\.attentions\.0)\.(?:to_q|query)\.weight$/],
];

function blocksOf(entries: readonly TensorEntry[], levelOf: (name: string) => number, headsAt: (level: number) => number): BlockFacts[] {
  const sizes = new Map<string, number>();
  const owner = /^(.*(?:resnets\.\d+|transformer_blocks\.\d+|upsamplers\.0|mid_block\.attentions\.0))\./;
  for (const { name, shape } of entries) {
    const path = owner.exec(name)?.[1];
    if (path) sizes.set(path, (sizes.get(path) ?? 0) + countOf(shape));
  }
  return entries.flatMap(({ name, shape }) => marks.flatMap(([kind, pattern]): BlockFacts[] => {
    const path = pattern.exec(name)?.[1];
    if (path === undefined) return [];
    const level = levelOf(name);
    return [{ kind, level, from: shape[1]!, to: shape[0]!, heads: headsAt(Math.max(0, level)), parameters: sizes.get(path)! }];
  }));
}
