/** Where the libraries of the TensorFlow engine are looked for. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { libraryNames } from './library-names.ts';

export const tensorFlowVersion = '2.21.0';

/** The folder's name of this platform's pack, under `<home>/engines/`. */
export function packName(platform: string = process.platform, arch: string = process.arch): string {
  return `tensorflow-${tensorFlowVersion}-${platform}-${arch}-cpu`;
}

/** Where an engine pack is installed in a data folder. */
export function packFolder(home: string): string {
  return join(home, 'engines', packName());
}

export type FoundLibraries = { folder: string; why: string } | { folder: undefined; why: string };

/**
 * Finds the two libraries: DRTUNE_TF_LIB_DIR (any folder holding them), then the data folder's pack, then a pack shared by the
 * machine's users under DRTUNE_ENGINES. A pack without its pack.json is half unpacked and does not count.
 */
export function findLibraries(home: string, env: Readonly<Record<string, string | undefined>> = process.env): FoundLibraries {
  const own = env['DRTUNE_TF_LIB_DIR'];
  if (own) {
    const missing = libraryNames().find((name) => !existsSync(join(own, name)));
    return missing
      ? { folder: undefined, why: `DRTUNE_TF_LIB_DIR names ${own}, which has no ${missing}` }
      : { folder: own, why: 'DRTUNE_TF_LIB_DIR' };
  }
  const shared = env['DRTUNE_ENGINES'];
  const places = [packFolder(home), ...(shared ? [join(shared, packName())] : [])];
  for (const folder of places) if (isPack(folder)) return { folder, why: 'the engine pack is installed' };
  return { folder: undefined, why: 'the engine pack is not installed' };
}

/** Whether a folder holds a whole pack. */
export function isPack(folder: string): boolean {
  if (!libraryNames().every((name) => existsSync(join(folder, name)))) return false;
  try {
    JSON.parse(readFileSync(join(folder, 'pack.json'), 'utf8'));
    return true;
  } catch {
    return false;
  }
}
