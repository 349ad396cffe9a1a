/** Runs at work, each in a process of its own: a small forked trainer that speaks the protocol. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, describe, expect, it } from 'vitest';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { RunService } from '../../../src-main/app/run-service.ts';
import { forkTrainer } from '../../../src-main/app/trainer-port.ts';
import { EVENTS, type EventName, type EventPayload } from '../../../src-main/contract/api.ts';
import type { RunConfigInput } from '../../../src-main/contract/run.ts';
import { openHistory } from '../../../src-main/history/database.ts';
import { config, tempHome, until } from '../../helpers/temp-home.ts';

const entry = join(import.meta.dirname, '../../helpers/fake-trainer.ts');
const open: RunService[] = [];

interface Rig {
  service: RunService;
  recorder: RunRecorder;
  events: { name: EventName; payload: EventPayload<EventName> }[];
  start(change?: Partial<RunConfigInput>, name?: string): string;
  state(id: string): string;
  ended(id: string): Promise<string>;
}

function rig(home = tempHome(), stepMs = 20, options: { stopGraceMs?: number; retryMs?: number } = {}): Rig {
  // A clock that never steps back, as the machine's may: times are compared for order.
  const recorder = new RunRecorder(openHistory(home), () => Math.round(performance.timeOrigin + performance.now()));
  const events: Rig['events'] = [];
  const service = new RunService({
    recorder, launch: forkTrainer(entry, { ...process.env, DRTUNE_FAKE_STEP_MS: String(stepMs) }), ...options,
    publish: (name, payload) => {
      EVENTS[name].parse(payload);
      // What is published is in the history already.
      if ('seq' in payload) expect(recorder.runs.get(payload.runId).last_seq).toBeGreaterThanOrEqual(payload.seq);
      events.push({ name, payload });
    },
  });
  open.push(service);
  const state = (id: string): string => recorder.runs.get(id).state;
  return {
    service, recorder, events, state,
    start: (change = {}, name = '') => service.start(name, config(change)).id,
    ended: async (id) => {
      await until(() => !['queued', 'running'].includes(state(id)), `run ${id} to end`);
      return state(id);
    },
  };
}

afterEach(async () => {
  for (const service of open.splice(0)) {
    await service.close(2000);
    if (service.recorder.history.db.open) service.recorder.close();
  }
});

describe('a run', () => {
  it('is trained, persisted and published, with base and tuned pictures', async () => {
    const { start, ended, recorder, events } = rig();
    const id = start({ iterations: 6, sampleEvery: 3, checkpointEvery: 3, heldOutPrompts: ['a wolf'] });
    expect(await ended(id)).toBe('finished');
    const detail = recorder.detail(id);
    expect(detail.steps.map((row) => row.step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(detail.summary.thumbnails).not.toBeNull();
    expect(detail.summary.heldOutLast!).toBeGreaterThan(detail.summary.heldOutBase!);
    for (const image of detail.images) expect(existsSync(join(recorder.runDir(id), recorder.images.get(image.id).file))).toBe(true);
    const seqs = events.flatMap(({ name, payload }) => (name === 'run.event' ? [(payload as EventPayload<'run.event'>).seq] : []));
    expect(seqs).toEqual(seqs.map((_, i) => i + 1));
    expect(seqs).toHaveLength(detail.lastSeq);
  });

  it('waits in the queue while another is at work; one is trained at a time, in order', async () => {
    const { start, ended, service, state, recorder } = rig();
    const ids = [start({ iterations: 4 }), start({ iterations: 3 }), start({ iterations: 2 })];
    expect(service.queue()).toEqual({ running: ids[0], waiting: 2, held: false });
    expect(state(ids[1]!)).toBe('queued');
    for (const id of ids) expect(await ended(id)).toBe('finished');
    const times = ids.map((id) => recorder.summary(id));
    expect(times[1]!.startedAt!).toBeGreaterThanOrEqual(times[0]!.finishedAt!);
    expect(times[2]!.startedAt!).toBeGreaterThanOrEqual(times[1]!.finishedAt!);
  });

  it('that fails does not keep those behind it from being trained, however it fails', async () => {
    const { start, ended, recorder } = rig();
    const ids = [start({ prompts: ['[crash] a dog'] }), start({ prompts: ['[error] a dog'] }), start({ prompts: ['[kill] a dog'] }), start({ iterations: 2 })];
    expect(await Promise.all(ids.map(ended))).toEqual(['failed', 'failed', 'failed', 'finished']);
    for (const id of ids.slice(0, 3)) expect(recorder.summary(id).reason).toMatch(/\w/);
  });

  it('that waits can be moved forward and back; a held queue starts none, over a restart too, until it is let go', async () => {
    const home = tempHome();
    const { start, service, state, ended, recorder } = rig(home);
    const running = start({ iterations: 6 });
    const ids = [start({ iterations: 1 }), start({ iterations: 1 }), start({ iterations: 1 })];
    const order = (): number[] => recorder.runs.queue().map((row) => ids.indexOf(row.id));
    for (const [n, by, wanted] of [[2, -Infinity, [2, 0, 1]], [2, 1, [0, 2, 1]], [1, -1, [0, 1, 2]], [0, 99, [1, 2, 0]], [1, -1, [1, 2, 0]]] as const) {
      expect(service.move(ids[n]!, by)).toEqual({ place: 1 + wanted.indexOf(n as never), of: 3 });
      expect(order()).toEqual(wanted);
    }
    ids.push(start({ iterations: 1 }));
    expect(order()).toEqual([1, 2, 0, 3]); // one that is queued later stays last
    expect(() => service.move(running, -1)).toThrow(/does not wait/);
    service.hold(true);
    expect(await ended(running)).toBe('finished');
    await new Promise((done) => setTimeout(done, 150));
    expect(ids.map(state)).toEqual(['queued', 'queued', 'queued', 'queued']);
    await service.close(1000);
    const next = rig(home);
    next.service.recover();
    await new Promise((done) => setTimeout(done, 150));
    expect(next.service.queue()).toEqual({ running: null, waiting: 4, held: true });
    next.service.hold(false);
    for (const id of ids) expect(await next.ended(id)).toBe('finished');
    const begun = (id: string): number => next.recorder.summary(id).startedAt!;
    expect([ids[1]!, ids[2]!, ids[0]!, ids[3]!].map(begun)).toEqual([...ids].map(begun).sort((a, b) => a - b));
  });

  it('that is stopped keeps a checkpoint, and is resumed from it without counting a step twice', async () => {
    const { start, ended, service, recorder } = rig();
    const id = start({ iterations: 40, checkpointEvery: 0 });
    await until(() => recorder.runs.get(id).step >= 3, 'three steps');
    service.stop(id);
    expect(await ended(id)).toBe('stopped');
    const stoppedAt = recorder.summary(id).step;
    expect(recorder.records.checkpoints(id).at(-1)!.step).toBe(stoppedAt);
    await until(() => service.queue().running === null, 'the lane to be free');
    expect(() => service.resume(id, stoppedAt)).toThrow(/nothing to do/);
    service.resume(id, stoppedAt + 3);
    expect(await ended(id)).toBe('finished');
    const detail = recorder.detail(id);
    expect(detail.steps.map((row) => row.step)).toEqual(Array.from({ length: stoppedAt + 3 }, (_, i) => i + 1));
    expect(detail.config.iterations).toBe(stoppedAt + 3);
    expect(() => service.stop(id)).toThrow(/is not running/);
  });

  it('that waits is taken off the queue by stop', async () => {
    const { start, ended, service, state } = rig();
    const [first, second] = [start({ iterations: 4 }), start()];
    service.stop(second);
    expect(state(second)).toBe('stopped');
    expect(await ended(first)).toBe('finished');
    expect(state(second)).toBe('stopped');
  });

  it('whose trainer does not listen is ended after its grace', async () => {
    const { start, ended, service, recorder } = rig(undefined, 20, { stopGraceMs: 300 });
    const id = start({ iterations: 100_000, prompts: ['[hang]'], checkpointEvery: 2 });
    await until(() => recorder.runs.get(id).step >= 3, 'three steps');
    service.stop(id);
    expect(await ended(id)).toBe('failed');
    expect(recorder.summary(id).reason).toMatch(/did not stop within .* s and was ended\. Resume goes on from step \d+\./);
  });
});

describe('a trainer that dies', () => {
  it.each([
    ['[kill]', /ended by the operating system \(SIGKILL\), probably out of memory\. Lower the batch or set memory: low\. Resume goes on from step 2\./],
    ['[crash]', /ended unexpectedly \(exit code 3\): Error: the fake engine fell over\..*Resume goes on from step 2\./],
    ['[error]', /The model is broken\. Take another\./],
  ])('%s leaves a failed run with a reason; the next one goes on', async (word, reason) => {
    const { start, ended, recorder } = rig();
    const id = start({ prompts: [word], checkpointEvery: 2 });
    const next = start({ iterations: 2 });
    expect(await ended(id)).toBe('failed');
    expect(recorder.summary(id).reason).toMatch(reason);
    expect(await ended(next)).toBe('finished');
  });

  it('before a checkpoint says that Resume starts over, and it does', async () => {
    const { start, ended, service, recorder } = rig();
    const id = start({ prompts: ['[kill]'], checkpointEvery: 0 });
    expect(await ended(id)).toBe('failed');
    expect(recorder.summary(id).reason).toMatch(/no checkpoint yet: Resume starts over/);
    await until(() => service.queue().running === null, 'the lane');
    service.resume(id);
    expect(await ended(id)).toBe('failed');
    expect(recorder.detail(id).steps).toHaveLength(3);
  });

  it('that cannot even be started fails the run in words', async () => {
    const home = tempHome();
    const recorder = new RunRecorder(openHistory(home));
    const service = new RunService({ recorder, launch: forkTrainer(join(home, 'no-such-file.ts')), publish: () => {} });
    open.push(service);
    const { id } = service.start('', config());
    await until(() => recorder.runs.get(id).state === 'failed', 'the failure');
    expect(recorder.summary(id).reason).toMatch(/exit code 1.*Cannot find module/);
  });

  it('figures that are not finite are skipped steps, foreign paths are refused, and the run goes on', async () => {
    const { start, ended, recorder } = rig();
    const id = start({ prompts: ['[nan] [rude]'] });
    expect(await ended(id)).toBe('finished');
    const detail = recorder.detail(id);
    expect(detail.steps[1]).toMatchObject({ step: 2, skipped: true, reward: 0 });
    expect(detail.log.join('\n')).toMatch(/could not be recorded/);
  });
});

describe('small jobs', () => {
  it('preview: base pictures as data, equal requests answered at once, an older one superseded', async () => {
    const { service } = rig(undefined, 300);
    const older = service.preview(config({ prompts: ['a', 'b'] }), 2);
    const newer = service.preview(config({ prompts: ['c'] }), 1);
    await expect(older).rejects.toThrow(/newer request/);
    const images = await newer;
    expect(images[0]).toMatchObject({ prompt: 'c', url: expect.stringMatching(/^data:image\/png;base64,/) });
    expect(await service.preview(config({ prompts: ['c'] }), 1)).toBe(images);
  });

  it('a run that starts takes the place of a preview', async () => {
    const { service, start, ended } = rig(undefined, 300);
    const preview = service.preview(config(), 1);
    const id = start({ iterations: 1 });
    await expect(preview).rejects.toThrow(/A run has started/);
    expect(await ended(id)).toBe('finished');
  });

  it('render: paints a pair of a checkpoint into the history once, and says which steps there are', async () => {
    const { service, start, ended, recorder } = rig();
    const id = start({ iterations: 4, checkpointEvery: 2, samplePrompts: 0 });
    expect(await ended(id)).toBe('finished');
    await expect(service.render(id, { prompt: 'a tree', seed: 7, step: 3 })).rejects.toMatchObject({ code: 'not-found', hint: 'It has checkpoints at 2, 4.' });
    const rows = await service.render(id, { prompt: 'a tree', seed: 7, step: 2 });
    expect(rows.map((row) => [row.role, row.step, row.seed])).toEqual([['base', 0, 7], ['tuned', 2, 7]]);
    expect(await service.render(id, { prompt: 'a tree', seed: 7, step: 2 })).toEqual(rows);
    expect(recorder.images.list(id)).toHaveLength(2);
    const half = await service.render(id, { prompt: 'a tree', seed: 7, step: 2, strength: 0.5 });
    expect(half.map((row) => [row.role, row.step, row.strength])).toEqual([['base', 0, undefined], ['tuned', 2, 0.5]]);
    expect(half[0]).toEqual(rows[0]);
    expect(half[1]!.id).not.toBe(rows[1]!.id);
    const late = await service.render(id, { prompt: 'a tree', seed: 7, step: 2, strength: 0.5, loraFrom: 3 });
    expect(late.map((row) => [row.role, row.strength, row.loraFrom])).toEqual([['base', undefined, undefined], ['tuned', 0.5, 3]]);
    expect(recorder.images.list(id)).toHaveLength(4);
    expect(recorder.runs.summary(id).thumbnails).toEqual({ base: rows[0]!.id, tuned: rows[1]!.id });
  });

  it('render: waits while a run is trained', async () => {
    const { service, start, ended, recorder } = rig();
    const id = start({ iterations: 3 });
    await ended(id);
    const running = start({ iterations: 10 });
    await until(() => recorder.runs.get(running).state === 'running', 'the second run');
    await service.render(id, { prompt: 'a tree', seed: 7 });
    expect(recorder.runs.get(running).state).toBe('finished');
  });
});

describe('other processes', () => {
  it('a run left running by a killed app is found at the next start, with where Resume goes on', async () => {
    const home = tempHome();
    const before = RunRecorder.open(home);
    const id = before.createRun({ name: 'left', config: config() });
    before.record(id, { type: 'checkpoint', step: 2, file: 'checkpoints/step-2.safetensors', sha256: 'a', bytes: 1 });
    before.runs.set(id, { owner: '4194304:1' });
    before.close();
    const { service, recorder, events } = rig(home);
    expect(recorder.summary(id).state).toBe('running');
    service.recover();
    expect(recorder.summary(id)).toMatchObject({ state: 'failed', reason: 'The app was closed while it ran. Resume goes on from step 2.' });
    expect(events.map((event) => event.name)).toContain('run.summary');
  });

  it('a command line finds it as well', () => {
    const home = tempHome();
    const before = RunRecorder.open(home);
    const id = before.createRun({ name: 'left', config: config() });
    before.runs.set(id, { owner: '4194304:1' });
    before.close();
    const after = RunRecorder.open(home);
    expect(after.summary(id)).toMatchObject({ state: 'failed', reason: 'The app was closed while it ran. There is no checkpoint yet: Resume starts over.' });
    after.close();
  });

  it('the queue of a closed app goes on at the next start', async () => {
    const home = tempHome();
    const before = RunRecorder.open(home);
    const id = before.createRun({ name: 'queued', config: config({ iterations: 2 }) }, 'queued');
    before.close();
    const { service, ended } = rig(home);
    service.recover();
    expect(await ended(id)).toBe('finished');
  });

  it('a run of a command line that lives is shown, not touched; stop says where it belongs', async () => {
    const home = tempHome();
    const { service, recorder, state, events } = rig(home);
    const id = recorder.createRun({ name: 'cli', config: config() });
    recorder.runs.set(id, { owner: `${process.ppid}:?` });
    service.recover();
    expect(state(id)).toBe('running');
    expect(() => service.stop(id)).toThrow(/belongs to a command line/);
    events.length = 0;
    service.watchForeign();
    expect(events.map((event) => event.name)).toEqual(['run.summary']);
    events.length = 0;
    service.watchForeign();
    expect(events).toEqual([]);
  });

  it('a run of a command line that lives is waited for: one is trained at a time', async () => {
    const { service, recorder, state, start, ended } = rig();
    const id = recorder.createRun({ name: 'cli', config: config() });
    recorder.runs.set(id, { owner: `${process.ppid}:?` });
    service.recover();
    const waiting = start({ iterations: 1 });
    service.watchForeign();
    await new Promise((done) => setTimeout(done, 100));
    expect([state(id), state(waiting)]).toEqual(['running', 'queued']);
    recorder.record(id, { type: 'finished', reason: 'stopped', step: 1, seconds: 1 });
    service.watchForeign();
    expect(await ended(waiting)).toBe('finished');
  });

  it('closing the service stops the training with a checkpoint and leaves the queue', async () => {
    const { service, start, recorder, state } = rig();
    const [running, waiting] = [start({ iterations: 1000 }), start()];
    await until(() => recorder.runs.get(running).step >= 2, 'two steps');
    await service.close(5000);
    expect(state(running)).toBe('stopped');
    expect(recorder.records.checkpoints(running)).toHaveLength(1);
    expect(state(waiting)).toBe('queued');
  });
});

describe('a full disk', () => {
  it('stops the training, keeps what it said in line and writes it once there is room', async () => {
    const { service, start, recorder, events, ended } = rig(undefined, 20, { retryMs: 100 });
    const id = start({ iterations: 1000, samplePrompts: 1 });
    await until(() => recorder.runs.get(id).step >= 2, 'two steps');
    const record = recorder.record.bind(recorder);
    let full = true;
    recorder.record = (...args) => {
      if (full) throw new Database.SqliteError('database or disk is full', 'SQLITE_FULL');
      return record(...args);
    };
    await until(() => events.some(({ payload }) => 'reason' in payload && /disk is full/.test(String(payload.reason))), 'the line about the disk');
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(recorder.runs.get(id).state).toBe('running');
    full = false;
    expect(await ended(id)).toBe('stopped');
    const { steps, summary } = recorder.detail(id);
    expect(steps.map((row) => row.step)).toEqual(Array.from({ length: summary.step }, (_, i) => i + 1));
    expect(summary.reason).toBeNull();
    expect(service.queue().running === id || service.queue().running === null).toBe(true);
  });

  it('of the database itself: SQLite says so and nothing is half written', () => {
    const { recorder } = rig();
    const id = recorder.createRun({ name: '', config: config() });
    const pages = Number(recorder.history.db.pragma('page_count', { simple: true }));
    recorder.history.db.pragma(`max_page_count = ${pages}`);
    let failed: unknown;
    try {
      for (let n = 1; n < 2000; n++) recorder.record(id, { type: 'image', role: 'base', step: n, prompt: 'p'.repeat(3000), promptIndex: 0, heldOut: false, seed: 0, width: 1, height: 1, file: 'a', rewards: {}, weights: '' });
    } catch (error) {
      failed = error;
    }
    expect(failed).toMatchObject({ code: 'SQLITE_FULL' });
    expect(recorder.images.list(id)).toHaveLength(recorder.runs.get(id).last_seq);
  });
});
