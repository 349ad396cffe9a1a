/** The base models this machine knows: the built-in starter, and folders and files the user has added or downloaded. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { writeWhole } from '../base/atomic.ts';
import { AppError } from '../base/errors.ts';

export const STARTER = 'starter';

export interface KnownModel {
  readonly name: string;
  /** Absolute path of a diffusers folder or a single file. */
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

/** Whether the model is still where it was: a folder with its model_index.json, or a file. */
export function isThere(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && (!found.isDirectory() || existsSync(join(path, 'model_index.json')));
}

/**
 * The model behind a name or a path. Never another model than the one named.
 * @throws AppError('weights') naming the known models
 */
export function findModel(home: string, nameOrPath: string): KnownModel {
  const known = listModels(home);
  const named = known.find((each) => each.name === nameOrPath);
  if (named) {
    if (isThere(named.path)) return named;
    const lacks = existsSync(named.path) ? 'there is no model_index.json' : 'it is not there';
    throw new AppError('weights', `The model "${named.name}" should be at ${named.path}, but ${lacks}.`, {
      hint: named.builtIn ? 'Install the app again.' : 'Put it back, add it from where it is now, or remove it from the list.',
    });
  }
  const path = resolve(nameOrPath);
  if (nameOrPath !== '' && existsSync(path)) {
    checkPlace(path);
    return { name: modelName(path), path, builtIn: false };
  }
  throw new AppError('weights', `There is no model "${nameOrPath}", neither by name nor as a folder or file.`, {
    hint: `Known models: ${known.map((each) => each.name).join(', ')}.`,
  });
}

/** What can be told without reading the model; who opens it learns the rest. */
function checkPlace(path: string): void {
  if (statSync(path).isDirectory()) {
    if (existsSync(join(path, 'model_index.json'))) return;
    throw new AppError('weights', `${path} has no model_index.json.`, { hint: 'Name the folder of a diffusers pipeline, the one that holds unet, vae and text_encoder, or a single .safetensors file.' });
  }
  if (!checkpoint.test(extname(path))) throw new AppError('weights', `${path} is no checkpoint.`, { hint: 'A model is a folder in diffusers format or a file that ends with .safetensors or .ckpt.' });
}

const checkpoint = /^\.(safetensors|ckpt|pt|pth|bin)$/;

/** "…/sd_xl_base_1.0.safetensors" -> "sd_xl_base_1.0"; a folder's own name. */
function modelName(path: string): string {
  const name = basename(path);
  return checkpoint.test(extname(name)) ? name.slice(0, -extname(name).length) : name;
}

/**
 * Adds a folder or a file in place, under a name made unique. One whose path is on the list stays as it is; where a model of
 * that name is on the list but gone from its place, this is where it went. The caller has opened it: what is no model is not added.
 * @throws AppError('weights') if there is nothing like a model
 */
export function addModel(home: string, path: string, wanted?: string): KnownModel {
  const absolute = resolve(path);
  if (!existsSync(absolute)) throw new AppError('weights', `There is no folder or file ${absolute}.`);
  checkPlace(absolute);
  const added = readAdded(home);
  const before = added.find((each) => each.path === absolute);
  if (before) return before;
  const base = wanted ?? modelName(absolute);
  const moved = added.find((each) => each.name === base && !isThere(each.path));
  if (moved) {
    const model: KnownModel = { ...moved, path: absolute };
    writeAdded(home, added.map((each) => (each === moved ? model : each)));
    return model;
  }
  const taken = new Set(listModels(home).map((each) => each.name));
  let name = base;
  for (let n = 2; taken.has(name); n++) name = `${base}-${n}`;
  const model: KnownModel = { name, path: absolute, builtIn: false };
  writeAdded(home, [...added, model]);
  return model;
}

/** Takes an added model off the list; its files stay. @throws AppError('not-found' | 'config') */
export function removeModel(home: string, name: string): KnownModel {
  if (name === STARTER) throw new AppError('config', 'The starter is built in and cannot be removed.');
  const added = readAdded(home);
  const found = added.find((each) => each.name === name);
  if (!found) {
    const names = added.map((each) => each.name).join(', ');
    throw new AppError('not-found', `There is no added model "${name}".`, { hint: names ? `Added models: ${names}.` : 'No model has been added.' });
  }
  writeAdded(home, added.filter((each) => each !== found));
  return found;
}
