/** Faults of disks, files, clocks and processes: the run's state is right, it says so, and nothing earlier is lost. */
import fs, { appendFileSync, chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { spawn, spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { RunService } from '../../../src-main/app/run-service.ts';
import { forkTrainer } from '../../../src-main/app/trainer-port.ts';
import type { TrainerEvent } from '../../../src-main/contract/events.ts';
import type { RunConfig } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { makeBackup } from '../../../src-main/history/backup.ts';
import { historyFile, openHistory } from '../../../src-main/history/database.ts';
import { train } from '../../../src-main/train/trainer.ts';
import type { FromTrainer, TrainerPort } from '../../../src-main/worker/protocol.ts';
import { config as fakeConfig, step, tempHome, until } from '../../helpers/temp-home.ts';
import { tinyConfig, tinyPipeline } from '../../helpers/tiny.ts';

const home = mkdtempSync(join(tmpdir(), 'drtune-faults-'));
const fake = join(import.meta.dirname, '../../helpers/fake-trainer.ts');
let engine: Engine;
let runs = 0;
beforeAll(async () => void (engine = await openEngine({ prefer: 'wasm', home })));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const tiny = tinyConfig({ iterations: 2, batch: 1, diversitySeeds: 0, checkpointEvery: 1, sampleEvery: 0, samplePrompts: 1, lora: { rank: 2, targets: ['to_q'] } });

async function run(config: RunConfig, runDir = join(home, `run-${runs++}`), resume = false): Promise<{ events: TrainerEvent[]; runDir: string; log: string[] }> {
  const events: TrainerEvent[] = [];
  const log: string[] = [];
  for await (const event of train(config, {
    engine, home, runDir, resume, appVersion: 'test', now: () => 0, date: () => '', memoryBytes: () => 1, log: (line) => void log.push(line), breathe: async () => {}, stopRequested: () => false,
  })) events.push(event);
  return { events, runDir, log };
}

const lora = (runDir: string, n: number): Buffer => readFileSync(join(runDir, `checkpoints/step-00000${n}/lora.safetensors`));

/** While `action` runs, every call that writes fails from the n-th on, as on a full disk; returns how many there were. */
async function onFullDisk(n: number, action: () => Promise<unknown>): Promise<number> {
  let calls = 0;
  const names = ['writeSync', 'mkdirSync', 'fsyncSync'] as const;
  const kept = names.map((name) => fs[name]);
  const [writeFile] = [fs.promises.writeFile];
  const count = (): void => {
    if (++calls >= n) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  };
  names.forEach((name, i) => ((fs as unknown as Record<string, unknown>)[name] = (...args: unknown[]) => {
    count();
    return (kept[i] as (...all: unknown[]) => unknown)(...args);
  }));
  fs.promises.writeFile = (async (...args: Parameters<typeof writeFile>) => {
    count();
    return writeFile(...args);
  }) as typeof writeFile;
  syncBuiltinESMExports();
  try {
    await action();
  } finally {
    names.forEach((name, i) => ((fs as unknown as Record<string, unknown>)[name] = kept[i]));
    fs.promises.writeFile = writeFile;
    syncBuiltinESMExports();
  }
  return calls;
}

describe('a disk that fills up', () => {
  it('at any write: one line, no tensor left, and the run goes on from its last checkpoint to the same weights', async () => {
    const whole = await run(tiny);
    const before = tensorCount();
    const total = await onFullDisk(Infinity, () => run(tiny));
    expect(total).toBeGreaterThan(40);
    for (const part of [0, 0.2, 0.45, 0.7, 0.9, 1]) {
      const runDir = join(home, `full-${part}`);
      const place = Math.max(1, Math.round(part * total));
      await expect(onFullDisk(place, () => run(tiny, runDir)), `write ${place} of ${total}`).rejects.toMatchObject({ code: 'disk', message: expect.stringMatching(/could not be written: .*ENOSPC/) });
      expect(tensorCount()).toBe(before);
      await run(tiny, runDir, true);
      expect(lora(runDir, 2).equals(lora(whole.runDir, 2)), `after write ${place}`).toBe(true);
      expect(readdirSync(join(runDir, 'checkpoints'))).toEqual(['step-000001', 'step-000002']);
    }
  });

  it('a folder that cannot be written says so before anything is trained', async () => {
    const runDir = join(home, 'a-file');
    writeFileSync(runDir, 'not a folder');
    await expect(run(tiny, runDir)).rejects.toMatchObject({ code: 'disk', message: expect.stringContaining(runDir) });
  });
});

describe('a checkpoint that is damaged', () => {
  const state = (runDir: string): string => join(runDir, 'checkpoints/step-000002/state.safetensors');
  const flip = (file: string): void => {
    const bytes = readFileSync(file);
    bytes[bytes.length - 5]! ^= 0x10;
    writeFileSync(file, bytes);
  };
  it.each<[string, (runDir: string) => void, RegExp]>([
    ['cut short', (dir) => truncateSync(state(dir), 200), /state\.safetensors has changed/],
    ['one bit of the state flipped', (dir) => flip(state(dir)), /state\.safetensors has changed/],
    ['one bit of the LoRA flipped', (dir) => flip(join(dir, 'checkpoints/step-000002/lora.safetensors')), /lora\.safetensors has changed/],
    ['longer than it was', (dir) => appendFileSync(state(dir), 'x'), /state\.safetensors has changed/],
    ['a file gone', (dir) => unlinkSync(state(dir)), /state\.safetensors is missing/],
    ['its index gone', (dir) => unlinkSync(join(dir, 'checkpoints/step-000002/checkpoint.json')), /ENOENT/],
    ['its index cut', (dir) => truncateSync(join(dir, 'checkpoints/step-000002/checkpoint.json'), 30), /JSON/],
    ['a wrong sum', (dir) => {
      const file = join(dir, 'checkpoints/step-000002/checkpoint.json');
      writeFileSync(file, readFileSync(file, 'utf8').replace(/"state.safetensors": "../, '"state.safetensors": "00'));
    }, /state\.safetensors has changed/],
  ])('%s: the one before is used, and the end is the same', async (_, damage, words) => {
    const whole = join(home, 'whole');
    if (!fs.existsSync(whole)) await run(tiny, whole);
    const runDir = join(home, `damaged-${runs++}`);
    cpSync(whole, runDir, { recursive: true });
    damage(runDir);
    const { events, log } = await run(tiny, runDir, true);
    expect(log.join('\n')).toMatch(words);
    expect(events.find((each) => each.type === 'started')).toMatchObject({ startIteration: 1 });
    for (const n of [1, 2]) expect(lora(runDir, n).equals(lora(whole, n))).toBe(true);
  });
});

describe('files that change under a run', () => {
  it('weights: a resumed run refuses them by name, and touches nothing', async () => {
    const model = join(home, 'model');
    cpSync(tinyPipeline, model, { recursive: true });
    const config = { ...tiny, model };
    const { runDir } = await run(config);
    const file = join(model, 'vae/diffusion_pytorch_model.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 2]! ^= 1;
    chmodSync(file, 0o644);
    writeFileSync(file, bytes);
    const manifest = readFileSync(join(runDir, 'manifest.json'), 'utf8');
    const before = tensorCount();
    await expect(run({ ...config, iterations: 3 }, runDir, true)).rejects.toMatchObject({
      message: expect.stringMatching(/^vae\/diffusion_pytorch_model\.safetensors changed since the run began: its sha256 was \w{12}, now it is \w{12}\.$/), hint: expect.stringMatching(/Put the file back/),
    });
    expect(tensorCount()).toBe(before);
    expect(readFileSync(join(runDir, 'manifest.json'), 'utf8')).toBe(manifest);
    expect(readdirSync(join(runDir, 'checkpoints'))).toHaveLength(2);
  });

  it('weights that are read anew at every step: the run ends by their name, and with the file as it was goes on to the same end', async () => {
    const model = join(home, 'read-anew');
    cpSync(tinyPipeline, model, { recursive: true });
    const config = { ...tiny, model, memory: 'low' as const };
    const whole = await run(config);
    expect(whole.events.find((each) => each.type === 'plan')).toMatchObject({ plan: { vaeWeights: 'leave' } });
    const file = join(model, 'vae/diffusion_pytorch_model.safetensors');
    const before = readFileSync(file);
    const runDir = join(home, `run-${runs++}`);
    const change = async (): Promise<void> => {
      for await (const event of train(config, {
        engine, home, runDir, resume: false, appVersion: 'test', now: () => 0, date: () => '', memoryBytes: () => 1, log: () => {}, breathe: async () => {}, stopRequested: () => false,
      })) {
        if (event.type !== 'checkpoint' || event.step !== 1) continue;
        chmodSync(file, 0o644);
        writeFileSync(file, Buffer.from(before).fill(1, before.length - 1));
      }
    };
    const alive = tensorCount();
    await expect(change()).rejects.toMatchObject({ code: 'weights', message: `${file} changed while it was in use.`, hint: 'Put the file back as it was, or start a new run with it.' });
    expect(tensorCount()).toBe(alive);
    expect(readdirSync(join(runDir, 'checkpoints'))).toEqual(['step-000001']);
    writeFileSync(file, before);
    await run(config, runDir, true);
    expect(lora(runDir, 2).equals(lora(whole.runDir, 2))).toBe(true);
  });
});

/** A service whose trainer is a port of the test's own. */
function handDriven(quietMs = { first: 400, least: 400 }, now?: () => number): { service: RunService; recorder: RunRecorder; tell(message: FromTrainer): void; sent: unknown[]; exit(signal: string): void; close(): Promise<void> } {
  const recorder = new RunRecorder(openHistory(tempHome()));
  let tell: (message: FromTrainer) => void = () => {};
  let exit: (exit: { code: number | null; signal: string | null }) => void = () => {};
  const sent: unknown[] = [];
  const port: TrainerPort = {
    send: (message) => void sent.push(message), onMessage: (listener) => void (tell = listener), onExit: (listener) => void (exit = listener), kill: () => exit({ code: null, signal: 'SIGKILL' }),
  };
  const service = new RunService({ recorder, launch: () => port, publish: () => {}, quietMs, ...(now && { now }) });
  const close = async (): Promise<void> => {
    await service.close(100);
    recorder.close();
  };
  return { service, recorder, close, sent, tell: (message) => tell(message), exit: (signal) => exit({ code: null, signal }) };
}

describe('a trainer', () => {
  it('that says nothing any more is asked to stop, then ended; the run says how long it was quiet', async () => {
    const { service, recorder, sent, tell, close } = handDriven();
    const { id } = service.start('', fakeConfig());
    tell({ type: 'event', event: step(1, { stepMs: 1 }) });
    tell({ type: 'event', event: { type: 'checkpoint', step: 1, file: 'checkpoints/step-1', sha256: 'a', bytes: 1 } });
    await until(() => sent.some((each) => (each as { type: string }).type === 'stop'), 'the stop');
    await until(() => recorder.summary(id).state === 'failed', 'the end');
    expect(recorder.summary(id).reason).toMatch(/^The trainer hung: it said nothing for \d s, did not stop when asked and was ended\. Resume goes on from step 1\.$/);
    expect(recorder.detail(id).log.join('\n')).toMatch(/has said nothing for/);
    expect(recorder.detail(id).steps).toHaveLength(1);
    await close();
  });

  it('whose steps are slow is given time: twenty of its own steps', async () => {
    const { service, recorder, sent, tell, exit, close } = handDriven();
    const { id } = service.start('', fakeConfig());
    tell({ type: 'event', event: step(1, { stepMs: 5000 }) });
    await new Promise((done) => setTimeout(done, 900));
    expect(sent).toHaveLength(1); // the job
    exit('SIGTERM');
    expect(recorder.summary(id).state).toBe('failed');
    await close();
  });

  it('is not taken for hung by a clock that jumps a day, forward or back', async () => {
    let jump = 0;
    const { service, recorder, sent, tell, exit, close } = handDriven({ first: 1000, least: 1000 }, () => performance.now() + jump);
    const { id } = service.start('', fakeConfig());
    tell({ type: 'event', event: step(1, { stepMs: 1 }) });
    for (const n of [1, -1, 2]) {
      jump += n * 86_400_000;
      await new Promise((done) => setTimeout(done, 550));
      tell({ type: 'event', event: step(2, { stepMs: 1 }) });
    }
    expect(sent).toHaveLength(1); // the job
    expect(recorder.summary(id).state).toBe('running');
    exit('SIGTERM');
    await close();
  });

  it('that the system ends for memory: the advice is of its own memory plan', async () => {
    const { service, recorder, tell, exit, close } = handDriven();
    const { id } = service.start('', fakeConfig());
    const part = 'float32' as const;
    tell({ type: 'event', event: { type: 'plan', plan: {
      weights: { unet: part, vae: part, text: part }, unet: 'residuals', vae: 'residuals', textEncoders: 'stay', vaeWeights: 'stay', small: false, picturesAtOnce: 1, phases: [], peakBytes: 9e9, availableBytes: 1e10,
      fits: true, notes: [], advice: [], savings: ['memory low (about 4.1 GB less)', 'batch 1 (about 1.0 GB less)'],
    } } });
    exit('SIGKILL');
    expect(recorder.summary(id).reason).toBe('The trainer was ended by the operating system (SIGKILL), probably out of memory. What needs less memory: memory low (about 4.1 GB less); batch 1 (about 1.0 GB less). There is no checkpoint yet: Resume starts over.');
    await close();
  });
});

it('a clock that is set back or forward does not change how long a run took', () => {
  const clock = { wall: 1.7e12, steady: 0 };
  const recorder = new RunRecorder(openHistory(tempHome()), () => clock.wall, () => clock.steady);
  const id = recorder.createRun({ name: '', config: fakeConfig() });
  recorder.begin(id, false);
  for (const [n, jump] of [[1, 0], [2, -86_400_000], [3, 7 * 86_400_000]] as const) {
    clock.wall += 1000 + jump;
    clock.steady += 1000;
    recorder.record(id, step(n));
  }
  expect(recorder.summary(id).seconds).toBe(3);
  clock.steady += 1000;
  recorder.record(id, { type: 'finished', reason: 'completed', step: 3, seconds: 0 });
  expect(recorder.summary(id).seconds).toBe(4);
  recorder.close();
});

it('a history that is damaged while a run is trained comes back from its backup, and the run can be resumed', async () => {
  const dataFolder = tempHome();
  const first = openHistory(dataFolder, { locked: true });
  const recorder = new RunRecorder(first);
  const service = new RunService({ recorder, launch: forkTrainer(fake, { ...process.env, DRTUNE_FAKE_STEP_MS: '20' }), publish: () => {} });
  const { id } = service.start('kept', fakeConfig({ iterations: 100_000, checkpointEvery: 2 }));
  await until(() => recorder.summary(id).step >= 3, 'three steps');
  expect(makeBackup(first.db, dataFolder, Date.now())).not.toBeNull();
  await service.close(2000);
  first.close();
  for (const end of ['', '-wal', '-shm']) rmSync(historyFile(dataFolder) + end, { force: true });
  writeFileSync(historyFile(dataFolder), 'no database '.repeat(1000));

  const second = openHistory(dataFolder, { locked: true });
  expect(second.notices[0]).toMatch(/The history was damaged\. The backup of .* is in use/);
  const after = new RunRecorder(second);
  after.runs.set(id, { owner: '4194304:1' }); // the backup was made by this very process, which lives
  after.endOrphans();
  expect(after.summary(id)).toMatchObject({ name: 'kept', state: 'failed', reason: expect.stringMatching(/Resume goes on from step \d+\./) });
  expect(after.detail(id).steps.length).toBeGreaterThanOrEqual(3);
  second.close();
});

it('a history that another process holds is waited for, and nothing is lost', async () => {
  const dataFolder = tempHome();
  const recorder = new RunRecorder(openHistory(dataFolder));
  const id = recorder.createRun({ name: '', config: fakeConfig() });
  const script = `const D = require('better-sqlite3'); const d = new D(${JSON.stringify(historyFile(dataFolder))}); d.exec('BEGIN IMMEDIATE'); process.stdout.write('held'); setTimeout(() => { d.exec('COMMIT'); d.close(); }, 700);`;
  const child = spawn(process.execPath, ['-e', script], { cwd: join(import.meta.dirname, '../../..') });
  await new Promise((held) => child.stdout.once('data', held));
  recorder.record(id, step(1));
  expect(recorder.detail(id).steps).toHaveLength(1);
  recorder.close();
});

describe.skipIf(process.platform === 'win32')('a machine that sleeps', () => {
  /** Processes whose parent is `parent`. */
  const childrenOf = (parent: number): number[] => spawnSync('ps', ['-o', 'pid=', '--ppid', String(parent)], { encoding: 'utf8' }).stdout.split('\n').map(Number).filter((pid) => pid > 0);

  it.each([
    ['app and trainer together', true],
    ['the trainer alone, for less than the watchdog waits', false],
  ])('%s: after it wakes the run goes on to its end, and nothing is taken for hung', async (_, both) => {
    const dataFolder = tempHome();
    const app = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, '../../helpers/killed-app.ts'), dataFolder, fake, JSON.stringify(fakeConfig({ iterations: 12, checkpointEvery: 4 }))], {
      stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, DRTUNE_FAKE_STEP_MS: '60', DRTUNE_QUIET_MS: both ? '900' : '4000' },
    });
    try {
      let heard = '';
      app.stdout.on('data', (data: Buffer) => (heard += data.toString()));
      await until(() => heard.includes('step 3'), 'three steps');
      const [trainer] = childrenOf(app.pid!);
      const asleep = [trainer!, ...(both ? [app.pid!] : [])];
      for (const pid of asleep) process.kill(pid, 'SIGSTOP');
      await new Promise((done) => setTimeout(done, 2000));
      for (const pid of asleep.reverse()) process.kill(pid, 'SIGCONT');
      await until(() => heard.includes('finished'), 'the end');
      const id = /run (\S+)/.exec(heard)![1]!;
      const recorder = RunRecorder.open(dataFolder);
      await until(() => recorder.summary(id).state !== 'running', 'its state');
      expect(recorder.summary(id)).toMatchObject({ state: 'finished', step: 12 });
      expect(recorder.detail(id).steps.map((row) => row.step)).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
      expect(recorder.detail(id).log.join('\n')).not.toMatch(/said nothing/);
      recorder.close();
    } finally {
      app.kill('SIGKILL');
    }
  }, 30_000);
});
