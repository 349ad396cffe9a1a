/** What an export wrote, as one stream for a page on another machine: a file as it is, a folder as a tar archive. Source of the format: POSIX.1-2001 pax, ustar header. */
import { createReadStream, readdirSync, statSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { Readable } from 'node:stream';
import { AppError } from '../base/errors.ts';
import { fileInside } from './run-folders.ts';

const BLOCK = 512;
/** Eleven octal digits. */
const MOST_BYTES = 8 * 2 ** 30 - 1;

export interface ExportFile { name: string; type: string; bytes: number; stream(): Readable }

/** @param name of a file or folder directly in the data folder's exports/ @throws AppError('denied' | 'not-found') */
export function exportFile(home: string, name: string): ExportFile {
  if (/[\\/]/.test(name) || name.startsWith('.') || name.endsWith('.tmp') || name.endsWith('.part')) throw new AppError('denied', `"${name}" is no export.`);
  const path = fileInside(join(home, 'exports'), name);
  if (!statSync(path).isDirectory()) return { name, type: 'application/octet-stream', bytes: statSync(path).size, stream: () => createReadStream(path) };
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => {
    const file = fileInside(path, relative(path, join(entry.parentPath, entry.name))); // folders that are links are walked too
    return { file, inside: `${name}/${relative(path, file).split(sep).join('/')}`, bytes: statSync(file).size };
  });
  for (const { inside, bytes } of files) if (bytes > MOST_BYTES || !splitName(inside)) throw new AppError('denied', `${inside} does not fit into an archive.`, { hint: 'Copy the folder from that machine\'s data folder.' });
  const bytes = files.reduce((sum, each) => sum + BLOCK + padded(each.bytes), 2 * BLOCK);
  return { name: `${name}.tar`, type: 'application/x-tar', bytes, stream: () => Readable.from(archive(files), { objectMode: false }) };
}

async function* archive(files: readonly { file: string; inside: string; bytes: number }[]): AsyncGenerator<Uint8Array> {
  for (const { file, inside, bytes } of files) {
    yield header(inside, bytes);
    if (bytes > 0) yield* createReadStream(file, { end: bytes - 1 }) as AsyncIterable<Buffer>;
    yield Buffer.alloc(padded(bytes) - bytes);
  }
  yield Buffer.alloc(2 * BLOCK);
}

function header(inside: string, bytes: number): Buffer {
  const [prefix, name] = splitName(inside)!;
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, length: number): string => `${value.toString(8).padStart(length, '0')}\0`;
  block.write(name, 0);
  block.write(`${octal(0o644, 7)}${octal(0, 7)}${octal(0, 7)}${octal(bytes, 11)}${octal(0, 11)}`, 100); // mode, owner, group, size, time
  block.write(' '.repeat(8), 148); // counted as spaces in its own sum
  block.write('0', 156); // a plain file
  block.write('ustar\x0000', 257);
  block.write(prefix, 345);
  block.write(`${octal(block.reduce((sum, byte) => sum + byte, 0), 6)} `, 148);
  return block;
}

/** Up to 155 bytes of folders and 100 of a name; null for what does not fit. */
function splitName(path: string): [string, string] | null {
  if (Buffer.byteLength(path) <= 100) return ['', path];
  for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    if (Buffer.byteLength(prefix) <= 155 && Buffer.byteLength(name) <= 100) return [prefix, name];
  }
  return null;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}
