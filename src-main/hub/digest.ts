/** Whether a file is the one meant. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';

/** What a file's bytes must come to: their sha256, or git's name for them, sha1("blob SIZE\\0" + bytes). */
export interface Digest {
  readonly kind: 'sha256' | 'git-blob';
  readonly hex: string;
}

/** A hash that comes to `digest.hex` once the file's `size` bytes have gone in. */
export function startHash({ kind }: Digest, size: number): Hash {
  return kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Whether a file on the disk is the one meant. @param read hears how many bytes were read; what it throws ends the reading */
export async function fits(file: string, size: number, digest: Digest, read: (bytes: number) => Promise<void> = async () => {}): Promise<boolean> {
  if ((await stat(file).then((found) => found.size, () => -1)) !== size) return false;
  const hash = startHash(digest, size);
  let bytes = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    hash.update(chunk as Buffer);
    await read((bytes += (chunk as Buffer).length));
  }
  return hash.digest('hex') === digest.hex;
}
