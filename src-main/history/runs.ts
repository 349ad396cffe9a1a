/** The runs table: rows in, {@link RunSummary} out. */
import type Database from 'better-sqlite3';
import { AppError } from '../base/errors.ts';
import { runConfigSchema, type RunConfig } from '../contract/run.ts';
import type { RunState, RunSummary } from '../contract/api.ts';
import type { Verdict } from '../contract/events.ts';

/** One row, as SQLite holds it. */
export interface RunRow {
  id: string; name: string; state: RunState; reason: string | null; verdict: string | null; model: string; config: string; rewards: string; search: string;
  app_version: string; engine: string | null; engine_version: string | null; device: string | null;
  width: number | null; height: number | null; phase: string | null; step: number; iterations: number; resume: number;
  owner: string | null; created_at: number; queued_at: number; started_at: number | null; finished_at: number | null;
  session_at: number | null; seconds_before: number; seconds: number; reward_first: number | null; reward_last: number | null;
  held_out_base: number | null; held_out_last: number | null; sparkline: string; disk_bytes: number; note: string;
  favourite: number; deleted_at: number | null; last_seq: number; tags: string;
}

type Columns = Partial<Omit<RunRow, 'id'>>;

export const LIST_SQL = `SELECT * FROM runs WHERE deleted_at IS NULL ORDER BY created_at DESC LIMIT ?`;
const TRASH_SQL = `SELECT * FROM runs WHERE deleted_at IS NOT NULL ORDER BY deleted_at DESC LIMIT ?`;
/** The newest tuned picture whose base picture (same prompt, same seed) is there too. */
export const PAIR_SQL = `
  SELECT b.id AS base, t.id AS tuned FROM images t
  JOIN images b ON b.run_id = t.run_id AND b.role = 'base' AND b.prompt = t.prompt AND b.seed = t.seed
  WHERE t.run_id = ? AND t.role = 'tuned' AND t.strength = 1 AND t.lora_from = 0 ORDER BY t.step DESC, t.prompt_index LIMIT 1`;
export const QUEUE_SQL = `SELECT * FROM runs WHERE state = 'queued' AND deleted_at IS NULL ORDER BY queued_at, rowid`;
export const MEASURED_SQL = 'SELECT * FROM runs WHERE model = ? AND engine = ? AND step > 0 ORDER BY created_at DESC LIMIT 5';

export class Runs {
  private readonly db: Database.Database;
  private readonly byId: Database.Statement<[string], RunRow>;
  private readonly pair: Database.Statement<[string], { base: number; tuned: number }>;

  constructor(db: Database.Database) {
    this.db = db;
    this.byId = db.prepare('SELECT * FROM runs WHERE id = ?');
    this.pair = db.prepare(PAIR_SQL);
  }

