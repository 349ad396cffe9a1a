/** Pictures whose first sampling steps were the base model's alone. */
import type { Migration } from './migration.ts';

export const lateStart: Migration = {
  version: 80,
  sql: `
    ALTER TABLE images ADD COLUMN lora_from INTEGER NOT NULL DEFAULT 0;
    DROP INDEX images_once;
    CREATE UNIQUE INDEX images_once ON images (run_id, role, step, prompt, seed, held_out, strength, lora_from);
  `,
};
