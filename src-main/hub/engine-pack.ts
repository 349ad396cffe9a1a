/**
 * Brings in the TensorFlow engine: downloads the pinned wheel, verifies it, unpacks the two libraries, tries them in a child
 * process, and only then puts them where the engine looks. An interrupted installation goes on where it stopped; one that
 * fails leaves the pack that was there.
 */
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { freeBytes } from '../base/disk.ts';
import { AppError } from '../base/errors.ts';
import { isPack, libraryFolder, packFolder, packName, type PackKind } from '../engine/engine-folder.ts';
import { probeTensorFlow, type ProbeResult } from '../engine/probe.ts';
import { fits } from './digest.ts';
import { download } from './download.ts';
import { withLock } from './lock.ts';
import { packFor, wheelsOf, type Pack, type Wheel } from './manifest.ts';
import { fileAddress, indexAddress, MIRROR } from './package-index.ts';
import { ProgressMeter, type PackProgress } from './progress.ts';
import { unpackEntries } from './unpack.ts';

export type { PackProgress } from './progress.ts';

export interface InstallOptions {
  /** The data folder, see base/paths.ts. */
  home: string;
  onProgress?(progress: PackProgress): void;
  /** Told in one line about waits, stalls and further attempts. */
  onNotice?(line: string): void;
  signal?: AbortSignal;
  /** Which pack: TensorFlow for the processor, or with CUDA. Default 'cpu'. */
  kind?: PackKind;
  /** The pack's wheel, brought along: nothing is downloaded then, and it stays where it is. */
  file?: string;
  /** Install even if the pack is there. */
  force?: boolean;
  /** For tests. */
  pack?: Pack;
  probe?(folder: string): Promise<ProbeResult>;
  stallMs?: number;
  backoffMs?: number;
}

export interface PackStatus {
  /** Whether TensorFlow has libraries for this platform. */
  readonly supported: boolean;
  readonly installed: boolean;
  readonly name: string;
  readonly folder: string;
  /** Bytes the pack takes once unpacked. */
  readonly bytesUnpacked: number;
  /** Bytes to download, and those already there. */
  readonly bytesToDownload: number;
  readonly bytesDownloaded: number;
  /** Bytes that the disk has to hold besides what is there already. */
  readonly bytesNeeded: number;
  /** Name of the wheel that holds TensorFlow. */
  readonly file: string;
}

/** Room for folders and the manifest. */
const SLACK = 16 * 2 ** 20;

/** What is there, without touching the network. */
export async function packStatus(home: string, pack: Pack | undefined = packFor()): Promise<PackStatus> {
  const kind = kindOf(pack);
  const folder = packFolder(home, kind);
  const parts = pack ? await Promise.all(wheelsOf(pack).map((wheel) => stat(`${downloadFile(home, wheel)}.part`).then((s) => s.size, () => 0))) : [];
  const bytesDownloaded = parts.reduce((sum, size) => sum + size, 0);
  return {
    supported: pack !== undefined,
    installed: isPack(libraryFolder(folder, kind)),
    name: packName(kind),
    folder,
    bytesUnpacked: pack ? unpackedSize(pack) : 0,
    bytesToDownload: pack ? downloadSize(pack) : 0,
    bytesDownloaded,
    bytesNeeded: pack ? Math.max(0, downloadSize(pack) - bytesDownloaded) + unpackedSize(pack) + SLACK : 0,
    file: pack?.file ?? '',
  };
}

/**
 * Installs this platform's pack.
 * @returns its folder, and whether it was installed now (false: it was there)
 * @throws AppError: 'engine' (no pack for this platform, or it does not work here), 'network', 'disk'
 */
export async function installPack(options: InstallOptions): Promise<{ dir: string; installed: boolean }> {
  const { home, signal } = options;
  const pack = options.pack ?? packFor(options.kind);
  if (!pack) {
    const what = options.kind === 'cuda' ? 'TensorFlow publishes no libraries with CUDA' : 'TensorFlow publishes no usable libraries';
    throw new AppError('engine', `${what} for ${process.platform} ${process.arch}.`, { hint: 'The webgpu engine computes on GPUs of every maker; the wasm engine works everywhere.' });
  }
  const kind = kindOf(pack);
  const dir = packFolder(home, kind);
  const isThere = (): boolean => !options.force && isPack(libraryFolder(dir, kind));
  const notice = options.onNotice ?? (() => undefined);
  const onWait = (pid: number): void => notice(`Waiting for another installation (process ${pid}).`);
  if (isThere()) return { dir, installed: false };
  return withLock(join(home, 'engines', '.install.lock'), onWait, signal, async () => {
    if (isThere()) return { dir, installed: false }; // by the one we waited for
    await removeLeftovers(home);
    await checkSpace(home, pack, options.file !== undefined);
    const meter = new ProgressMeter(options.onProgress ?? (() => undefined));
    const files = options.file === undefined ? await downloadWheels(pack, options, meter) : [await broughtWheel(pack, options.file, meter, signal)];
    const fresh = join(home, 'engines', `.unpacking-${process.pid}`);
    const libraries = libraryFolder(fresh, kind);
    try {
      let unpacked = 0;
      for (const [i, { entries }] of wheelsOf(pack).entries()) {
        await mkdir(fresh, { recursive: true });
        await unpackEntries(files[i]!, entries, fresh, kind === 'cuda' ? 'folders' : 'flat', (bytes) => meter.report('unpack', unpacked + bytes, unpackedSize(pack)), signal);
        unpacked += entriesSize(entries);
      }
      meter.report('probe', 0, 1);
      const probe = await (options.probe ?? probeTensorFlow)(libraries);
      if (!probe.usable) {
        throw new AppError('engine', `The TensorFlow libraries do not work on this machine: ${probe.why}.`, { hint: 'The wasm engine works here; choose it with engine wasm.' });
      }
      meter.report('probe', 1, 1);
      await writeManifest(libraries, pack, probe.version);
      await putInPlace(fresh, dir);
    } finally {
      await rm(fresh, { recursive: true, force: true });
    }
    if (options.file === undefined) for (const file of files) await rm(file, { force: true });
    return { dir, installed: true };
  });
}

