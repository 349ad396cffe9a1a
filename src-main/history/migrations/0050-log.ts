/** Log lines of a run, settings, and when a model was last used. */
import type { Migration } from './migration.ts';

export const log: Migration = {
  version: 50,
  sql: `
    CREATE TABLE log (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
      at INTEGER NOT NULL,
      line TEXT NOT NULL
    ) STRICT;
    CREATE INDEX log_by_run ON log (run_id, id);
    CREATE TABLE settings (
      key TEXT PRIMARY KEY,
      value TEXT NOT NULL CHECK (json_valid(value))
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE model_use (
      model TEXT PRIMARY KEY,
      last_used INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
  `,
};
