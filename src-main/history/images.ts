/** The images table. Files stay in the run's folder; a row says which prompt, seed, step and weights made them. */
import type Database from 'better-sqlite3';
import { AppError } from '../base/errors.ts';
import type { ImageRow } from '../contract/api.ts';
import type { TrainerEventOf } from '../contract/events.ts';

interface Row {
  id: number; run_id: string; role: 'base' | 'tuned'; step: number; prompt: string; prompt_index: number; held_out: number; seed: number;
  width: number; height: number; file: string; rewards: string; weights: string; strength: number; lora_from: number;
}

export const IMAGES_SQL = 'SELECT * FROM images WHERE run_id = ? ORDER BY id';

export class Images {
  private readonly db: Database.Database;
  private readonly upsert: Database.Statement<unknown[], { id: number }>;

  constructor(db: Database.Database) {
    this.db = db;
    this.upsert = db.prepare(`INSERT INTO images
      (run_id, role, step, prompt, prompt_index, held_out, seed, width, height, file, rewards, weights, strength, lora_from) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (run_id, role, step, prompt, seed, held_out, strength, lora_from) DO UPDATE SET prompt_index = excluded.prompt_index, width = excluded.width,
        height = excluded.height, file = excluded.file, rewards = excluded.rewards, weights = excluded.weights
      RETURNING id`);
  }

  /** Writes one picture and returns its id; the same picture again keeps its id. */
  put(runId: string, e: TrainerEventOf<'image'>): number {
    return this.upsert.get(runId, e.role, e.step, e.prompt, e.promptIndex, Number(e.heldOut), e.seed, e.width, e.height, e.file,
      JSON.stringify(e.rewards), e.weights, e.strength ?? 1, e.loraFrom ?? 0)!.id;
  }

  list(runId: string): ImageRow[] {
    return this.db.prepare<[string], Row>(IMAGES_SQL).all(runId).map(toImage);
  }

  /** @throws AppError('not-found') */
  get(id: number): ImageRow & { file: string } {
    const row = this.db.prepare<[number], Row>('SELECT * FROM images WHERE id = ?').get(id);
    if (!row) throw new AppError('not-found', `There is no picture ${id} in the history.`);
    return { ...toImage(row), file: row.file };
  }

  deleteAfter(runId: string, step: number): void {
    this.db.prepare("DELETE FROM images WHERE run_id = ? AND role = 'tuned' AND step > ?").run(runId, step);
  }
}

function toImage(row: Row): ImageRow {
  return {
    id: row.id, runId: row.run_id, role: row.role, step: row.step, prompt: row.prompt, promptIndex: row.prompt_index, heldOut: row.held_out !== 0,
    seed: row.seed, width: row.width, height: row.height, rewards: JSON.parse(row.rewards) as Record<string, number>, weights: row.weights, ...(row.strength !== 1 && { strength: row.strength }), ...(row.lora_from !== 0 && { loraFrom: row.lora_from }),
  };
}
