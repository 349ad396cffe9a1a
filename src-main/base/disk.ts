/** Room on the disk. */
import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';

/** Bytes free to this user on the disk that a folder is on, or will be on. */
export function freeBytes(folder: string): number {
  let there = folder;
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there);
  const { bavail, bsize } = statfsSync(there);
  return bavail * bsize;
}
