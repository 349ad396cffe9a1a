/** Writes safetensors one tensor at a time: a merged checkpoint of many gigabytes never stands in memory whole. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { diskError, writeWhole } from '../base/atomic.ts';
import { assert } from '../base/errors.ts';
import { allSteps } from '../base/work.ts';
import { bytesOf, type TensorEntry } from './source.ts';

/** A tensor to come: its place in the file is known before its values are read. */
export interface TensorToWrite extends TensorEntry {
  /** The bytes as the dtype has them, row-major, little-endian; asked for once, when it is this tensor's turn. */
  read(): Uint8Array;
}

/** Up to this many bytes in one system call (Node refuses 2 GiB). */
const writeLimit = 1 << 30;

/**
 * Writes a file under a temporary name, syncs it, then renames it: a reader sees all of it or nothing. Tensors are laid out by size of
 * their values, the widest first (so that each begins aligned), then by name.
 * @throws AppError('disk') if it cannot be written; what `read` throws is passed on. Neither leaves anything behind.
 */
export function writeTensors(path: string, tensors: Iterable<TensorToWrite>, metadata?: Readonly<Record<string, string>>): void {
  allSteps(writingTensors(path, tensors, metadata));
}

/** As {@link writeTensors}, step by step: yields each tensor's bytes when they are written. Left early, it leaves nothing behind. */
export function* writingTensors(path: string, tensors: Iterable<TensorToWrite>, metadata?: Readonly<Record<string, string>>): Generator<number, void> {
  const ordered = [...tensors].sort((a, b) => bytesOf[b.dtype] - bytesOf[a.dtype] || (a.name < b.name ? -1 : 1));
  const head = headerOf(ordered, metadata);
  const temporary = `${path}.${process.pid}.tmp`;
  let fd: number | undefined;
  let whole = false;
  const leave = (): void => {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
    if (!whole) rmSync(temporary, { force: true });
  };
  const disk = <T>(action: () => T): T => {
    try {
      return action();
    } catch (cause) {
      leave(); // what it took counts as free
      throw diskError(path, cause, { need: bytesOfAll(ordered) });
    }
  };
  try {
    const file = disk(() => openSync(temporary, 'w'));
    fd = file;
    disk(() => writeAll(file, head));
    for (const tensor of ordered) {
      const bytes = tensor.read();
      assert(bytes.byteLength === sizeOf(tensor), () => `"${tensor.name}": ${bytes.byteLength} bytes for ${tensor.dtype} [${tensor.shape}]`);
      disk(() => writeAll(file, bytes));
      yield bytes.byteLength;
    }
    disk(() => fsyncSync(file));
    fd = undefined;
    disk(() => closeSync(file));
    disk(() => renameSync(temporary, path));
    whole = true;
  } finally {
    leave();
  }
}

/** Of one file: what a FAT disk and readers with 32-bit sizes take. */
export const SHARD_BYTES = 4e9;

/**
 * Writes tensors as one file, STEM.safetensors; where they have more than `shardBytes` as diffusers and transformers do: STEM-00001-of-00003.safetensors
 * and so on, in the tensors' order, and last STEM.safetensors.index.json.
 * @returns the files' names; the last is the one to open
 * Source: huggingface_hub serialization/_base.py split_state_dict_into_shards_factory; diffusers models/modeling_utils.py save_pretrained.
 */
export function writeSharded(folder: string, stem: string, tensors: readonly TensorToWrite[], { metadata, shardBytes = SHARD_BYTES }: { metadata?: Readonly<Record<string, string>>; shardBytes?: number } = {}): string[] {
  const shards: TensorToWrite[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + sizeOf(tensor) > shardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(tensor);
    bytes += sizeOf(tensor);
  }
  const number = (n: number): string => String(n).padStart(5, '0');
  const names = shards.map((_, i) => (shards.length === 1 ? `${stem}.safetensors` : `${stem}-${number(i + 1)}-of-${number(shards.length)}.safetensors`));
  shards.forEach((shard, i) => writeTensors(join(folder, names[i]!), shard, metadata));
  if (shards.length === 1) return names;
  const index = `${stem}.safetensors.index.json`;
  const map = shards.flatMap((shard, i) => shard.map(({ name }) => [name, names[i]!] as const)).sort(([a], [b]) => (a < b ? -1 : 1));
  writeWhole(join(folder, index), `${JSON.stringify({ metadata: { total_size: bytesOfAll(tensors) }, weight_map: Object.fromEntries(map) }, null, 2)}\n`);
  return [...names, index];
}

const bytesOfAll = (tensors: readonly TensorEntry[]): number => tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0);

/** Length, then JSON padded with spaces to a multiple of eight. */
function headerOf(tensors: readonly TensorEntry[], metadata: Readonly<Record<string, string>> | undefined): Buffer {
  const records: Array<[string, unknown]> = metadata ? [['__metadata__', metadata]] : [];
  let offset = 0;
  for (const tensor of tensors) {
    const end = offset + sizeOf(tensor);
    records.push([tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, end] }]);
    offset = end;
  }
  assert(new Set(records.map(([name]) => name)).size === records.length, 'a tensor\'s name occurs twice');
  // not an object: it would put names that are whole numbers first, and lose "__proto__"
  const text = Buffer.from(`{${records.map(([name, record]) => `${JSON.stringify(name)}:${JSON.stringify(record)}`).join(',')}}`);
  const length = Math.ceil(text.length / 8) * 8;
  const head = Buffer.alloc(8 + length, 0x20);
  head.writeBigUInt64LE(BigInt(length));
  text.copy(head, 8);
  return head;
}

function sizeOf({ shape, dtype }: TensorEntry): number {
  return shape.reduce((product, n) => product * n, bytesOf[dtype]);
}

function writeAll(fd: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, Math.min(bytes.length - done, writeLimit));
}
