/** What of downloaded models is on the disk: records, what was begun, room. No request is made here. */
import { mkdir, readdir, readFile, rm, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { sizeOf } from '../base/disk.ts';
import { AppError } from '../base/errors.ts';
import type { Digest } from './digest.ts';
import type { HubFile, Licence } from './hub-api.ts';
import { withLock } from './lock.ts';
import type { Wanted } from './needed-files.ts';
import { checkFileNames } from './repo-name.ts';

/** What the user asked for. */
export interface ModelRequest extends Wanted {
  /** owner/name, owner/name/FILE.safetensors or an address. */
  readonly repo: string;
  /** Default "main". */
  readonly revision?: string | undefined;
}

export interface ModelPlan {
  readonly repo: string;
  readonly revision: string;
  readonly commit: string;
  /** The single file, null for a diffusers folder. */
  readonly file: string | null;
  readonly variant: string;
  /** Others that could be asked for. */
  readonly variants: readonly string[];
  readonly files: readonly (HubFile & { readonly digest: Digest })[];
  /** Of all files, and of what is already there. */
  readonly bytes: number;
  readonly bytesThere: number;
  readonly freeBytes: number;
  readonly licence: Licence;
  readonly gated: boolean;
  readonly notes: readonly string[];
  /** Absolute. */
  readonly folder: string;
  /** The commit of the finished download in that folder, null if there is none. */
  readonly present: string | null;
}

/** download.json beside a downloaded model, and the record of one under way. */
const recordSchema = z.object({
  repo: z.string(), revision: z.string(), commit: z.string(), file: z.string().nullable(), variant: z.string(),
  licence: z.object({ id: z.string(), link: z.string().nullable() }),
  files: z.array(z.object({ path: z.string(), size: z.number(), digest: z.object({ kind: z.enum(['sha256', 'git-blob']), hex: z.string() }) })),
});
export type DownloadRecord = z.infer<typeof recordSchema>;

export const RECORD = 'download.json';
export const PARTIAL = '.partial';
/** Left free on the disk. */
const SPARE_BYTES = 64 * 2 ** 20;
/** Folder of downloaded models. */
export function modelsFolder(home: string): string {
  return join(home, 'models');
}

/** The record in a folder, undefined where there is none or it cannot be read. */
export async function readRecord(folder: string): Promise<DownloadRecord | undefined> {
  const text = await readFile(join(folder, RECORD), 'utf8').catch(() => undefined);
  try {
    return text === undefined ? undefined : recordSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Downloads that were begun and not finished, by the name of their folder, with what is there of them. */
export async function interruptedDownloads(home: string): Promise<{ id: string; record: DownloadRecord; bytes: number; bytesThere: number }[]> {
  const names = await readdir(modelsFolder(home)).catch(() => []);
  const found = [];
  for (const name of names.filter((each) => each.endsWith(PARTIAL)).sort()) {
    const record = await readRecord(join(modelsFolder(home), name));
    if (!record) continue;
    const folder = join(modelsFolder(home), name.slice(0, -PARTIAL.length));
    found.push({ id: basename(folder), record, bytes: record.files.reduce((sum, { size: bytes }) => sum + bytes, 0), bytesThere: await bytesThere(folder, record.files) });
  }
  return found;
}

/** The plan of a download that was begun, without asking the hub. @throws AppError('not-found') */
export async function resumedPlan(home: string, id: string): Promise<ModelPlan> {
  const found = (await interruptedDownloads(home)).find((each) => each.id === id);
  if (!found) throw new AppError('not-found', `No download ${id} was begun.`, { hint: 'Ask for the model again.' });
  const folder = join(modelsFolder(home), id);
  checkFileNames(found.record.files.map(({ path }) => path));
  return { ...found.record, folder, bytes: found.bytes, bytesThere: found.bytesThere, freeBytes: await freeBytes(home), gated: false, notes: [], variants: [], present: (await readRecord(folder))?.commit ?? null };
}

/** Deletes what there is of an unfinished download. @throws AppError('busy') while a process is at it */
export async function discardDownload(home: string, id: string): Promise<void> {
  const begun = (await interruptedDownloads(home)).find((each) => each.id === id);
  if (begun) await withModelLock(home, id, begun.record.repo, undefined, () => rm(join(modelsFolder(home), `${id}${PARTIAL}`), { recursive: true, force: true, maxRetries: 5 }));
}

/** One process a model: a second one does not wait but says so. @throws AppError('busy') */
export async function withModelLock<T>(home: string, id: string, repo: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const lock = join(modelsFolder(home), `.${id}.lock`);
  const busy = (pid: number): never => {
    throw new AppError('busy', `${repo} is already being downloaded by process ${pid}.`, { hint: `Wait for it. If no such download is under way, delete ${lock}.` });
  };
  return withLock(lock, busy, signal, work);
}

/** Bytes of a download that are there already: files done, parts of files, and files of the revision in place. */
export async function bytesThere(folder: string, files: DownloadRecord['files'] | ModelPlan['files']): Promise<number> {
  const [partial, old] = await Promise.all([readRecord(folder + PARTIAL), readRecord(folder)]);
  let bytes = 0;
  for (const { path, size, digest } of files) {
    if (partial && same(partial, path, digest)) {
      const done = await sizeOf(join(folder + PARTIAL, path));
      bytes += Math.min(size, done > 0 ? done : await sizeOf(`${join(folder + PARTIAL, path)}.part`));
    } else if (old && same(old, path, digest) && (await sizeOf(join(folder, path))) === size) bytes += size;
  }
  return bytes;
}

export function same(record: DownloadRecord, path: string, digest: Digest): boolean {
  return record.files.some((each) => each.path === path && each.digest.hex === digest.hex);
}

export async function freeBytes(home: string): Promise<number> {
  await mkdir(modelsFolder(home), { recursive: true });
  const disk = await statfs(modelsFolder(home));
  return disk.bavail * disk.bsize;
}

/** @throws AppError('disk') with the numbers, if what is missing does not fit */
export function checkSpace(plan: Pick<ModelPlan, 'repo' | 'bytes' | 'bytesThere' | 'freeBytes' | 'folder'>): void {
  const needed = plan.bytes - plan.bytesThere;
  if (needed + SPARE_BYTES <= plan.freeBytes) return;
  const there = plan.bytesThere > 0 ? ` more (${size(plan.bytesThere)} are there)` : '';
  throw new AppError('disk', `${plan.repo} needs ${size(needed)}${there} in ${dirname(plan.folder)}, where ${size(plan.freeBytes)} are free.`, {
    hint: 'Free some space, or set DRTUNE_HOME to a folder on another disk.',
  });
}

/** The name a download is listed under: "stable-diffusion-xl-base-1.0", or the single file's stem. */
export function modelNameOf({ repo, file }: Pick<ModelPlan, 'repo' | 'file'>): string {
  return file === null ? repo.split('/')[1]! : basename(file).replace(/\.\w+$/, '');
}

/** 6938078334 -> "6.94 GB". */
export function size(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(bytes >= 1e7 ? 0 : 1)} MB`;
}
