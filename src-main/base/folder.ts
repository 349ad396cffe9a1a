/** Folders that are to be written in. */
import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { AppError, systemWords } from './errors.ts';

/** The folder itself, or the nearest one above it that is there. */
function nearest(folder: string): string {
  let there = folder;
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there);
  return there;
}

/**
 * To be asked before long work whose result goes there; makes nothing.
 * @throws AppError('disk') where a file is in the way, or this user may not write
 */
export function checkFolder(folder: string): void {
  const there = nearest(folder);
  if (!statSync(there).isDirectory()) throw new AppError('disk', `${folder} cannot be written in: ${there} is a file, expected a folder.`, { hint: 'Name another folder.' });
  try {
    accessSync(there, constants.W_OK);
  } catch (cause) {
    throw new AppError('disk', `${folder} cannot be written in: you may not write in ${there}.`, { hint: 'Name another folder, or change its permissions.', cause });
  }
}

/**
 * Makes a folder and those above it. Not by mkdir's own `recursive`, which calls a read-only disk "no such file", and never returns where
 * the system answers that to a name it does not allow, as below /proc.
 * @returns the topmost that was made @throws the system's own error
 */
export function mkdirs(folder: string): string | undefined {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  const above = dirname(folder) === folder ? undefined : mkdirs(dirname(folder));
  try {
    mkdirSync(folder);
    return above ?? folder;
  } catch (error) {
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return above; // somebody else was quicker
    throw error;
  }
}

/** As {@link mkdirs}. @throws AppError('disk') */
export function makeFolder(folder: string): void {
  try {
    mkdirs(folder);
  } catch (cause) {
    const { code, path = folder } = cause as NodeJS.ErrnoException;
    const why = code === 'EEXIST' ? 'a file of that name is there' : systemWords(cause);
    throw new AppError('disk', `The folder ${path} could not be made: ${why}.`, { hint: 'Name another folder, or check its permissions.', cause });
  }
}
