/** The files of a run: its folder and safe paths inside it. */
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { isAbsolute, join, relative, resolve, sep } from 'node:path';
import { AppError } from '../base/errors.ts';

/** runs/<id> of a data folder; ids are ours, anything else is refused. */
export function runFolder(home: string, id: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(id)) throw new AppError('not-found', `"${id}" is not the name of a run.`);
  return join(home, 'runs', id);
}

/**
 * A path inside a folder, symbolic links resolved.
 * @throws AppError('denied') for a path that leads outside, AppError('not-found') where there is no file.
 */
export function fileInside(folder: string, path: string): string {
  const full = resolve(folder, path);
  if (isAbsolute(path) || path.includes('\0') || !isBelow(folder, full)) throw new AppError('denied', `The path "${path}" leads out of its folder.`);
  if (!existsSync(full)) throw new AppError('not-found', `The file ${full} is gone.`);
  if (!isBelow(realpathSync(folder), realpathSync(full))) throw new AppError('denied', `The path "${path}" leads out of its folder.`);
  return full;
}

function isBelow(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== '' && !isAbsolute(way) && way !== '..' && !way.startsWith(`..${sep}`);
}

/** Step of the newest checkpoint in a run's folder, 0 for none: a killed app may not have heard of the last one. */
export function newestCheckpoint(folder: string): number {
  try {
    return Math.max(0, ...readdirSync(join(folder, 'checkpoints')).map((name) => Number(/^step-(\d+)/.exec(name)?.[1] ?? 0)));
  } catch {
    return 0;
  }
}

/** Whether there are checkpoints, and all without what going on needs: those of an imported run are weights alone. */
function weightsAlone(folder: string): boolean {
  const checkpoints = join(folder, 'checkpoints');
  if (!existsSync(checkpoints)) return false;
  const folders = readdirSync(checkpoints, { withFileTypes: true }).filter((each) => each.isDirectory() && /^step-\d+$/.test(each.name));
  return folders.length > 0 && !folders.some(({ name }) => existsSync(join(checkpoints, name, 'checkpoint.json')));
}

/** @throws AppError('run') for a run that cannot go on, before anything of it is changed */
export function assertResumable(folder: string, name: string): void {
  if (weightsAlone(folder)) throw new AppError('run', `The run "${name}" was imported, with its weights and without what going on needs.`, { hint: 'Train anew with its settings; lora.initFile may begin with its LoRA.' });
}
