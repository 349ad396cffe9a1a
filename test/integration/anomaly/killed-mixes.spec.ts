/**
 * Trainers of every kind killed with SIGKILL at random places, and stopped while they paint: what is resumed ends with the bytes of one that was
 * never interrupted. Beside killed.spec.ts, which has one kind, twenty kills and the app.
 */
import { fork } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { TrainerEvent } from '../../../src-main/contract/events.ts';
import type { RunConfigInput } from '../../../src-main/contract/run.ts';
import type { FromTrainer } from '../../../src-main/worker/protocol.ts';
import { seededNumbers } from '../../helpers/random.ts';
import { tinyConfig } from '../../helpers/tiny.ts';

const KILLS = Number(process.env['DRTUNE_KILLS'] ?? 1);
const entry = join(import.meta.dirname, '../../../src-main/worker/trainer-process.ts');
const faults = join(import.meta.dirname, '../../helpers/faults.ts');
const home = mkdtempSync(join(tmpdir(), 'drtune-mixes-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

interface Session { events: TrainerEvent[]; errors: string[]; signal: string | null }
/** @param stopAt the event of sampling, counted from 1, at which the trainer is asked to stop */
function session(config: ReturnType<typeof tinyConfig>, runDir: string, { fault = '', resume = true, stopAt = Infinity } = {}): Promise<Session> {
  const child = fork(entry, [], {
    execArgv: ['--disable-warning=ExperimentalWarning'], serialization: 'advanced', stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: { ...process.env, NODE_OPTIONS: `--import=${faults}`, DRTUNE_FAULT: fault, DRTUNE_FAULT_COUNT: join(home, 'count') },
  });
  const told: Session = { events: [], errors: [], signal: null };
  let painted = 0;
  child.on('message', (message: FromTrainer) => {
    if (message.type === 'error') told.errors.push(message.message);
    if (message.type !== 'event') return;
    told.events.push(message.event);
    if (message.event.type === 'phase' && message.event.phase === 'painting samples' && ++painted === stopAt) child.send({ type: 'stop' });
  });
  child.send({ type: 'job', job: { kind: 'train', config, runDir, home, resume } });
  return new Promise((done) => child.on('close', (_, signal) => done({ ...told, signal })));
}

/** Weights, states, pictures; of the notes what a later session goes by. */
function left(runDir: string): Record<string, unknown> {
  const files = readdirSync(runDir, { recursive: true, encoding: 'utf8' }).filter((file) => /\.(safetensors|png)$/.test(file)).sort();
  const last = readdirSync(join(runDir, 'checkpoints')).sort().at(-1)!;
  const { recent: _, ...notes } = JSON.parse(readFileSync(join(runDir, 'checkpoints', last, 'checkpoint.json'), 'utf8')) as Record<string, unknown>;
  const { pictures, best, spread } = JSON.parse(readFileSync(join(runDir, 'manifest.json'), 'utf8')) as Record<string, unknown>;
  return { ...Object.fromEntries(files.map((file) => [file, readFileSync(join(runDir, file)).toString('base64')])), notes, pictures, best, spread };
}

const common: Partial<RunConfigInput> = { engine: 'wasm', iterations: 4, batch: 1, checkpointEvery: 1, sampleEvery: 2, diversitySeeds: 0 };

it.each<[string, Partial<RunConfigInput>]>([
  ['prodigy, an average, a DoRA of the text encoders too', { ema: 0.9, optimizer: { kind: 'prodigy', lr: 1 }, lora: { method: 'dora', rank: 2, textEncoder: true }, lrSchedule: { kind: 'cosine', warmup: 2 } }],
  ['a LoKr in convolutions, accumulated, sizes, crops, guidance and the sampler\'s noise drawn, by adafactor', { accumulate: 2, scheduler: 'euler-a', augment: { crop: 4 }, sizes: [[24, 16], [16, 24]], guidanceRange: [1.5, 3], optimizer: { kind: 'adafactor', lr: 1e-2 }, lora: { method: 'lokr', rank: 2, targets: ['to_q', 'conv1'] } }],
  ['the whole UNet in 8 bits, two checkpoints kept, terms normalised', { train: 'full', keepCheckpoints: 2, normalize: true, ema: 0.5, optimizer: { kind: 'adamw8bit', lr: 1e-3 } }],
])('ends bit-equal: %s', async (name, change) => {
  const config = tinyConfig({ ...common, ...change });
  const whole = mkdtempSync(join(home, 'whole-'));
  expect((await session(config, whole, { fault: 'count:1e9', resume: false })).events.at(-1)).toMatchObject({ type: 'finished', reason: 'completed' });
  const places = Number(readFileSync(join(home, 'count'), 'utf8'));
  const random = seededNumbers([...name].reduce((sum, each) => sum + each.charCodeAt(0), Number(process.env['DRTUNE_SEED'] ?? 0)));
  const runDir = mkdtempSync(join(home, 'killed-'));
  for (let n = 0; n < KILLS; n++) {
    const { signal, errors } = await session(config, runDir, { fault: `kill:${1 + random(Math.round(places / 2))}`, resume: n > 0 });
    expect(errors).toEqual([]);
    if (signal !== 'SIGKILL') break; // it had come to its end
    const stopped = await session(config, runDir, { stopAt: 1 + random(4) });
    expect(stopped.errors).toEqual([]);
    if (stopped.events.at(-1)?.type === 'finished' && (stopped.events.at(-1) as { reason: string }).reason === 'completed') break;
  }
  const { events, errors } = await session(config, runDir);
  expect(errors).toEqual([]);
  expect(events.at(-1)).toMatchObject({ type: 'finished', reason: 'completed' });
  expect(left(runDir)).toEqual(left(whole));
}, 120_000);
