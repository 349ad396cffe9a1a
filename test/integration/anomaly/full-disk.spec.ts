/**
 * A disk that is really full: a small file system of its own as data folder, filled until so many bytes are left. Needs the right to
 * mount one (root on Linux); elsewhere it is skipped, aloud, and faults.spec.ts has the same faults made up.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { RunService } from '../../../src-main/app/run-service.ts';
import { importRun, shareRun } from '../../../src-main/app/share-run.ts';
import { forkTrainer } from '../../../src-main/app/trainer-port.ts';
import { AppError } from '../../../src-main/base/errors.ts';
import { LogBook } from '../../../src-main/base/log-book.ts';
import type { EventPayload } from '../../../src-main/contract/api.ts';
import type { TrainerEvent } from '../../../src-main/contract/events.ts';
import type { RunConfig } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { openHistory } from '../../../src-main/history/database.ts';
import { exportRunLora } from '../../../src-main/pipeline/lora/export.ts';
import { train } from '../../../src-main/train/trainer.ts';
import { config as fakeConfig, until } from '../../helpers/temp-home.ts';
import { tinyConfig, tinyPipeline } from '../../helpers/tiny.ts';

const disk = mkdtempSync(join(tmpdir(), 'drtune-full-'));
const mountAt = (folder: string): boolean => process.platform === 'linux' && spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', folder]).status === 0;
const remount = (folder: string, as: 'ro' | 'rw'): boolean => spawnSync('mount', ['-o', `remount,${as}`, folder]).status === 0;
const mounted = mountAt(disk);
if (!mounted) console.warn('SKIPPED: a full disk needs the right to mount a small file system, which is not given here.');
afterAll(() => {
  if (mounted) spawnSync('umount', ['-l', disk]);
  rmSync(disk, { recursive: true, force: true });
});

const ballast = join(disk, 'ballast');
/** Leaves about so many bytes. */
function leave(bytes: number): void {
  makeRoom();
  const { bavail, bsize } = statfsSync(disk);
  try {
    writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - bytes)));
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENOSPC') throw error; // a run at work was quicker: it is full
  }
}
const makeRoom = (): void => rmSync(ballast, { force: true });
const filesBelow = (folder: string): string[] => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));

afterEach(() => {
  if (mounted) for (const name of readdirSync(disk)) rmSync(join(disk, name), { recursive: true, force: true });
});

