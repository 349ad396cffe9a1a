/**
 * The rule for paths that come from a page: a file is read for it only where it lies below a folder of the app's (its data folder,
 * its resources), below one that the user opened (the system's dialog, a drop, a file given at the start, a model on the list), or
 * below one that is open to pages: the user's home without hidden folders, or what `--files` names instead. Links are followed
 * before that is decided. Pages name paths in `models.add`, in place of a model's name, and in run configs and rewards; every other request names things by id.
 */
import { existsSync, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, parse, relative, resolve, sep } from 'node:path';
import { AppError } from '../base/errors.ts';
import { isInlinePicture, type RewardTerm, type RunConfig } from '../contract/run.ts';
import { SET } from '../models/prompt-sets.ts';

/** Where programs keep their secrets in a home folder, besides names that begin with a dot. */
const PRIVATE = new Set(['AppData', 'Library', 'NTUSER.DAT']);

export interface OpenedPathsOptions {
  home: string;
  resources: string;
  /** Known models: their names and where they are. */
  models: () => readonly { name: string; path: string }[];
  /** Folders open to pages as a whole; the user's home, without what is hidden in it, if left out. */
  folders?: readonly string[] | undefined;
  /** What to do about a refusal. */
  hint: string;
}

export class OpenedPaths {
  private readonly options: OpenedPathsOptions;
  private readonly opened = new Set<string>();

  constructor(options: OpenedPathsOptions) {
    this.options = options;
  }

  /** The user chose this file or folder outside of the page. */
  open(path: string): void {
    this.opened.add(resolve(path));
  }

  /** @returns the absolute path @throws AppError('denied') for one that pages may not have read */
  check(path: string): string {
    const full = resolve(path);
    const refuse = (): never => {
      throw new AppError('denied', `${path} is outside of what a page may read.`, { hint: this.options.hint });
    };
    if (path.includes('\0') || !this.isOpen(full, (folder) => folder)) return refuse();
    // Only now is anything on the disk looked at.
    if (existsSync(full) && !this.isOpen(realpathSync(full), real)) return refuse();
    return full;
  }

  /** Names of models go through; what is no such name is a path. @throws AppError('denied') */
  checkModel(nameOrPath: string): void {
    if (this.options.models().some(({ name }) => name === nameOrPath)) return;
    const isPath = /[\\/]|^[.~]|\0/.test(nameOrPath) || isAbsolute(nameOrPath);
    if (isPath || existsSync(resolve(nameOrPath))) this.check(nameOrPath);
  }

  /** @throws AppError('denied') */
  checkRewards(terms: readonly RewardTerm[]): void {
    for (const { model, reference, head } of terms) {
      if (model !== undefined) this.checkModel(model);
      if (reference !== undefined && !isInlinePicture(reference)) this.check(reference);
      if (head !== undefined) this.check(head);
    }
  }

  /** Every path of a config. @throws AppError('denied') */
  checkConfig(config: RunConfig): void {
    this.checkModel(config.model);
    this.checkRewards([...config.rewards, ...config.heldOutRewards]);
    for (const file of [config.prompts, config.heldOutPrompts]) if (typeof file === 'string' && !file.startsWith(SET)) this.check(file);
    if (config.lora.initFile !== undefined) this.check(config.lora.initFile);
  }

  private isOpen(path: string, as: (folder: string) => string): boolean {
    const { home, resources, folders, models } = this.options;
    const isIn = (folder: string): boolean => wayDown(as(folder), path) !== null;
    // Files directly in the data folder are the app's own: the history, the hub's token.
    const inHome = wayDown(as(home), path);
    if (inHome?.[0] === 'browser') return false; // the window's own storage
    if (inHome !== null) return inHome.length > 1 || (inHome.length === 1 && !isFile(path)) || this.opened.has(path) || models().some((model) => resolve(model.path) === path || isIn(model.path));
    if (isIn(resources) || [...this.opened].some(isIn) || models().some((model) => isIn(model.path))) return true;
    if (folders) return folders.some((folder) => isIn(resolve(folder)));
    const user = homedir();
    if (parse(user).root === user) return false;
    const inUser = wayDown(as(user), path);
    return inUser !== null && !inUser.some((part) => part.startsWith('.') || PRIVATE.has(part));
  }
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === false;
}

/** The names from a folder down to a path, [] for the folder itself, null where it is not in it. */
function wayDown(folder: string, path: string): string[] | null {
  const way = relative(folder, path);
  if (isAbsolute(way) || way === '..' || way.startsWith(`..${sep}`)) return null;
  return way === '' ? [] : way.split(sep);
}

/** The folder with links resolved, as far as it is there. */
function real(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return dirname(folder) === folder ? folder : resolve(real(dirname(folder)), relative(dirname(folder), folder));
  }
}
