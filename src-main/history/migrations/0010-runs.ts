/** Runs: one row a run, with what the list shows kept on the row so that it needs no other table. */
import type { Migration } from './migration.ts';

export const runs: Migration = {
  version: 10,
  sql: `
    CREATE TABLE runs (
      id TEXT PRIMARY KEY,
      name TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'stopped', 'failed')),
      reason TEXT,
      model TEXT NOT NULL,
      config TEXT NOT NULL CHECK (json_valid(config)),
      rewards TEXT NOT NULL CHECK (json_valid(rewards)),
      search TEXT NOT NULL,
      app_version TEXT NOT NULL,
      engine TEXT, engine_version TEXT, device TEXT,
      width INTEGER, height INTEGER,
      phase TEXT,
      step INTEGER NOT NULL DEFAULT 0,
      iterations INTEGER NOT NULL,
      -- 1 where the next start goes on from the newest checkpoint
      resume INTEGER NOT NULL DEFAULT 0,
      -- "pid:start time" of the process that runs it, to find runs whose process is gone
      owner TEXT,
      created_at INTEGER NOT NULL, queued_at INTEGER NOT NULL,
      started_at INTEGER, finished_at INTEGER,
      session_at INTEGER,
      seconds_before REAL NOT NULL DEFAULT 0,
      seconds REAL NOT NULL DEFAULT 0,
      reward_first REAL, reward_last REAL,
      held_out_base REAL, held_out_last REAL,
      sparkline TEXT NOT NULL DEFAULT '[]',
      disk_bytes INTEGER NOT NULL DEFAULT 0,
      note TEXT NOT NULL DEFAULT '',
      favourite INTEGER NOT NULL DEFAULT 0,
      deleted_at INTEGER,
      last_seq INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX runs_by_age ON runs (deleted_at, created_at DESC);
    CREATE INDEX runs_by_state ON runs (state, queued_at);
    CREATE INDEX runs_by_model ON runs (model, engine, created_at DESC);
  `,
};
