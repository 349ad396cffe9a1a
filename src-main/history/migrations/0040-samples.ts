/** Measures of sample points, checkpoints and alarms. */
import type { Migration } from './migration.ts';

export const samples: Migration = {
  version: 40,
  sql: `
    CREATE TABLE samples (
      run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
      step INTEGER NOT NULL,
      role TEXT NOT NULL CHECK (role IN ('base', 'tuned')),
      held_out INTEGER NOT NULL,
      measures TEXT NOT NULL CHECK (json_valid(measures)),
      PRIMARY KEY (run_id, step, role, held_out)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE checkpoints (
      run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
      step INTEGER NOT NULL,
      file TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL,
      PRIMARY KEY (run_id, step)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE alarms (
      run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
      step INTEGER NOT NULL,
      kind TEXT NOT NULL, message TEXT NOT NULL, remedy TEXT NOT NULL,
      PRIMARY KEY (run_id, step, kind)
    ) STRICT, WITHOUT ROWID;
  `,
};