  insert(row: { id: string; name: string; config: RunConfig; appVersion: string; at: number; state: RunState; owner: string | null }): void {
    const { id, name, config, appVersion, at, state, owner } = row;
    this.db.prepare(`INSERT INTO runs (id, name, state, model, config, rewards, search, app_version, iterations, owner, created_at, queued_at)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
      .run(id, name, state, config.model, JSON.stringify(config), JSON.stringify(config.rewards.map((r) => ({ name: r.name, weight: r.weight }))),
        searchText(id, name, '', config), appVersion, config.iterations, owner, at, at);
  }

  find(id: string): RunRow | undefined {
    return this.byId.get(id);
  }

  /** @throws AppError('not-found') */
  get(id: string): RunRow {
    const row = this.find(id);
    if (!row) throw new AppError('not-found', `There is no run "${id}" in the history.`, { hint: 'It may have been deleted; look at the list of runs.' });
    return row;
  }

  /** Sets some columns of one run. */
  set(id: string, columns: Columns): void {
    const names = Object.keys(columns);
    if (names.length === 0) return;
    this.db.prepare(`UPDATE runs SET ${names.map((n) => `${n} = @${n}`).join(', ')} WHERE id = @id`).run({ ...columns, id });
  }

  /** Name, note, tags or favourite as the user changes them; keeps the search text true. */
  update(id: string, change: { name?: string | undefined; note?: string | undefined; favourite?: boolean | undefined; tags?: readonly string[] | undefined }): void {
    const row = this.get(id);
    const name = change.name ?? row.name;
    const note = change.note ?? row.note;
    const favourite = change.favourite === undefined ? row.favourite : Number(change.favourite);
    const tags = change.tags ? [...new Set(change.tags.map((tag) => tag.trim()).filter(Boolean))] : tagsOf(row);
    this.set(id, { name, note, favourite, tags: JSON.stringify(tags), search: searchText(id, name, note, configOf(row), tags) });
  }

  setConfig(id: string, config: RunConfig): void {
    const row = this.get(id);
    this.set(id, { config: JSON.stringify(config), iterations: config.iterations, search: searchText(id, row.name, row.note, config, tagsOf(row)) });
  }

  /** Newest first; every word of `search` must occur in name, id, prompts, note, tags, model or rewards. */
  list(options: { search?: string; deleted?: boolean; limit?: number } = {}): RunSummary[] {
    const limit = options.limit ?? 500;
    const words = (options.search ?? '').toLowerCase().split(/\s+/).filter(Boolean);
    let rows: RunRow[];
    if (words.length === 0) {
      rows = this.db.prepare<[number], RunRow>(options.deleted ? TRASH_SQL : LIST_SQL).all(limit);
    } else {
      const where = words.map(() => String.raw`search LIKE ? ESCAPE '\'`).join(' AND ');
      const sql = `SELECT * FROM runs WHERE deleted_at IS ${options.deleted ? 'NOT NULL' : 'NULL'} AND ${where} ORDER BY created_at DESC LIMIT ?`;
      rows = this.db.prepare<unknown[], RunRow>(sql).all(...words.map((w) => `%${w.replace(/[\\%_]/g, String.raw`\$&`)}%`), limit);
    }
    return rows.map((row) => this.toSummary(row));
  }

  queue(): RunRow[] {
    return this.db.prepare<[], RunRow>(QUEUE_SQL).all();
  }

  inState(state: RunState): RunRow[] {
    return this.db.prepare<[string], RunRow>('SELECT * FROM runs WHERE state = ?').all(state);
  }

  /** The newest runs of a model on an engine that have done steps. */
  measured(model: string, engine: string): RunRow[] {
    return this.db.prepare<[string, string], RunRow>(MEASURED_SQL).all(model, engine);
  }

  delete(id: string): void {
    this.db.prepare('DELETE FROM runs WHERE id = ?').run(id);
  }

  summary(id: string): RunSummary {
    return this.toSummary(this.get(id));
  }

  toSummary(row: RunRow): RunSummary {
    return {
      id: row.id, name: row.name, state: row.state, reason: row.reason, model: row.model,
      verdict: row.verdict === null ? null : (JSON.parse(row.verdict) as Verdict),
      rewards: JSON.parse(row.rewards) as RunSummary['rewards'],
      engine: row.engine, step: row.step, iterations: row.iterations,
      createdAt: row.created_at, startedAt: row.started_at, finishedAt: row.finished_at, seconds: row.seconds,
      rewardFirst: row.reward_first, rewardLast: row.reward_last, heldOutBase: row.held_out_base, heldOutLast: row.held_out_last,
      sparkline: JSON.parse(row.sparkline) as number[],
      thumbnails: this.pair.get(row.id) ?? null,
      diskBytes: row.disk_bytes, note: row.note, favourite: row.favourite !== 0, deletedAt: row.deleted_at, tags: tagsOf(row),
    };
  }
}

/** The config of a row; one from an older app gets the defaults of what was added since. */
export function configOf(row: Pick<RunRow, 'config'>): RunConfig {
  const stored: unknown = JSON.parse(row.config);
  const parsed = runConfigSchema.safeParse(stored);
  return parsed.success ? parsed.data : (stored as RunConfig);
}

const tagsOf = (row: Pick<RunRow, 'tags'>): string[] => JSON.parse(row.tags) as string[];

function searchText(id: string, name: string, note: string, config: RunConfig, tags: readonly string[] = []): string {
  const lists = [config.prompts, config.heldOutPrompts].flat();
  return [id, name, note, ...tags, config.model, ...config.rewards.map((r) => r.name), ...lists].join('\n').toLowerCase();
}
