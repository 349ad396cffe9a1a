/** Steps: one row an iteration; a resumed run overwrites what it repeats. */
import type { Migration } from './migration.ts';

export const steps: Migration = {
  version: 20,
  sql: `
    CREATE TABLE steps (
      run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
      step INTEGER NOT NULL,
      reward REAL NOT NULL,
      terms TEXT NOT NULL CHECK (json_valid(terms)),
      kl REAL NOT NULL, grad_norm REAL NOT NULL, lr REAL NOT NULL, step_ms REAL NOT NULL,
      skipped INTEGER NOT NULL,
      memory_bytes INTEGER NOT NULL,
      eta_seconds REAL NOT NULL,
      PRIMARY KEY (run_id, step)
    ) STRICT, WITHOUT ROWID;
  `,
};
