/** Rolling backups of the history, made whole by `VACUUM INTO`, and the way back from a damaged file. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import Database from 'better-sqlite3';

const KEPT = 3;
/** A backup younger than this is good enough. */
const FRESH_MS = 30 * 60_000;

const backupsDir = (home: string): string => join(home, 'backups');

/** Backup files, newest first. */
export function listBackups(home: string): string[] {
  if (!existsSync(backupsDir(home))) return [];
  const names = readdirSync(backupsDir(home)).filter((name) => /^history-\d+\.sqlite$/.test(name));
  return names.sort((a, b) => madeAt(b) - madeAt(a)).map((name) => join(backupsDir(home), name));
}

/** Milliseconds since 1970, from the name. */
function madeAt(file: string): number {
  return Number(basename(file).replace(/\D/g, ''));
}

/**
 * Writes a backup and drops the oldest ones. An empty history is not worth one; a full disk must not keep the app from
 * starting, so a failed backup only leaves the older ones in place.
 * @returns the new file, or null where none was needed or possible.
 */
export function makeBackup(db: Database.Database, home: string, now: number): string | null {
  if (Number(db.pragma('user_version', { simple: true })) === 0) return null;
  const newest = listBackups(home)[0];
  if (newest && now - madeAt(newest) < FRESH_MS) return null;
  mkdirSync(backupsDir(home), { recursive: true });
  const part = join(backupsDir(home), 'history.part');
  try {
    rmSync(part, { force: true });
    db.prepare('VACUUM INTO ?').run(part);
    const file = join(backupsDir(home), `history-${now}.sqlite`);
    renameSync(part, file);
    for (const old of listBackups(home).slice(KEPT)) rmSync(old, { force: true });
    return file;
  } catch {
    rmSync(part, { force: true });
    return null;
  }
}

/**
 * Moves a damaged history aside and puts the newest readable backup in its place; with none, the history starts empty.
 * @returns what to tell the user.
 */
export function restoreBackup(home: string, file: string, now: number): string[] {
  const aside = join(home, `history.damaged-${now}.sqlite`);
  for (const end of ['', '-wal', '-shm']) {
    if (existsSync(file + end)) renameSync(file + end, aside + end);
  }
  for (const backup of listBackups(home)) {
    if (!readable(backup)) continue;
    copyFileSync(backup, file);
    const when = new Date(madeAt(backup)).toISOString().slice(0, 16).replace('T', ' ');
    return [`The history was damaged. The backup of ${when} UTC is in use; the damaged file is kept as ${basename(aside)}. Pictures and checkpoints in runs/ are untouched.`];
  }
  return [`The history was damaged and there was no good backup, so it starts empty; the damaged file is kept as ${basename(aside)}. Pictures and checkpoints in runs/ are untouched.`];
}

function readable(file: string): boolean {
  try {
    const db = new Database(file, { readonly: true });
    try {
      return db.pragma('quick_check(1)', { simple: true }) === 'ok';
    } finally {
      db.close();
    }
  } catch {
    return false;
  }
}
