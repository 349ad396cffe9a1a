/**
 * The schema's history. `user_version` holds the number of the last migration; numbers go up in tens so that a fix can be
 * put between two. A database from a newer app is refused, never touched.
 */
import type Database from 'better-sqlite3';
import { AppError, assert } from '../../base/errors.ts';
import type { Migration } from './migration.ts';
import { runs } from './0010-runs.ts';
import { steps } from './0020-steps.ts';
import { images } from './0030-images.ts';
import { samples } from './0040-samples.ts';
import { log } from './0050-log.ts';
import { verdict } from './0060-verdict.ts';
import { compare } from './0070-compare.ts';
import { lateStart } from './0080-late-start.ts';

export const MIGRATIONS: readonly Migration[] = [runs, steps, images, samples, log, verdict, compare, lateStart];

/** The schema this app writes. */
export const SCHEMA_VERSION = MIGRATIONS.at(-1)!.version;

/** The schema version a database is at; 0 for an empty one. */
export function schemaVersion(db: Database.Database): number {
  return Number(db.pragma('user_version', { simple: true }));
}

/**
 * Brings a database to `target`, each migration in its own transaction.
 * @throws AppError('history') where the database was written by a newer app.
 */
export function migrate(db: Database.Database, target = SCHEMA_VERSION, migrations = MIGRATIONS): void {
  migrations.forEach((m, i) => assert(i === 0 || m.version > migrations[i - 1]!.version, 'migration numbers must go up'));
  const newest = Math.max(...migrations.map((m) => m.version));
  if (schemaVersion(db) > newest) {
    throw new AppError('history', `The history was written by a newer DRTune Studio (schema ${schemaVersion(db)}, this app knows up to ${newest}).`, {
      hint: 'Update the app, or set DRTUNE_HOME to another folder.',
    });
  }
  for (const migration of migrations) {
    if (migration.version > target) break;
    // Looked up inside the transaction: another process may be migrating the same file.
    db.transaction(() => {
      if (schemaVersion(db) >= migration.version) return;
      db.exec(migration.sql);
      db.pragma(`user_version = ${migration.version}`);
    }).immediate();
  }
}
