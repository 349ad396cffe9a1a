/** Files that a page sends piece by piece, because a browser keeps their paths to itself; each is used once, then gone. */
import { closeSync, fstatSync, mkdirSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import { freeBytes } from '../base/disk.ts';

/** A shared run is a zip without zip64. */
const MOST_BYTES = 2 ** 32;
const MOST_FILES = 4;
/** Left free on the disk. */
const SPARE_BYTES = 200e6;

export class Uploads {
  private readonly folder: string;
  private readonly open = new Set<string>();

  /** What an app that was killed left there goes. */
  constructor(home: string) {
    this.folder = join(home, '.uploads');
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** @param at where the piece begins; 0 begins the file @throws AppError('config' | 'disk') */
  put(id: string, at: number, piece: Uint8Array): void {
    if (at === 0) {
      this.drop(id);
      if (this.open.size >= MOST_FILES) throw new AppError('busy', `${MOST_FILES} files are being sent already.`, { hint: 'Wait for them to arrive.' });
      this.open.add(id);
    }
    if (!this.open.has(id)) throw new AppError('not-found', 'This file is not being sent.', { hint: 'Send it from its beginning.' });
    if (at + piece.length > MOST_BYTES) throw new AppError('config', 'The file has more than 4 GB: a shared run has less.');
    mkdirSync(this.folder, { recursive: true });
    if (freeBytes(this.folder) < SPARE_BYTES + piece.length) throw new AppError('disk', 'The disk has no room for the file.', { hint: 'Free some space and send it again.' });
    const file = openSync(this.pathOf(id), at === 0 ? 'wx' : 'a', 0o600);
    try {
      const { size } = fstatSync(file);
      if (size !== at) throw new AppError('config', `The file has ${size} bytes so far, and the next piece is for byte ${at}.`, { hint: 'Send it from its beginning.' });
      for (let done = 0; done < piece.length; ) done += writeSync(file, piece, done);
    } finally {
      closeSync(file);
    }
  }

  /** Names that no file was begun under lead nowhere. */
  drop(id: string): void {
    if (this.open.delete(id)) rmSync(this.pathOf(id), { force: true });
  }

  /** The whole file for one use; then it goes. @throws AppError('not-found') */
  async use<T>(id: string, action: (path: string) => Promise<T>): Promise<T> {
    try {
      if (!this.open.has(id) || !statSync(this.pathOf(id), { throwIfNoEntry: false })) throw new AppError('not-found', 'The file has not arrived.', { hint: 'Send it again.' });
      return await action(this.pathOf(id));
    } finally {
      this.drop(id);
    }
  }

  private pathOf(id: string): string {
    return join(this.folder, `${id}.part`);
  }
}
