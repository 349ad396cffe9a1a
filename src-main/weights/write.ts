/** Writes safetensors one tensor at a time: a merged checkpoint of many gigabytes never stands in memory whole. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { AppError, assert } from '../base/errors.ts';
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
  const disk = <T>(action: () => T): T => {
    try {
      return action();
    } catch (cause) {
      const full = (cause as NodeJS.ErrnoException).code === 'ENOSPC';
      throw new AppError('disk', `${path} could not be written: ${(cause as Error).message}.`, {
        hint: full ? `Free some space in ${dirname(path)} or choose another place.` : 'Check free space and permissions.', cause,
      });
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
    if (fd !== undefined) closeSync(fd);
    if (!whole) rmSync(temporary, { force: true });
  }
}

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