/** Downloads and verifies each wheel of a pack; those that are there already are only verified. @returns their files */
async function downloadWheels(pack: Pack, options: InstallOptions, meter: ProgressMeter): Promise<string[]> {
  const { home, signal } = options;
  const files: string[] = [];
  let before = 0;
  for (const wheel of wheelsOf(pack)) {
    const file = await download({
      address: () => fileAddress(indexAddress(wheel.registry), wheel.package, wheel.file, signal),
      file: downloadFile(home, wheel),
      size: wheel.size,
      digest: { kind: 'sha256', hex: wheel.sha256 },
      mirror: MIRROR,
      onProgress: (phase, bytes) => meter.report(phase, before + bytes, downloadSize(pack)),
      onNotice: options.onNotice ?? (() => undefined),
      ...(signal ? { signal } : {}),
      ...(options.stallMs === undefined ? {} : { stallMs: options.stallMs }),
      ...(options.backoffMs === undefined ? {} : { backoffMs: options.backoffMs }),
    });
    files.push(file);
    before += wheel.size;
  }
  return files;
}

/** The wheel that the user brought, if it is the very one. @throws AppError('config' | 'network') */
async function broughtWheel(pack: Pack, file: string, meter: ProgressMeter, signal: AbortSignal | undefined): Promise<string> {
  if (wheelsOf(pack).length > 1) throw new AppError('config', 'This pack is more than one file.', { hint: 'It can only be downloaded.' });
  const size = await stat(file).then((found) => (found.isFile() ? found.size : -1), () => -1);
  const expected = `Expected ${pack.file}, ${megabytes(pack.size)}, of ${pack.package} ${pack.version}.`;
  if (size < 0) throw new AppError('config', `There is no file ${file}.`, { hint: expected });
  const same = await fits(file, pack.size, { kind: 'sha256', hex: pack.sha256 }, async (bytes) => {
    signal?.throwIfAborted();
    meter.report('verify', bytes, pack.size);
  });
  if (!same) throw new AppError('config', `${file} is another file, or damaged: it has ${size} bytes, and not the sha256 of the engine pack.`, { hint: expected });
  return file;
}

function kindOf(pack: Pack | undefined): PackKind {
  return pack?.kind ?? 'cpu';
}

function downloadFile(home: string, wheel: Wheel): string {
  return join(home, 'engines', 'downloads', wheel.file);
}

function downloadSize(pack: Pack): number {
  return wheelsOf(pack).reduce((sum, { size }) => sum + size, 0);
}

function entriesSize(entries: Wheel['entries']): number {
  return entries.reduce((sum, { size }) => sum + size, 0);
}

function unpackedSize(pack: Pack): number {
  return wheelsOf(pack).reduce((sum, { entries }) => sum + entriesSize(entries), 0);
}

/** Clears up after installations that were killed; one killed while it swapped folders gives the old pack back. */
async function removeLeftovers(home: string): Promise<void> {
  const engines = join(home, 'engines');
  for (const kind of ['cpu', 'cuda'] as const) {
    const dir = packFolder(home, kind);
    if (!existsSync(dir) && isPack(libraryFolder(`${dir}.old`, kind))) await rename(`${dir}.old`, dir);
  }
  for (const name of await readdir(engines)) {
    if (name.startsWith('.unpacking-') || name.endsWith('.old')) await rm(join(engines, name), { recursive: true, force: true });
  }
}

/** @throws AppError('disk') unless what is missing of the download and the unpacked libraries fit. */
async function checkSpace(home: string, pack: Pack, brought: boolean): Promise<void> {
  const needed = brought ? unpackedSize(pack) + SLACK : (await packStatus(home, pack)).bytesNeeded;
  const free = freeBytes(home);
  if (free < needed) {
    throw new AppError('disk', `The engine pack needs ${megabytes(needed)} in ${home}, where ${megabytes(free)} are free.`, {
      hint: 'Free some space, or set DRTUNE_HOME to a folder on another disk.',
    });
  }
}

/** pack.json marks a pack as whole; it is written last. */
async function writeManifest(folder: string, pack: Pack, version: string): Promise<void> {
  const file = await open(join(folder, 'pack.json'), 'w');
  await file.writeFile(`${JSON.stringify({ name: packName(kindOf(pack)), version, package: pack.package, file: pack.file, sha256: pack.sha256 }, null, 2)}\n`);
  await file.sync();
  await file.close();
}

/** Moves the fresh folder into place; the old one goes only when the new one stands. */
async function putInPlace(fresh: string, dir: string): Promise<void> {
  const old = `${dir}.old`;
  if (existsSync(dir)) await rename(dir, old);
  try {
    await rename(fresh, dir);
  } catch (error) {
    if (existsSync(old)) await rename(old, dir);
    throw new AppError('disk', `Cannot put the engine pack into ${dir}: ${(error as Error).message}.`, { cause: error });
  }
  await rm(old, { recursive: true, force: true });
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
