/**
 * Writes a zip of stored entries, nothing compressed: pictures and weights hardly shrink, and a reader that accepts stored entries only
 * has no bomb to fear. Sixty lines instead of a dependency. Source: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, rmSync, writeSync, fsyncSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { diskError } from '../base/atomic.ts';
import { AppError } from '../base/errors.ts';
import { mkdirs } from '../base/folder.ts';
import { allSteps } from '../base/work.ts';

/** Either the bytes, or the file that holds them. */
export interface ZipPart { readonly name: string; readonly content: Buffer | string }

/** From here on a place goes into a zip64 field; an entry is never as large. */
const WIDE = 0xffff_ffff;
const PIECE = 1 << 22;

/** @returns its bytes @throws AppError('disk'); nothing is left behind */
export const writeStoredZip = (path: string, parts: readonly ZipPart[]): number => allSteps(storingZip(path, parts));

/** As {@link writeStoredZip}, step by step: yields the bytes written so far. Left early, it leaves nothing behind. */
export function* storingZip(path: string, parts: readonly ZipPart[]): Generator<number, number> {
  const temporary = `${path}.${process.pid}.tmp`;
  let zip = -1;
  let at = 0;
  let whole = false;
  const write = (bytes: Uint8Array): void => {
    for (let done = 0; done < bytes.length; ) done += writeSync(zip, bytes, done);
    at += bytes.length;
  };
  try {
    mkdirs(dirname(path));
    zip = openSync(temporary, 'w');
    const directory: Buffer[] = [];
    for (const { name, content } of parts) {
      const begin = at;
      const { size, sum } = measured(content);
      if (size >= WIDE) throw new AppError('disk', `${name} has ${size} bytes, and ${path} takes files below 4 GB.`, { hint: 'Copy it by itself.' });
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
      const far = begin >= WIDE;
      rest.writeUInt32LE(far ? WIDE : begin, 10);
      if (far) shared.writeUInt16LE(12, 24); // the extra field's length
      directory.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([far ? 45 : 20, 0]), shared, rest, Buffer.from(name), ...(far ? [zip64Place(begin)] : [])]));
    }
    const begin = at;
    const list = Buffer.concat(directory);
    write(list);
    const end = Buffer.alloc(22);
    end.write('PK\x05\x06');
    [parts.length, parts.length].forEach((value, i) => end.writeUInt16LE(value, 8 + 2 * i));
    end.writeUInt32LE(list.length, 12);
    end.writeUInt32LE(Math.min(begin, WIDE), 16);
    if (begin >= WIDE) write(zip64End(parts.length, list.length, begin, at));
    write(end);
    fsyncSync(zip);
    renameSync(temporary, path);
    whole = true;
    return at;
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw diskError(path, cause);
  } finally {
    if (zip >= 0) closeSync(zip);
    if (!whole) rmSync(temporary, { force: true });
  }
}

/** The extra field of an entry that begins beyond 4 GB. */
function zip64Place(begin: number): Buffer {
  const field = Buffer.from([1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  field.writeBigUInt64LE(BigInt(begin), 4);
  return field;
}

/** The directory's place, in a record and its locator. @param at where the record begins */
function zip64End(count: number, size: number, begin: number, at: number): Buffer {
  const record = Buffer.alloc(56 + 20);
  record.write('PK\x06\x06');
  record.writeBigUInt64LE(44n, 4);
  [45, 45].forEach((version, i) => record.writeUInt16LE(version, 12 + 2 * i));
  [count, count, size, begin].forEach((value, i) => record.writeBigUInt64LE(BigInt(value), 24 + 8 * i));
  record.write('PK\x06\x07', 56);
  record.writeBigUInt64LE(BigInt(at), 56 + 8);
  record.writeUInt32LE(1, 56 + 16);
  return record;
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
