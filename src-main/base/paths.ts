/**
 * Where the app keeps its data. Everything lives under one folder: history.sqlite, runs/, models/, engines/, examples/.
 */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/**
 * The data folder: DRTUNE_HOME when set, otherwise the operating system's folder for application data.
 * @param env the environment to read, by default the process's own.
 * @returns an absolute path; the folder need not exist yet.
 */
export function drtuneHome(
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  if (env['DRTUNE_HOME']) return resolve(env['DRTUNE_HOME']);
  const user = env['HOME'] || homedir();
  if (platform === 'darwin') return join(user, 'Library', 'Application Support', 'DRTune Studio');
  if (platform === 'win32') return join(env['APPDATA'] || join(user, 'AppData', 'Roaming'), 'DRTune Studio');
  return join(env['XDG_DATA_HOME'] || join(user, '.local', 'share'), 'drtune-studio');
}

/** Where the pictures are kept that a reward likes least and most. */
export const ownExamplesFile = (home: string, reward: string): string => join(home, 'examples', `${reward}.json`);
