/** Files that are whole or not there: temporary name, flush, rename. */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { byteWords, freeBytes } from './disk.ts';
import { AppError, systemWords } from './errors.ts';
import { mkdirs } from './folder.ts';
import { allSteps } from './work.ts';

/** Writes a file under a temporary name, flushes it to the disk and renames it. @param mode of a file that is not there yet; default what the system gives */
export function writeWhole(file: string, content: Uint8Array | string, mode?: number): void {
  mkdirs(dirname(file));
  const temporary = join(dirname(file), `.${basename(file)}.part`);
  if (mode !== undefined) rmSync(temporary, { force: true }); // what is there keeps its own mode
  writeFlushed(temporary, content, mode);
  renameSync(temporary, file);
  flushFolder(dirname(file));
}

/** Flushes a folder's entries, so that what was renamed in it is found under its name after a power cut; where a system cannot, nothing is done. */
export function flushFolder(folder: string): void {
  if (process.platform === 'win32') return; // folders cannot be opened there
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } catch (error) {
    if (!['EINVAL', 'ENOTSUP', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  } finally {
    closeSync(handle);
  }
}

/** Writes, and says in one line what could not be written. @throws AppError('disk') as {@link diskError} has it */
export function onDisk<T>(file: string, write: () => T): T {
  try {
    return write();
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw diskError(file, cause, { then: 'resume the run' });
  }
}

/**
 * What could not be written, by its final name; where the disk is full, with the room that is there.
 * @param file or folder, also before it is there
 * @param options.need bytes it takes in all
 * @param options.then what to do once there is room
 */
export function diskError(file: string, cause: unknown, { need, then = 'try again' }: { need?: number; then?: string } = {}): AppError {
  // The system names the temporary file, which nobody knows: "ENOSPC: no space left on device, open '/home/x/.y.part'".
  const { code = '', path = '' } = (cause ?? {}) as NodeJS.ErrnoException;
  const words = code === 'EEXIST' ? `${path} is a file` : systemWords(cause);
  const full = ['ENOSPC', 'EDQUOT'].includes(code);
  const free = full ? byteWords(freeBytes(dirname(file))) : '';
  const room = !full ? '' : need === undefined ? ` (${free} are free)` : ` (it takes ${byteWords(need)}, ${free} are free)`;
  return new AppError('disk', `${file} could not be written: ${words}${room}.`, { hint: full ? `Free some space in ${dirname(file)}, then ${then}.` : `Check free space and permissions, then ${then}.`, cause });
}

/** An error told by the name a file or folder will have: nobody knows the temporary one it has while it is written. */
export function byFinalName(error: unknown, temporary: string, final: string): unknown {
  if (!(error instanceof AppError) || !error.line.includes(temporary)) return error;
  const { code, message, hint } = error;
  return new AppError(code, message.replaceAll(temporary, final), { ...(hint !== undefined && { hint: hint.replaceAll(temporary, final) }), cause: error });
}

/** Writes a file and flushes it. */
function writeFlushed(file: string, content: Uint8Array | string, mode?: number): void {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  const handle = openSync(file, 'w', mode);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(handle, bytes, at);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** sha256 of a file, in hex; read in pieces, so that a checkpoint of several gigabytes is no trouble. */
export const sha256Of = (file: string): string => allSteps(hashing(file));

/** One sum for several files: of one its own, of more that of what `sha256sum` prints of them in the order of their names. @param sums sha256 by name */
export function jointSum(sums: Readonly<Record<string, string>>): string {
  const names = Object.keys(sums).sort();
  return names.length === 1 ? sums[names[0]!]! : createHash('sha256').update(names.map((name) => `${sums[name]}  ${name}\n`).join('')).digest('hex');
}

/** As {@link sha256Of}, step by step: yields the bytes read so far. */
export function* hashing(file: string): Generator<number, string> {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(1 << 22);
  const handle = openSync(file, 'r');
  try {
    for (let read = 1, all = 0; read > 0; ) {
      read = readSync(handle, piece, 0, piece.length, null);
      hash.update(piece.subarray(0, read));
      yield (all += read);
    }
  } finally {
    closeSync(handle);
  }
  return hash.digest('hex');
}