describe.skipIf(!mounted)('a full disk', () => {
  let engine: Engine;
  beforeAll(async () => void (engine = await openEngine({ prefer: 'wasm', home: tmpdir() })));
  const tiny = tinyConfig({ iterations: 2, batch: 1, diversitySeeds: 0, checkpointEvery: 1, sampleEvery: 1, samplePrompts: 2, lora: { rank: 2, targets: ['to_q'] } });

  async function run(config: RunConfig, runDir: string, resume: boolean, heard: (event: TrainerEvent) => void = () => {}): Promise<void> {
    for await (const event of train(config, {
      engine, home: disk, runDir, resume, appVersion: 'test', now: () => 0, date: () => '', memoryBytes: () => 1, log: () => {}, breathe: async () => {}, stopRequested: () => false,
      room: () => Infinity, // others fill it while the run is at work
    })) heard(event);
  }
  const kept = (runDir: string): Record<string, string> => Object.fromEntries(filesBelow(runDir).filter((file) => /\.(png|safetensors)$/.test(file)).map((file) => [file.slice(runDir.length), readFileSync(file).toString('base64')]));

  it('under the trainer, at every 20 kB of a run: one line that says what was not written; with room again it resumes to the same bytes', async () => {
    const whole = join(disk, 'whole');
    await run(tiny, whole, false);
    const [expected, size] = [kept(whole), filesBelow(whole).reduce((bytes, file) => bytes + Math.ceil(statSync(file).size / 4096) * 4096, 0)];
    rmSync(whole, { recursive: true });
    const places = new Set<string>();
    for (let bytes = 0; bytes < size; bytes += 20_480) {
      const runDir = join(disk, 'run');
      leave(bytes);
      const before = tensorCount();
      const error = await run(tiny, runDir, false).then(() => null, (thrown: unknown) => thrown);
      if (error === null) continue; // what it needed at once fitted
      expect(error, `${bytes} bytes left`).toBeInstanceOf(AppError);
      const { code, message, hint } = error as AppError;
      expect({ code, message, hint }).toMatchObject({ code: 'disk', message: expect.stringMatching(/could not be written: .*ENOSPC/) as string, hint: expect.stringMatching(/free (some )?space/i) as string });
      places.add(/(samples|checkpoints|manifest)/.exec(message)?.[1] ?? message);
      expect(message).not.toMatch(/\.(part|tmp)\b/); // the file is told by the name it would have had
      expect(message).toContain(join(runDir, ''));
      expect(message).toMatch(/ are free\)\.$/);
      expect(tensorCount()).toBe(before);
      makeRoom();
      await run(tiny, runDir, true);
      expect(kept(runDir), `${bytes} bytes left`).toEqual(expected);
      expect(filesBelow(runDir).filter((file) => /\.(part|tmp)$/.test(file))).toEqual([]);
      rmSync(runDir, { recursive: true });
    }
    makeRoom();
    expect([...places]).toEqual(expect.arrayContaining(['checkpoints', 'manifest'])); // the pictures of so small a model are about one block
  }, 60_000);

  it('says of a checkpoint what it takes, what is free, and what to do', async () => {
    const runDir = join(disk, 'large');
    leave(700_000);
    const error = await run(tinyConfig({ train: 'full', batch: 1, iterations: 1, samplePrompts: 0, diversitySeeds: 0 }), runDir, false).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'disk', hint: 'Free some space there (keepCheckpoints lets old checkpoints go) or check permissions, then resume the run.',
      message: expect.stringMatching(/^\S*\/large\/checkpoints\/step-000001\/state\.safetensors could not be written: ENOSPC: no space left on device \(it takes 1\.\d MB, [1-9]\d* kB are free\)\.$/) as string,
    });
    expect(filesBelow(join(runDir, 'checkpoints'))).toEqual([]);
  });

  it('under an export of any form: one line by the name that was asked for, and nothing is left', async () => {
    const runDir = join(disk, 'whole');
    await run(tiny, runDir, false);
    const request = { model: { name: 'tiny', path: tinyPipeline }, checkpoint: join(runDir, 'checkpoints/step-000002/lora.safetensors'), prompt: 'a', run: 'r', step: 2 };
    for (const [format, out, places] of [['diffusers', 'a.safetensors', [0, 8192]], ['kohya', 'b.safetensors', [0, 8192]], ['peft', 'c', [0, 4096]], ['merged', 'd', [800_000, 1_300_000]], ['merged', 'e.safetensors', [900_000]]] as const) {
      for (const bytes of places) {
        makeRoom();
        const wanted = join(disk, 'exports', out);
        // merged models look first whether there is room: others take it after that
        const work = { at: async (what: string) => void (what === (format === 'merged' ? 'merging and writing' : 'writing') && readdirSync(disk).includes('ballast') === false && leave(bytes)) };
        const error = await exportRunLora(engine, { ...request, format, out: wanted }, work).then(() => null, (thrown: unknown) => thrown);
        expect(error, String((error as AppError | null)?.line)).toMatchObject({ code: 'disk', message: expect.stringMatching(/could not be written: ENOSPC: .* (is|are) free\)\.$/) as string });
        const { message, hint } = error as AppError;
        expect(message.startsWith(wanted.replace('.safetensors', '')) || wanted.startsWith(message.split(' could')[0]!), message).toBe(true); // a tokenizer lies beside a model's file
        expect(`${message} ${hint}`).not.toMatch(/\.part|\.tmp/);
        expect(readdirSync(disk).sort()).toEqual(['ballast', 'whole']);
      }
    }
  });

  it('or one that is read-only, also from some moment on: one line with the system\'s reason; with the right to write the run goes on', async () => {
    const [home, runs] = [join(disk, 'home'), join(disk, 'home/runs')];
    mkdirSync(runs, { recursive: true });
    mountAt(runs);
    try {
      const whole = join(runs, 'whole');
      await run(tiny, whole, false);
      const recorder = RunRecorder.open(home);
      const runDir = join(runs, 'later');
      let readOnly = false;
      const later = run(tiny, runDir, false, (event) => {
        if (event.type === 'checkpoint' && event.step === 1) readOnly = remount(runs, 'ro');
      });
      await expect(later).rejects.toMatchObject({ code: 'disk', message: expect.stringMatching(/^\S*\/later\/\S+ could not be written: EROFS: read-only file system\.$/) as string });
      expect(readOnly).toBe(true);
      expect(() => recorder.createRun({ name: 'none', config: tiny })).toThrow(expect.objectContaining({ code: 'disk', message: expect.stringMatching(/runs\/\S+ could not be made: EROFS: read-only file system\.$/) as string }) as Error);
      expect(recorder.runs.list()).toEqual([]);
      await expect(run(tiny, join(runs, 'never'), false)).rejects.toMatchObject({ code: 'disk', message: expect.stringMatching(/never\/\S+ could not be written: EROFS/) as string });
      remount(runs, 'rw');
      await run(tiny, runDir, true);
      expect(kept(runDir)).toEqual(kept(whole));
      recorder.close();
    } finally {
      spawnSync('umount', ['-l', runs]);
    }
  });

  it.each([0, 4096, 40_960, 163_840])('under the app, %i bytes left: the run says so while it lasts, ends in a right state, and goes on with room', async (bytes) => {
    const home = join(disk, `home-${bytes}`);
    mkdirSync(home);
    const recorder = new RunRecorder(openHistory(home));
    const log = new LogBook(join(home, 'logs'));
    const said: (string | null)[] = [];
    const service = new RunService({
      recorder, retryMs: 100, launch: forkTrainer(join(import.meta.dirname, '../../helpers/fake-trainer.ts'), { ...process.env, DRTUNE_FAKE_STEP_MS: '10' }),
      publish: (name, payload) => void (name === 'run.summary' && said.push((payload as EventPayload<'run.summary'>).reason)),
    });
    const earlier = recorder.createRun({ name: 'earlier', config: fakeConfig() });
    recorder.record(earlier, { type: 'finished', reason: 'completed', step: 5, seconds: 1 });
    const { id } = service.start('fills', fakeConfig({ iterations: 400, checkpointEvery: 5, sampleEvery: 20 }));
    await until(() => recorder.summary(id).step >= 3, 'three steps');
    leave(bytes);
    log.write('info', 'test', 'a line that may not fit'); // never throws
    await until(() => said.some((line) => line?.startsWith('The disk is full')) || recorder.summary(id).state === 'failed', 'word of the full disk');
    makeRoom();
    await until(() => service.queue().running === null, 'the end');
    const { state, reason, step } = recorder.summary(id);
    expect(['stopped', 'failed']).toContain(state);
    if (state === 'failed') expect(reason).toMatch(/ENOSPC|no space|disk/i);
    expect(recorder.detail(id).steps.map((row) => row.step)).toEqual(Array.from({ length: step }, (_, i) => i + 1));
    expect(recorder.summary(earlier).state).toBe('finished');
    service.resume(id, step + 5);
    await until(() => recorder.summary(id).state === 'finished' || recorder.summary(id).state === 'failed', 'the resumed run');
    expect(recorder.summary(id)).toMatchObject({ state: 'finished', step: step + 5 });
    expect(said.at(-1)).toBeNull();
    await service.close(1000);
    recorder.close();
    rmSync(home, { recursive: true });
  }, 30_000);

  it('under a new history, an import or a shared file: one line, and nothing is left of it', async () => {
    const home = join(disk, 'sharing');
    mkdirSync(home);
    const recorder = RunRecorder.open(home);
    const id = recorder.createRun({ name: 'to share', config: fakeConfig() });
    const lora = join(recorder.runDir(id), 'checkpoints/step-5/lora.safetensors');
    mkdirSync(join(lora, '..'), { recursive: true });
    const { writeSafetensors } = await import('../../../src-main/weights/safetensors.ts');
    writeSafetensors(lora, { 'unet.a.lora_A.weight': { shape: [200_000], data: new Float32Array(200_000) } });
    recorder.record(id, { type: 'checkpoint', step: 5, file: 'checkpoints/step-5/lora.safetensors', sha256: 'x', bytes: 1 });
    recorder.record(id, { type: 'finished', reason: 'completed', step: 5, seconds: 1 });
    leave(0);
    expect(() => openHistory(join(disk, 'new'))).toThrow(expect.objectContaining({ hint: expect.stringContaining('Free some space') as string }));
    leave(300_000);
    await expect(shareRun(recorder, id, join(home, 'out.drtune'))).rejects.toMatchObject({ code: 'disk', message: expect.stringMatching(/out\.drtune could not be written: .*ENOSPC/) as string });
    expect(readdirSync(home).filter((name) => name.includes('drtune'))).toEqual([]);
    makeRoom();
    const { path } = await shareRun(recorder, id, join(home, 'out.drtune'));
    leave(300_000);
    await expect(importRun(recorder, path)).rejects.toMatchObject({ code: 'disk', message: expect.stringMatching(/runs could not be written: ENOSPC: .* are free\)\.$/) as string });
    makeRoom();
    expect(readdirSync(join(home, 'runs'))).toEqual([id]);
    expect(recorder.runs.list()).toHaveLength(1);
    recorder.close();
  });
});
