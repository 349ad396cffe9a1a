/** Reading parts of a weight file that may be larger than any buffer. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { AppError } from '../base/errors.ts';

/** A file open for reading at any place. */
export interface ReadableFile {
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** @throws AppError('weights') if the file ends before */
  read(position: number, length: number): Uint8Array<ArrayBuffer>;
  /** May be called twice. */
  close(): void;
}

/** Up to this many bytes in one system call (Node refuses 2 GiB). */
const readLimit = 1 << 30;

/** What git and servers leave where a file should be. */
const inItsPlace: readonly (readonly [RegExp, string])[] = [
  [/^version https:\/\/git-lfs/, 'a pointer of Git LFS, not the file it stands for'], [/^\s*<(!doctype|html)/i, 'a web page, not a file of weights'],
];

/** @throws AppError('weights') if there is no such file, or something else in its place */
export function openReadable(path: string): ReadableFile {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)); // a pipe would otherwise be waited for
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new AppError('weights', missing ? `There is no file ${path}.` : `${path} cannot be opened: ${(cause as Error).message}.`, { cause });
  }
  const stat = fstatSync(fd);
  if (!stat.isFile()) {
    closeSync(fd);
    throw new AppError('weights', `${path} is not a regular file.`, { hint: 'Name the file itself.' });
  }
  let open = true;
  const first = Buffer.alloc(40);
  readSync(fd, first, 0, 40, 0);
  const instead = inItsPlace.find(([pattern]) => pattern.test(first.toString('latin1')))?.[1];
  if (instead) {
    closeSync(fd);
    throw new AppError('weights', `${path} is ${instead}.`, { hint: 'Download the file itself again.' });
  }
  return {
    path, size: stat.size,
    read(position, length) {
      const bytes = new Uint8Array(length);
      for (let done = 0, read = 0; done < length; done += read) {
        read = readSync(fd, bytes, done, Math.min(length - done, readLimit), position + done);
        if (read === 0) throw new AppError('weights', `${path} ends at byte ${position + done}, expected ${position + length}.`, { hint: 'Download or copy the file again.' });
      }
      return bytes;
    },
    close() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}
