/** Pictures: base and tuned ones pair by prompt and seed. */
import type { Migration } from './migration.ts';

export const images: Migration = {
  version: 30,
  sql: `
    CREATE TABLE images (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
      role TEXT NOT NULL CHECK (role IN ('base', 'tuned')),
      step INTEGER NOT NULL,
      prompt TEXT NOT NULL, prompt_index INTEGER NOT NULL,
      held_out INTEGER NOT NULL,
      seed INTEGER NOT NULL,
      width INTEGER NOT NULL, height INTEGER NOT NULL,
      file TEXT NOT NULL,
      rewards TEXT NOT NULL CHECK (json_valid(rewards)),
      weights TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX images_once ON images (run_id, role, step, prompt, seed, held_out);
    CREATE INDEX images_by_pair ON images (run_id, role, prompt, seed);
  `,
};
