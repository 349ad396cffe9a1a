/**
 * Brings a model from the hub into the data folder. First the plan: which files, how large, under which licence, whether the
 * disk has room. Then the files, each verified, under `<folder>.partial`; the folder takes its name when all of them are there.
 * An interrupted download goes on where it stopped; one of another revision leaves the old model until the new one is whole.
 */
import { existsSync } from 'node:fs';
import { link, mkdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { writeWhole } from '../base/atomic.ts';
import { sizeOf } from '../base/disk.ts';
import { AppError } from '../base/errors.ts';
import { catalogEntries } from './catalog.ts';
import { fits, type Digest } from './digest.ts';
import { download } from './download.ts';
import { RefusedError } from './http.ts';
import { authorization, fileAddress, gatedError, MIRROR, type Hub } from './hub-address.ts';
import { explain, listRepo } from './hub-api.ts';
import { bytesThere, checkSpace, freeBytes, modelsFolder, PARTIAL, readRecord, RECORD, same, withModelLock, type DownloadRecord, type ModelPlan, type ModelRequest } from './model-store.ts';
import { neededFiles } from './needed-files.ts';
import { ProgressMeter } from './progress.ts';
import { checkRevision, folderName, parseRepo } from './repo-name.ts';

export interface ModelProgress {
  readonly phase: 'download' | 'verify';
  /** The file at work. */
  readonly file: string;
  /** Of all files when downloading, of this file when verifying. */
  readonly bytes: number;
  readonly total: number;
  readonly bytesPerSecond: number;
  readonly etaSeconds: number | undefined;
}

export interface DownloadModelOptions extends Hub {
  readonly onProgress?: (progress: ModelProgress) => void;
  readonly stallMs?: number | undefined;
  /** Given the folder once all but the weights are there; what it throws ends the download before the gigabytes. */
  readonly checkConfigs?: ((folder: string) => void | Promise<void>) | undefined;
}

/** A file as large as this is worth a line of its own while it is verified. */
const LARGE_BYTES = 64 * 2 ** 20;

/**
 * Asks the hub what a model takes. Writes nothing.
 * @throws AppError: 'config' (a name or revision that is none), 'network', 'weights' (not a model this app reads)
 */
export async function planModel(home: string, request: ModelRequest, hub: Hub): Promise<ModelPlan> {
  const named = parseRepo(request.repo);
  const revision = checkRevision(request.revision ?? named.revision ?? 'main');
  const file = request.file ?? named.file;
  const listing = await listRepo(hub, named.repo, revision);
  const needed = neededFiles(named.repo, listing.files, { variant: request.variant, file });
  const files = needed.files.map((each) => ({ ...each, digest: each.digest! }));
  const folder = join(modelsFolder(home), folderName(named.repo, needed.file ?? undefined));
  return {
    repo: named.repo, revision, commit: listing.commit, file: needed.file, variant: needed.variant, variants: needed.variants, files,
    bytes: files.reduce((sum, { size }) => sum + size, 0), bytesThere: await bytesThere(folder, files), freeBytes: await freeBytes(home),
    licence: listing.licence, gated: listing.gated, notes: needed.notes, folder, present: (await readRecord(folder))?.commit ?? null,
  };
}

/** @throws AppError('network') for a gated model without a token: better before the download than in it */
function checkAccess(plan: ModelPlan, hub: Hub): void {
  if (!plan.gated || Object.keys(authorization(hub)).length > 0) return;
  throw gatedError(hub.endpoint, plan.repo);
}

/**
 * Downloads what was planned; the licence has been accepted.
 * @returns the path of the model: its folder, or its single file
 * @throws AppError: 'network', 'disk', 'busy' (the same model is being downloaded by another process)
 */
export async function downloadModel(home: string, plan: ModelPlan, options: DownloadModelOptions): Promise<string> {
  return withModelLock(home, basename(plan.folder), plan.repo, options.signal, async () => {
    await giveBackOld(plan.folder);
    if (plan.present !== plan.commit || !(await isWhole(plan, options))) {
      checkAccess(plan, options);
      checkSpace({ ...plan, bytesThere: await bytesThere(plan.folder, plan.files), freeBytes: await freeBytes(home) });
      await fetchAll(plan, options);
      await putInPlace(plan.folder);
    }
    return plan.file === null ? plan.folder : join(plan.folder, plan.file);
  });
}

/** Whether the folder in place holds every file of the plan, byte for byte: who asks for a model again may want it repaired. */
async function isWhole(plan: ModelPlan, { onProgress }: DownloadModelOptions): Promise<boolean> {
  const record = await readRecord(plan.folder);
  if (!record || !plan.files.every(({ path, digest }) => same(record, path, digest))) return false;
  for (const { path, size, digest } of plan.files) {
    if (size >= LARGE_BYTES) onProgress?.({ phase: 'verify', file: path, bytes: 0, total: size, bytesPerSecond: 0, etaSeconds: undefined });
    if (!(await fits(join(plan.folder, path), size, digest))) return false;
  }
  return true;
}

async function fetchAll(plan: ModelPlan, options: DownloadModelOptions): Promise<void> {
  const partial = plan.folder + PARTIAL;
  const old = await readRecord(plan.folder);
  await dropOthers(partial, plan);
  const { repo, revision, commit, file, variant, licence, files } = plan;
  const known = catalogEntries().find((entry) => entry.repo === repo && entry.file === file);
  if (file !== null && known?.scheduler) writeWhole(join(partial, `${file}.json`), `${JSON.stringify(known.scheduler)}\n`);
  writeWhole(join(partial, RECORD), `${JSON.stringify({ repo, revision, commit, file, variant, licence, files: [...files] } satisfies DownloadRecord, null, 1)}\n`);
  const meter = new ProgressMeter(options.onProgress ? (progress) => options.onProgress!({ ...progress, phase: progress.phase as ModelProgress['phase'], file: current }) : () => undefined);
  let current = '';
  let before = 0;
  // The small ones first: a damaged config, or one of another kind of model, is found before gigabytes are fetched.
  let unchecked = file === null;
  for (const each of [...files].sort((a, b) => Number(isWeights(a.path)) - Number(isWeights(b.path)) || a.size - b.size)) {
    if (unchecked && isWeights(each.path)) {
      unchecked = false;
      await checkOrDrop(partial, options);
    }
    current = each.path;
    const target = join(partial, each.path);
    const isThere = existsSync(target) && (await sizeOf(target)) === each.size;
    const isOld = old !== undefined && same(old, each.path, each.digest);
    if (!isThere && !(isOld && (await reuse(join(plan.folder, each.path), target, each)))) {
      await fetchOne(plan, each, target, options, (phase, bytes) => {
        if (phase === 'download') meter.report('download', before + bytes, plan.bytes);
        else if (each.size >= LARGE_BYTES) meter.report('verify', bytes, each.size);
      });
    }
    before += each.size;
    meter.report('download', before, plan.bytes);
  }
}

function isWeights(path: string): boolean {
  return /\.(safetensors|bin|ckpt)$/.test(path);
}

/** What cannot be used is not begun: nothing of it stays. */
async function checkOrDrop(partial: string, { checkConfigs }: DownloadModelOptions): Promise<void> {
  try {
    await checkConfigs?.(partial);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

async function fetchOne(plan: ModelPlan, file: ModelPlan['files'][number], target: string, options: DownloadModelOptions, onProgress: (phase: 'download' | 'verify', bytes: number) => void): Promise<void> {
  const { endpoint, signal, stallMs, backoffMs, onNotice } = options;
  try {
    const part = await download({
      address: async () => fileAddress(endpoint, plan.repo, plan.commit, file.path),
      headers: authorization(options), mirror: MIRROR, file: target, size: file.size, digest: file.digest, onProgress,
      onNotice: (line) => onNotice?.(`${file.path}: ${line}`),
      ...(signal ? { signal } : {}), ...(stallMs === undefined ? {} : { stallMs }), ...(backoffMs === undefined ? {} : { backoffMs }),
    });
    await rename(part, target);
  } catch (error) {
    throw error instanceof RefusedError ? explain(error, options, plan.repo, plan.commit, file.path) : error;
  }
}

/** A file that the revision in place has too is linked, not fetched again; it must still be what it was. */
async function reuse(old: string, target: string, { size: bytes, digest }: { size: number; digest: Digest }): Promise<boolean> {
  if (!(await fits(old, bytes, digest))) return false;
  await mkdir(dirname(target), { recursive: true });
  await rm(target, { force: true });
  return link(old, target).then(() => true, () => false);
}

/** Clears what an earlier attempt left that is not of this plan. */
async function dropOthers(partial: string, plan: ModelPlan): Promise<void> {
  const record = await readRecord(partial);
  if (!record) return rm(partial, { recursive: true, force: true });
  for (const { path, digest } of record.files) {
    if (plan.files.some((each) => each.path === path && each.digest.hex === digest.hex)) continue;
    for (const end of ['', '.part', '.part.etag']) await rm(join(partial, path) + end, { force: true });
  }
}

/** The new folder takes the place of the old one, which goes only when the new one stands. */
async function putInPlace(folder: string): Promise<void> {
  const old = `${folder}.old`;
  await rm(old, { recursive: true, force: true });
  if (existsSync(folder)) await rename(folder, old);
  try {
    await rename(folder + PARTIAL, folder);
  } catch (cause) {
    if (existsSync(old)) await rename(old, folder);
    throw new AppError('disk', `${folder} cannot be put in place: ${(cause as Error).message}.`, { hint: 'Close what uses the old model and start again; what is downloaded is kept.', cause });
  }
  await rm(old, { recursive: true, force: true });
}

/** Killed while it swapped folders: the old model comes back. */
async function giveBackOld(folder: string): Promise<void> {
  if (!existsSync(folder) && existsSync(`${folder}.old`)) await rename(`${folder}.old`, folder);
}
