/** The base models this machine knows: the built-in starter, and folders the user has added. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { writeWhole } from '../base/atomic.ts';
import { AppError } from '../base/errors.ts';

export const STARTER = 'starter';

export interface KnownModel {
  readonly name: string;
  /** Absolute path of a diffusers folder. */
  readonly path: string;
  readonly builtIn: boolean;
}

/** The project's resources folder: beside the source, or beside the app's bundle. @throws AppError('disk') where there is none. */
export function resourcesFolder(from: string = import.meta.dirname): string {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'resources');
    if (existsSync(join(candidate, 'starter'))) return candidate;
    if (dirname(folder) === folder) throw new AppError('disk', `No resources folder above ${from}.`, { hint: 'Install the app again.' });
  }
}

/** Folder of the starter's pipeline. */
export function starterPipeline(): string {
  return join(resourcesFolder(), 'starter', 'pipeline');
}

/** Folder of the starter's CLIP. */
export function starterClip(): string {
  return join(resourcesFolder(), 'starter', 'clip');
}

function listFile(home: string): string {
  return join(home, 'models', 'models.json');
}

function readAdded(home: string): KnownModel[] {
  const file = listFile(home);
  if (!existsSync(file)) return [];
  try {
    const parsed = JSON.parse(readFileSync(file, 'utf8')) as { models: { name: string; path: string }[] };
    return parsed.models.map(({ name, path }) => ({ name, path, builtIn: false }));
  } catch (cause) {
    throw new AppError('disk', `The list of models ${file} cannot be read.`, { hint: 'Repair or delete it, then add the models again.', cause });
  }
}

function writeAdded(home: string, models: readonly KnownModel[]): void {
  const file = listFile(home);
  writeWhole(file, `${JSON.stringify({ models: models.map(({ name, path }) => ({ name, path })) }, null, 1)}\n`);
}

/** Every known base model, the starter first. */
export function listModels(home: string): KnownModel[] {
  return [{ name: STARTER, path: starterPipeline(), builtIn: true }, ...readAdded(home)];
}

/**
 * The folder behind a name or a path. Never another model than the one named.
 * @throws AppError('weights') naming the known models
 */
export function findModel(home: string, nameOrPath: string): KnownModel {
  const known = listModels(home);
  const named = known.find((each) => each.name === nameOrPath);
  if (named) {
    if (!existsSync(join(named.path, 'model_index.json'))) {
      throw new AppError('weights', `The model "${named.name}" should be at ${named.path}, but there is no model_index.json.`, {
        hint: named.builtIn ? 'Install the app again.' : 'Put it back or remove it from the list.',
      });
    }
    return named;
  }
  const path = resolve(nameOrPath);
  if (existsSync(path)) {
    checkFolder(path);
    return { name: basename(path), path, builtIn: false };
  }
  throw new AppError('weights', `There is no model "${nameOrPath}", neither by name nor as a folder.`, {
    hint: `Known models: ${known.map((each) => each.name).join(', ')}.`,
  });
}

function checkFolder(path: string): void {
  if (!statSync(path).isDirectory()) {
    throw new AppError('weights', `${path} is a file; a base model is a diffusers folder in this version.`, {
      hint: 'Convert a single .safetensors file with diffusers\' save_pretrained first.',
    });
  }
  if (!existsSync(join(path, 'model_index.json'))) {
    throw new AppError('weights', `${path} has no model_index.json.`, { hint: 'Give the folder written by diffusers\' save_pretrained.' });
  }
}

/** Adds a diffusers folder to the list under its own name, made unique. @throws AppError('weights') if it is not one */
export function addModel(home: string, path: string): KnownModel {
  const folder = resolve(path);
  if (!existsSync(folder)) throw new AppError('weights', `There is no folder ${folder}.`);
  checkFolder(folder);
  const added = readAdded(home);
  const before = added.find((each) => each.path === folder);
  if (before) return before;
  const taken = new Set(listModels(home).map((each) => each.name));
  let name = basename(folder);
  for (let n = 2; taken.has(name); n++) name = `${basename(folder)}-${n}`;
  const model: KnownModel = { name, path: folder, builtIn: false };
  writeAdded(home, [...added, model]);
  return model;
}

/** Takes an added model off the list; its files stay. @throws AppError('not-found' | 'config') */
export function removeModel(home: string, name: string): void {
  if (name === STARTER) throw new AppError('config', 'The starter is built in and cannot be removed.');
  const added = readAdded(home);
  if (!added.some((each) => each.name === name)) {
    const names = added.map((each) => each.name).join(', ');
    throw new AppError('not-found', `There is no added model "${name}".`, { hint: names ? `Added models: ${names}.` : 'No model has been added.' });
  }
  writeAdded(home, added.filter((each) => each.name !== name));
}
