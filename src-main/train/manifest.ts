/** manifest.json of a run: all that made it, so that it can be made again, and the pictures it left. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import type { TrainerEventOf } from '../contract/events.ts';
import type { RunConfig } from '../contract/run.ts';
import type { EngineInfo } from '../engine/engine.ts';
import { hashing, onDisk, writeWhole } from '../base/atomic.ts';
import { AppError } from '../base/errors.ts';
import { stepping, type Work } from '../base/work.ts';

export interface Manifest {
  readonly version: 1;
  readonly app: string;
  readonly node: string;
  readonly startedAt: string;
  readonly config: RunConfig;
  readonly engine: Pick<EngineInfo, 'name' | 'version' | 'device' | 'why'>;
  readonly model: { readonly name: string; readonly path: string };
  readonly prompts: readonly string[];
  readonly heldOutPrompts: readonly string[];
  /** sha256 of every file the run read, by path. */
  readonly inputs: Readonly<Record<string, string>>;
  readonly pictures: TrainerEventOf<'image'>[];
  /** What each normalised term is divided by, by its key; measured on the base model at the start. */
  readonly spread?: Readonly<Record<string, number>>;
  /** The best checkpoint so far by what is held out. */
  readonly best?: { readonly step: number; readonly file: string };
}

const FILE = 'manifest.json';

export function writeManifest(runDir: string, manifest: Manifest): void {
  onDisk(join(runDir, FILE), () => writeWhole(join(runDir, FILE), `${JSON.stringify(manifest, null, 1)}\n`));
}

/** The inputs an earlier session read; none where there is no manifest to tell. */
function inputsBefore(runDir: string): Readonly<Record<string, string>> {
  try {
    return (JSON.parse(readFileSync(join(runDir, FILE), 'utf8')) as Manifest).inputs ?? {};
  } catch {
    return {};
  }
}

/** Refuses to go on with other weights, prompts or pictures than the run began with. @throws AppError('weights') naming the files */
export function checkInputs(runDir: string, now: Readonly<Record<string, string>>): void {
  const changed = Object.entries(inputsBefore(runDir)).filter(([file, sum]) => now[file] !== undefined && now[file] !== sum);
  if (changed.length === 0) return;
  const [[file, sum]] = changed as [[string, string]];
  const others = changed.length > 1 ? ` and ${changed.length - 1} more` : '';
  throw new AppError('weights', `${file}${others} changed since the run began: its sha256 was ${sum.slice(0, 12)}, now it is ${now[file]!.slice(0, 12)}.`, {
    hint: 'Put the file back as it was, or start a new run with it.',
  });
}

/** The spreads an earlier session measured; null where there are none to be had. */
export function spreadsBefore(runDir: string): Readonly<Record<string, number>> | null {
  try {
    return (JSON.parse(readFileSync(join(runDir, FILE), 'utf8')) as Manifest).spread ?? null;
  } catch {
    return null; // no manifest, or a damaged one: they are measured anew, and come out the same
  }
}

/** The pictures of an earlier session up to a step; none where there is no manifest. */
export function picturesBefore(runDir: string, step: number): TrainerEventOf<'image'>[] {
  const file = join(runDir, FILE);
  if (!existsSync(file)) return [];
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as Manifest).pictures.filter((each) => each.step <= step);
  } catch {
    return []; // a damaged list is made anew; the pictures themselves are in the history
  }
}

/** The files of a model by what they are called in the manifest: its one file, or a folder's weights and settings by path below it. */
export function modelFiles(folder: string): Record<string, string> {
  if (!statSync(folder).isDirectory()) return { [basename(folder)]: folder };
  const files = readdirSync(folder, { withFileTypes: true, recursive: true }).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(files.filter((file) => /\.(safetensors|bin|pt|pth|ckpt|json|txt)$/.test(file) && statSync(file).isFile()).map((file) => [relative(folder, file), file]));
}

/** sha256 of files by name. @throws AppError('config') where one is not there, AppError('cancelled') */
export async function hashFiles(files: Readonly<Record<string, string>>, work: Work): Promise<Record<string, string>> {
  const sums: Record<string, string> = {};
  const sizeOf = (file: string): number => {
    const there = statSync(file, { throwIfNoEntry: false });
    if (!there) throw new AppError('config', `There is no file ${file}.`, { hint: 'Bring it back, or choose another in the settings.' });
    return there.size;
  };
  const total = Object.values(files).reduce((bytes, file) => bytes + sizeOf(file), 0);
  let before = 0;
  for (const [name, file] of Object.entries(files)) {
    const reading: Work = { at: (what, bytes = 0) => work.at(what, before + bytes, total) };
    sums[name] = await stepping(reading, 'noting what the files are', total, hashing(file), (bytes) => bytes);
    before += sizeOf(file);
  }
  return sums;
}
