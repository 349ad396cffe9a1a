/**
 * One app per data folder. The lock is an exclusive SQLite transaction, so the operating system drops it with the process:
 * a killed app leaves nothing to clean up. Command-line runs do not take it; they share the history through WAL.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { AppError } from '../base/errors.ts';
import { makeFolder } from '../base/folder.ts';

export interface HomeLock {
  /** Tells later instances where this one is to be found. */
  announce(address: string): void;
  release(): void;
}

interface Holder { pid: number; address: string | null }

/**
 * Takes the data folder for this process.
 * @throws AppError('busy') where another app has it, with that app's address if it has one.
 */
export function lockHome(home: string): HomeLock {
  makeFolder(home);
  const holderFile = join(home, 'app.json');
  const db = new Database(join(home, 'app.lock'), { timeout: 0 });
  try {
    db.pragma('journal_mode = DELETE');
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    if (!isBusy(error)) throw error;
    throw busy(home, readHolder(holderFile));
  }
  const write = (holder: Holder): void => writeFileSync(holderFile, JSON.stringify(holder), { mode: 0o600 });
  write({ pid: process.pid, address: null });
  return {
    announce: (address) => write({ pid: process.pid, address }),
    release: () => {
      if (!db.open) return;
      rmSync(holderFile, { force: true });
      db.close();
    },
  };
}

function isBusy(error: unknown): boolean {
  return error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY');
}

function readHolder(file: string): Holder | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Holder;
  } catch {
    return null;
  }
}

function busy(home: string, holder: Holder | null): AppError {
  const who = holder ? ` (process ${holder.pid})` : '';
  const hint = holder?.address
    ? `Open ${holder.address}, or stop that one first.`
    : 'Use its window, stop it, or set DRTUNE_HOME to another folder.';
  return new AppError('busy', `DRTune Studio is already running on ${home}${who}.`, { hint });
}
