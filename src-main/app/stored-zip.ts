/**
 * Writes a zip of stored entries, nothing compressed: pictures and weights hardly shrink, and a reader that accepts stored entries only
 * has no bomb to fear. Sixty lines instead of a dependency. Source: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, rmSync, writeSync, fsyncSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { AppError } from '../base/errors.ts';
import { allSteps } from '../base/work.ts';

/** Either the bytes, or the file that holds them. */
export interface ZipPart { readonly name: string; readonly content: Buffer | string }

/** Without zip64 sizes and places are 32-bit numbers. */
const MOST_BYTES = 0xffff_fffe;
const PIECE = 1 << 22;

/** @returns its bytes @throws AppError('disk') where it cannot be written or would be larger than the format allows; nothing is left behind */
export const writeStoredZip = (path: string, parts: readonly ZipPart[]): number => allSteps(storingZip(path, parts));

/** As {@link writeStoredZip}, step by step: yields the bytes written so far. Left early, it leaves nothing behind. */
export function* storingZip(path: string, parts: readonly ZipPart[]): Generator<number, number> {
  const temporary = `${path}.${process.pid}.tmp`;
  mkdirSync(dirname(path), { recursive: true });
  const zip = openSync(temporary, 'w');
  let at = 0;
  let whole = false;
  const write = (bytes: Uint8Array): void => {
    if (at + bytes.length > MOST_BYTES) throw new AppError('disk', `${path} would be larger than 4 GB.`, { hint: 'Export the LoRA by itself.' });
    for (let done = 0; done < bytes.length; ) done += writeSync(zip, bytes, done);
    at += bytes.length;
  };
  try {
    const directory: Buffer[] = [];
    for (const { name, content } of parts) {
      const begin = at;
      const { size, sum } = measured(content);
      const shared = Buffer.alloc(26); // from "version needed" to the extra field's length
      [20, 0x0800, 0, 0, 0x21].forEach((value, i) => shared.writeUInt16LE(value, 2 * i)); // names are UTF-8; stored; 1 January 1980
      [sum, size, size].forEach((value, i) => shared.writeUInt32LE(value, 10 + 4 * i));
      shared.writeUInt16LE(Buffer.byteLength(name), 22);
      write(Buffer.concat([Buffer.from('PK\x03\x04'), shared, Buffer.from(name)]));
      for (const piece of pieces(content)) {
        write(piece);
        yield at;
      }
      const rest = Buffer.alloc(14); // comment length, disk, attributes, place
      rest.writeUInt32LE(begin, 10);
      directory.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([20, 0]), shared, rest, Buffer.from(name)]));
    }
    const begin = at;
    const list = Buffer.concat(directory);
    write(list);
    const end = Buffer.alloc(22);
    end.write('PK\x05\x06');
    [parts.length, parts.length].forEach((value, i) => end.writeUInt16LE(value, 8 + 2 * i));
    end.writeUInt32LE(list.length, 12);
    end.writeUInt32LE(begin, 16);
    write(end);
    fsyncSync(zip);
    renameSync(temporary, path);
    whole = true;
    return at;
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('disk', `${path} could not be written: ${(cause as Error).message}.`, { hint: 'Check free space and permissions.', cause });
  } finally {
    closeSync(zip);
    if (!whole) rmSync(temporary, { force: true });
  }
}

function measured(content: Buffer | string): { size: number; sum: number } {
  let [size, sum] = [0, 0];
  for (const piece of pieces(content)) {
    size += piece.length;
    sum = crc32(piece, sum);
  }
  return { size, sum };
}

/** Each is gone when the next is asked for. */
function* pieces(content: Buffer | string): Generator<Uint8Array, void> {
  if (typeof content !== 'string') return void (yield content);
  const file = openSync(content, 'r');
  try {
    const piece = Buffer.allocUnsafe(Math.min(PIECE, Math.max(1, fstatSync(file).size)));
    for (let read = readSync(file, piece, 0, piece.length, null); read > 0; read = readSync(file, piece, 0, piece.length, null)) yield piece.subarray(0, read);
  } finally {
    closeSync(file);
  }
}
