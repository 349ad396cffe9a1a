/**
 * Opens the history: WAL so that the app and command-line runs write side by side, foreign keys, migrations. A damaged file
 * is moved aside, never deleted, and the newest good backup takes its place.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { AppError } from '../base/errors.ts';
import { makeFolder } from '../base/folder.ts';
import { makeBackup, restoreBackup } from './backup.ts';
import { lockHome } from './lock.ts';
import { migrate, schemaVersion, SCHEMA_VERSION } from './migrations/index.ts';

export interface History {
  readonly db: Database.Database;
  readonly home: string;
  /** What a user should know about how it was opened: one line each. */
  readonly notices: readonly string[];
  close(): void;
}

export interface OpenOptions {
  /** True where the caller holds the data folder (the app): checks the whole file and makes the backup. */
  locked?: boolean;
  now?: () => number;
}

export const historyFile = (home: string): string => join(home, 'history.sqlite');

/**
 * Opens the history of a data folder, creating it where there is none.
 * @throws AppError('history') for a database from the future or one that cannot be repaired now.
 */
export function openHistory(home: string, options: OpenOptions = {}): History {
  makeFolder(home);
  const file = historyFile(home);
  const now = options.now ?? Date.now;
  let notices: string[] = [];
  let db: Database.Database;
  try {
    db = connect(file, options.locked === true);
  } catch (error) {
    if (!isDamage(error)) throw openError(file, error);
    notices = repair(home, file, options.locked === true, now());
    db = connect(file, false);
  }
  try {
    if (options.locked || (schemaVersion(db) > 0 && schemaVersion(db) < SCHEMA_VERSION)) makeBackup(db, home, now());
    migrate(db);
  } catch (error) {
    db.close();
    throw error;
  }
  return { db, home, notices, close: () => void db.close() };
}

/** Opens one database file and proves that it can be read. */
function connect(file: string, checkAll: boolean): Database.Database {
  const db = new Database(file, { timeout: 10_000 });
  try {
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = NORMAL');
    db.pragma('foreign_keys = ON');
    db.prepare('SELECT count(*) FROM sqlite_schema').get();
    if (checkAll) {
      const verdict = db.pragma('quick_check(1)', { simple: true });
      if (verdict !== 'ok') throw new Database.SqliteError(String(verdict), 'SQLITE_CORRUPT');
    }
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** True for an error that says the file is no sound database. */
export function isDamage(error: unknown): boolean {
  return error instanceof Database.SqliteError && /^SQLITE_(CORRUPT|NOTADB)/.test(error.code);
}

function openError(file: string, error: unknown): unknown {
  if (!(error instanceof Database.SqliteError) && !(error instanceof TypeError)) return error;
  return new AppError('history', `The history ${file} cannot be opened: ${error.message}.`, {
    hint: isDiskFull(error) ? 'Free some space and start again.' : existsSync(file) ? 'Check that the file can be read and written.' : 'Check that the folder can be written.', cause: error,
  });
}

/** Only one process may repair: the one that holds the data folder. */
function repair(home: string, file: string, locked: boolean, now: number): string[] {
  if (locked) return restoreBackup(home, file, now);
  try {
    const lock = lockHome(home);
    try {
      return restoreBackup(home, file, now);
    } finally {
      lock.release();
    }
  } catch (error) {
    throw new AppError('history', `The history ${file} is damaged and another DRTune Studio is using it.`, {
      hint: 'Close that one and start again; the last good backup is then put in its place.', cause: error,
    });
  }
}

/** What a damaged history answers: nothing. The next start mends it; until then no timer and no queue may end the app. */
export function unlessDamaged<T>(ask: () => T, otherwise: T): T {
  try {
    return ask();
  } catch (error) {
    if (isDamage(error)) return otherwise;
    throw error;
  }
}

/** True for an error that says the disk is full, from SQLite or from the file system. */
export function isDiskFull(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === 'SQLITE_FULL' || code === 'ENOSPC' || code === 'EDQUOT' || code === 'SQLITE_IOERR_WRITE';
}
