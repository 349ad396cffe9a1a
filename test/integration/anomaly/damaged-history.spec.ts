/** A history damaged on the disk while the app has it open: the run at work is saved, the next start has all of it that the backup and the folders have. */
import { closeSync, existsSync, openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { RunService } from '../../../src-main/app/run-service.ts';
import { forkTrainer } from '../../../src-main/app/trainer-port.ts';
import { makeBackup } from '../../../src-main/history/backup.ts';
import { historyFile, openHistory } from '../../../src-main/history/database.ts';
import { tempHome, until } from '../../helpers/temp-home.ts';
import { tinyConfig } from '../../helpers/tiny.ts';

const entry = join(import.meta.dirname, '../../../src-main/worker/trainer-process.ts');
const config = tinyConfig({ engine: 'wasm', iterations: 2, batch: 1, samplePrompts: 1, sampleEvery: 0, diversitySeeds: 0, lora: { rank: 2, targets: ['to_q'] } });

/** Overwrites every page but the first, as a bad cable would, under an open connection that keeps none in memory. */
function damage(recorder: RunRecorder, home: string): void {
  recorder.history.db.pragma('wal_checkpoint(TRUNCATE)');
  recorder.history.db.pragma('cache_size = 0');
  const file = historyFile(home);
  const handle = openSync(file, 'r+');
  writeSync(handle, Buffer.alloc(statSync(file).size - 4096, 'damage'), 0, undefined, 4096);
  closeSync(handle);
  recorder.history.db.pragma('shrink_memory');
}

it('while a run is trained: it is stopped with a checkpoint, and the next start has it again, also a run that the backup had not', async () => {
  const home = tempHome();
  const recorder = new RunRecorder(openHistory(home, { locked: true }));
  const said: unknown[] = [];
  const service = new RunService({ recorder, launch: forkTrainer(entry), publish: (_, payload) => void said.push(payload) });
  const { id: before } = service.start('before the backup', config);
  await until(() => service.queue().running === null && recorder.summary(before).state === 'finished', 'the first run', 30_000);
  expect(makeBackup(recorder.history.db, home, Date.now())).not.toBeNull();
  const { id } = service.start('after the backup', { ...config, iterations: 100_000, checkpointEvery: 100_000 });
  await until(() => recorder.summary(id).step >= 3, 'three steps', 30_000);
  const { steps, images } = recorder.detail(id);
  service.start('never begun', config);
  damage(recorder, home);
  const checkpoints = join(recorder.runDir(id), 'checkpoints');
  await until(() => existsSync(checkpoints) && readdirSync(checkpoints).some((name) => name.startsWith('step-')), 'the checkpoint', 30_000);
  await new Promise((done) => setTimeout(done, 1500)); // the trainer goes, and the queue would move on
  expect(service.queue()).toEqual({ running: null, waiting: 0, held: true });
  service.watchForeign(); // as the app does every few seconds
  await service.close(5000);
  recorder.close();

  const again = openHistory(home, { locked: true });
  expect(again.notices.join()).toMatch(/The history was damaged/);
  const after = new RunRecorder(again);
  expect(after.adoptRuns()).toEqual([id]); // of the one that waited there is no file
  expect(after.adoptRuns()).toEqual([]);
  expect(after.summary(before)).toMatchObject({ name: 'before the backup', state: 'finished' });
  const found = after.detail(id);
  expect(found.summary).toMatchObject({ state: 'failed', reason: expect.stringMatching(/^The history was damaged; this run was found by its folder\. Resume goes on from step \d+\.$/) as string });
  expect(found.steps.length).toBeGreaterThanOrEqual(steps.length);
  expect(found.steps.slice(0, steps.length)).toEqual(steps);
  expect(found.images.map(({ role, prompt, seed, rewards }) => ({ role, prompt, seed, rewards }))).toEqual(images.map(({ role, prompt, seed, rewards }) => ({ role, prompt, seed, rewards })));
  const next = new RunService({ recorder: after, launch: forkTrainer(entry), publish: () => {} });
  const done = found.checkpoints.at(-1)!.step;
  next.resume(id, done + 2);
  await until(() => next.queue().running === null && after.summary(id).state !== 'queued', 'the resumed run', 30_000);
  expect(after.summary(id)).toMatchObject({ state: 'finished', step: done + 2 });
  expect(after.detail(id).steps.map(({ step }) => step)).toEqual(Array.from({ length: done + 2 }, (_, i) => i + 1));
  await next.close(1000);
  after.close();
}, 60_000);
