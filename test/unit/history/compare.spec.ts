/** Looking through many runs, blind votes that outlive the app, and a clean-up that keeps what matters. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cleanUp, planCleanUp } from '../../../src-main/app/clean-up.ts';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { openRound } from '../../../src-main/app/vote-rounds.ts';
import { REQUESTS, readSideText, runQuerySchema, type RunQuery } from '../../../src-main/contract/api.ts';
import { openHistory } from '../../../src-main/history/database.ts';
import { conditions, runFacets, searchRuns } from '../../../src-main/history/run-search.ts';
import { BALLOTS_SQL, ROUNDS_OF_RUN_SQL, ROUNDS_SQL, Votes } from '../../../src-main/history/votes.ts';
import { checkpoint, config, image, started, tempHome } from '../../helpers/temp-home.ts';

const open = (home = tempHome()): RunRecorder => new RunRecorder(openHistory(home));
const query = (change: Partial<RunQuery> = {}): RunQuery => runQuerySchema.parse(change);

describe('looking through runs', () => {
  function three() {
    const recorder = open();
    const [cats, dogs, owls] = [
      recorder.createRun({ name: 'b cats', config: config({ prompts: ['a cat'] }) }),
      recorder.createRun({ name: 'a dogs', config: config({ prompts: ['a dog'], model: 'other', rewards: [{ name: 'clipscore' }, { name: 'symmetry' }] }) }),
      recorder.createRun({ name: 'c owls', config: config({ prompts: ['an owl'], rewards: [{ name: 'clip' }] }) }),
    ] as const;
    recorder.runs.set(cats, { created_at: 100, state: 'finished', held_out_base: 1, held_out_last: 1.5, disk_bytes: 5 });
    recorder.runs.set(dogs, { created_at: 200, state: 'failed', disk_bytes: 7 });
    recorder.runs.set(owls, { created_at: 300, state: 'finished', held_out_base: 1, held_out_last: 3 });
    const found = (change: Partial<RunQuery>, page = { offset: 0, limit: 10 }) => searchRuns(recorder.history.db, query(change), page);
    const ids = (change: Partial<RunQuery>): string[] => found(change).runs.map((run) => run.id);
    return { recorder, cats, dogs, owls, found, ids };
  }

  it('filters by words, state, model, reward, tag, favourite, date and trash', () => {
    const { recorder, cats, dogs, owls, ids } = three();
    recorder.runs.update(cats, { tags: ['for the talk', 'good', 'good'], favourite: true });
    expect(recorder.runs.summary(cats).tags).toEqual(['for the talk', 'good']);
    expect(ids({})).toEqual([owls, dogs, cats]);
    expect(ids({ search: 'TALK cat' })).toEqual([cats]);
    expect(ids({ search: '%' })).toEqual([]);
    expect(ids({ states: ['finished'] })).toEqual([owls, cats]);
    expect(ids({ models: ['other'] })).toEqual([dogs]);
    expect(ids({ rewards: ['clip'] })).toEqual([owls]);
    expect(ids({ rewards: ['clip', 'clipscore'] })).toEqual([owls, dogs]);
    expect(ids({ tags: ['good'] })).toEqual([cats]);
    expect(ids({ tags: ['goo'] })).toEqual([]);
    expect(ids({ favourite: true })).toEqual([cats]);
    expect(ids({ from: 200, to: 300 })).toEqual([dogs]);
    recorder.runs.set(dogs, { deleted_at: 1 });
    expect(ids({})).toEqual([owls, cats]);
    expect(ids({ deleted: true })).toEqual([dogs]);
    expect(runFacets(recorder.history.db)).toEqual({ models: ['fake'], rewards: ['clip', 'symmetry'], tags: ['for the talk', 'good'] });
    recorder.close();
  });

  it('sorts, pages and counts', () => {
    const { recorder, cats, dogs, owls, found, ids } = three();
    expect(ids({ sort: 'oldest' })).toEqual([cats, dogs, owls]);
    expect(ids({ sort: 'gain' })).toEqual([owls, cats, dogs]);
    expect(ids({ sort: 'name' })).toEqual([dogs, cats, owls]);
    expect(ids({ sort: 'disk' })).toEqual([dogs, cats, owls]);
    const page = found({ sort: 'name' }, { offset: 1, limit: 1 });
    expect(page.runs.map((run) => run.id)).toEqual([cats]);
    expect(page).toMatchObject({ total: 3, bytes: 12 });
    recorder.close();
  });

  it('takes what is looked for as letters, never as SQL', () => {
    const { where, values } = conditions(query({ search: "' OR 1=1", models: ["x'; DROP TABLE runs"] }));
    expect(where).not.toContain('DROP');
    expect(values).toContain("x'; DROP TABLE runs");
  });
});

describe('blind votes', () => {
  const side = (id: string, what: string) => `${id}@${what}`;
  function painted() {
    const home = tempHome();
    const recorder = open(home);
    const id = recorder.createRun({ name: '', config: config() });
    const put = (role: 'base' | 'tuned', n: number, seed: number, strength?: number): number => recorder.record(id, image(role, n, { seed, file: `s-${role}-${n}-${seed}-${strength ?? 1}.png`, ...(strength !== undefined && { strength }) })).imageId!;
    recorder.record(id, started());
    const pairs = [0, 1, 2].map((seed) => ({ a: put('base', 0, seed), b: put('tuned', 4, seed) }));
    const input = { sideA: side(id, 'base'), sideB: side(id, '4'), labelA: 'base', labelB: 'step 4', pairs };
    return { home, recorder, id, put, pairs, input };
  }

  it('keep order, sides and votes when the app is closed in the middle', () => {
    const { home, recorder, input } = painted();
    const round = openRound(recorder, { ...input, seed: 5 });
    const votes = new Votes(recorder.history.db);
    votes.cast(round.id, 0, 'b', 1);
    votes.cast(round.id, 1, 'skip', 2);
    votes.cast(round.id, 1, 'tie', 3);
    recorder.close();
    const again = open(home);
    const [kept] = new Votes(again.history.db).list({ a: input.sideA, b: input.sideB });
    expect(kept).toEqual({ ...round, ballots: [{ place: 0, choice: 'b' }, { place: 1, choice: 'tie' }] });
    expect(new Votes(again.history.db).cast(round.id, 1, null, 4).ballots).toEqual([{ place: 0, choice: 'b' }]);
    expect(() => new Votes(again.history.db).cast(round.id, 3, 'a', 5)).toThrow(/there is no pair 4/);
    again.close();
  });

  it('take no picture for a side it is not of, and no two prompts for a pair', () => {
    const { recorder, id, put, pairs, input } = painted();
    const [first, second] = pairs as [{ a: number; b: number }, { a: number; b: number }];
    const refused = (change: Partial<typeof input>) => () => openRound(recorder, { ...input, ...change });
    expect(refused({ pairs: [{ a: first.b, b: first.b }] })).toThrow(/is not of .*@base: it is tuned at step 4/);
    expect(refused({ pairs: [{ a: first.a, b: second.b }] })).toThrow(/are not a pair/);
    const half = put('tuned', 4, 0, 0.5);
    expect(refused({ pairs: [{ a: first.a, b: half }] })).toThrow(/is not of/);
    expect(openRound(recorder, { ...input, sideB: side(id, '4x0.5'), pairs: [{ a: first.a, b: half }] }).pairs).toHaveLength(1);
    recorder.close();
  });

  it('go with their run, and are found by index', () => {
    const { recorder, id, input } = painted();
    const votes = new Votes(recorder.history.db);
    votes.cast(openRound(recorder, input).id, 0, 'a', 1);
    for (const [sql, ...values] of [[ROUNDS_SQL, { a: '', b: '' }], [ROUNDS_OF_RUN_SQL, { run: id }], [BALLOTS_SQL, 1]] as [string, ...unknown[]][]) {
      const plan = recorder.history.db.prepare<unknown[], { detail: string }>(`EXPLAIN QUERY PLAN ${sql}`).all(...values).map((row) => row.detail);
      expect(plan.filter((line) => /^SCAN (vote_rounds|votes)\b/.test(line)), plan.join('\n')).toEqual([]);
    }
    expect(votes.list({ run: id })).toHaveLength(1);
    recorder.runs.delete(id);
    expect(votes.list({ run: id })).toEqual([]);
    expect(recorder.history.db.prepare('SELECT count(*) FROM votes').pluck().get()).toBe(0);
    recorder.close();
  });

  it('read sides strictly', () => {
    expect(readSideText('r-1@20x0.75')).toEqual({ run: 'r-1', step: 20, strength: 0.75 });
    expect(readSideText('r@base')).toEqual({ run: 'r', step: 'base', strength: 1 });
    expect(readSideText('r@20from6')).toEqual({ run: 'r', step: 20, strength: 1, loraFrom: 6 });
    expect(readSideText('r@20x0.5from6')).toEqual({ run: 'r', step: 20, strength: 0.5, loraFrom: 6 });
    expect(readSideText('r@20xx')).toBeNull();
    for (const wrong of ['', 'r@', '../x@base', 'r@20x', 'r@1e9', 'r@basefrom2', 'r@20from']) expect(REQUESTS['votes.open'].input.safeParse({ sideA: wrong, sideB: 'r@base', labelA: '', labelB: '', pairs: [{ a: 1, b: 2 }] }).success, wrong).toBe(false);
  });
});

describe('clean-up', () => {
  function trained(name: string, steps: readonly number[], best: number, change: Parameters<typeof config>[0] = {}, recorder = open()) {
    const id = recorder.createRun({ name, config: config({ heldOutPrompts: ['a frog'], ...change }) });
    recorder.record(id, started());
    for (const n of steps) {
      const file = `checkpoints/step-${String(n).padStart(6, '0')}/lora.safetensors`;
      mkdirSync(dirname(join(recorder.runDir(id), file)), { recursive: true });
      writeFileSync(join(recorder.runDir(id), file), Buffer.alloc(1000));
      writeFileSync(join(recorder.runDir(id), dirname(file), 'state.safetensors'), Buffer.alloc(500));
      recorder.record(id, { ...checkpoint(n), file, bytes: 1500 });
      recorder.record(id, { type: 'sampled', step: n, role: 'tuned', heldOut: true, measures: { rewards: { symmetry: n === best ? 1 : 0 }, reward: n === best ? 1 : 0, edgeDensity: 0, saturation: 0, contrast: 0, colorEntropy: 0 } });
    }
    mkdirSync(join(recorder.runDir(id), 'samples'), { recursive: true });
    writeFileSync(join(recorder.runDir(id), 'samples/a.png'), Buffer.alloc(77));
    return { recorder, id };
  }

  it('keeps the best and the last checkpoint and every picture, and says before what it would free', () => {
    const { recorder, id } = trained('long', [2, 4, 6, 8], 4);
    recorder.record(id, { type: 'finished', reason: 'completed', step: 8, seconds: 1 });
    const plan = planCleanUp(recorder, [id]);
    expect(plan).toEqual({ runs: [{ id, name: 'long', keeps: [4, 8], drops: [2, 6], bytes: 3000 }], bytes: 3000 });
    expect(existsSync(join(recorder.runDir(id), 'checkpoints/step-000002'))).toBe(true);
    const before = recorder.runs.get(id).disk_bytes;
    expect(cleanUp(recorder, [id])).toEqual(plan);
    expect([2, 4, 6, 8].map((n) => existsSync(join(recorder.runDir(id), `checkpoints/step-00000${n}`)))).toEqual([false, true, false, true]);
    expect(existsSync(join(recorder.runDir(id), 'samples/a.png'))).toBe(true);
    expect(recorder.records.checkpoints(id).map((row) => row.step)).toEqual([4, 8]);
    expect(recorder.runs.get(id).disk_bytes).toBe(before - 3000);
    expect(planCleanUp(recorder, [id])).toEqual({ runs: [], bytes: 0 });
    recorder.close();
  });

  it('leaves runs at work alone, and what another run began from', () => {
    const { recorder, id } = trained('parent', [2, 4, 6], 6);
    expect(planCleanUp(recorder, [id]).runs).toEqual([]);
    recorder.record(id, { type: 'finished', reason: 'completed', step: 6, seconds: 1 });
    expect(planCleanUp(recorder, [id]).runs[0]!.drops).toEqual([2, 4]);
    trained('child', [], 0, { lora: { initFile: join(recorder.runDir(id), 'checkpoints/step-000002/lora.safetensors') } }, recorder);
    expect(planCleanUp(recorder, [id]).runs[0]!.drops).toEqual([4]);
    recorder.close();
  });
});
