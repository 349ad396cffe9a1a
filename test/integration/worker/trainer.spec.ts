/** The training loop on the tiny pipeline: what it says, what it leaves, and that going on equals never having stopped. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { trainerEventSchema, type TrainerEvent, type TrainerEventOf } from '../../../src-main/contract/events.ts';
import type { RunConfig } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf } from '../../../src-main/engine/tf.ts';
import { symmetryDefinition } from '../../../src-main/rewards/symmetry.ts';
import { readCheckpoint } from '../../../src-main/train/checkpoint.ts';
import { train, type TrainDeps } from '../../../src-main/train/trainer.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';
import { tinyConfig } from '../../helpers/tiny.ts';

const home = mkdtempSync(join(tmpdir(), 'drtune-trainer-'));
let engine: Engine;
let runs = 0;

beforeAll(async () => void (engine = await openEngine({ prefer: 'auto', home: process.env['DRTUNE_HOME'] ?? home })));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const newRunDir = (): string => join(home, `run-${runs++}`);

async function run(config: RunConfig, change: Partial<TrainDeps> & { stopAfter?: number } = {}): Promise<{ events: TrainerEvent[]; runDir: string; log: string[] }> {
  const events: TrainerEvent[] = [];
  const log: string[] = [];
  let clock = 0;
  const deps: TrainDeps = {
    engine, home, runDir: newRunDir(), resume: false, appVersion: 'test', now: () => (clock += 10), date: () => '2026-01-01', memoryBytes: () => 1,
    log: (line) => void log.push(line), breathe: () => Promise.resolve(), stopRequested: () => change.stopAfter !== undefined && steps(events).length >= change.stopAfter, ...change,
  };
  for await (const event of train(config, deps)) events.push(trainerEventSchema.parse(event));
  return { events, runDir: deps.runDir, log };
}

const of = <T extends TrainerEvent['type']>(events: readonly TrainerEvent[], type: T): TrainerEventOf<T>[] => events.filter((each): each is TrainerEventOf<T> => each.type === type);
const steps = (events: readonly TrainerEvent[]): TrainerEventOf<'step'>[] => of(events, 'step');
const lora = (runDir: string, step: number): Buffer => readFileSync(join(runDir, 'checkpoints', `step-${String(step).padStart(6, '0')}`, 'lora.safetensors'));

describe('a run', () => {
  it('says everything in order, leaves pictures, checkpoints and a manifest, and no tensor', async () => {
    const before = tensorCount();
    const { events, runDir } = await run(tinyConfig());
    expect(tensorCount()).toBe(before);
    expect(of(events, 'started')[0]).toMatchObject({ iterations: 4, startIteration: 0, width: 24, height: 16 });
    expect(steps(events).map((each) => each.step)).toEqual([1, 2, 3, 4]);
    expect(of(events, 'checkpoint').map((each) => each.step)).toEqual([2, 4]);
    expect(of(events, 'finished')).toMatchObject([{ reason: 'completed', step: 4 }]);
    const images = of(events, 'image');
    expect(images.map((each) => `${each.role} ${each.step} ${each.heldOut}`)).toEqual([
      'base 0 true', 'base 0 false', 'tuned 2 true', 'tuned 2 false', 'tuned 4 true', 'tuned 4 false',
    ]);
    for (const each of images) expect(existsSync(join(runDir, each.file))).toBe(true);
    expect(new Set(images.map((each) => each.weights)).size).toBe(3);
    expect(of(events, 'sampled').map((each) => Object.keys(each.measures.rewards).sort().join())).toEqual(new Array(6).fill('brightness,symmetry'));
    const manifest = JSON.parse(readFileSync(join(runDir, 'manifest.json'), 'utf8')) as { pictures: unknown[]; inputs: Record<string, string>; config: RunConfig };
    expect(manifest.pictures).toHaveLength(6);
    expect(manifest.inputs['unet/diffusion_pytorch_model.safetensors']).toMatch(/^[0-9a-f]{64}$/);
  });

  it('raises its reward', async () => {
    const { events } = await run(tinyConfig({ iterations: 30, sampleEvery: 0, checkpointEvery: 0, samplePrompts: 1, batch: 3, optimizer: { lr: 2e-2 } }));
    const rewards = steps(events).map((each) => each.reward);
    const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    expect(mean(rewards.slice(-6))).toBeGreaterThan(mean(rewards.slice(0, 6)));
  });

  it('is the same twice', async () => {
    const [a, b] = [await run(tinyConfig()), await run(tinyConfig())];
    expect(lora(a.runDir, 4).equals(lora(b.runDir, 4))).toBe(true);
    expect(steps(a.events).map((each) => each.reward)).toEqual(steps(b.events).map((each) => each.reward));
  });

  it('paints the base with the adapter off at step 0, equal to what a fresh adapter gives', async () => {
    const { events } = await run(tinyConfig({ iterations: 1, optimizer: { lr: 1e-12, weightDecay: 0 }, sampleEvery: 1 }));
    const [base, tuned] = (['base', 'tuned'] as const).map((role) => of(events, 'image').filter((each) => each.role === role).map((each) => each.rewards['symmetry']!));
    base!.forEach((value, i) => expect(tuned![i]).toBeCloseTo(value, 5));
  });
});

describe('the average of the weights', () => {
  it('is what a checkpoint has as its LoRA, the trained values beside it', async () => {
    const { runDir } = await run(tinyConfig({ ema: 0.9, iterations: 3, checkpointEvery: 3, sampleEvery: 3 }));
    const folder = join(runDir, 'checkpoints/step-000003');
    const [kept, state] = [readFixture(join(folder, 'lora.safetensors')), readFixture(join(folder, 'state.safetensors'))];
    const apart = (kind: string): number => Math.max(...kept.names.map((name) => relativeL2(kept.values(name), state.values(`${kind}.${name.replace(/^unet\./, '')}`))));
    expect(apart('average')).toBe(0);
    expect(apart('value')).toBeGreaterThan(1e-2);
  });
});

describe('a run that goes on', () => {
  const config = tinyConfig({ ema: 0.9, kl: 0.1, accumulate: 2 });

  it.each(['ddim', 'euler-a'] as const)('equals one that was never interrupted, bit for bit: %s', async (scheduler) => {
    const config = tinyConfig({ ema: 0.9, kl: 0.1, accumulate: 2, scheduler });
    const whole = await run(config);
    const stopped = await run(config, { stopAfter: 3 });
    expect(of(stopped.events, 'finished')[0]).toMatchObject({ reason: 'stopped', step: 3 });
    const { events, runDir } = await run(config, { runDir: stopped.runDir, resume: true });
    expect(of(events, 'started')[0]!.startIteration).toBe(3);
    expect(of(events, 'image').filter((each) => each.role === 'base')).toEqual([]);
    expect(lora(runDir, 4).equals(lora(whole.runDir, 4))).toBe(true);
    expect(steps(events).map((each) => each.reward)).toEqual(steps(whole.events).slice(3).map((each) => each.reward));
  });

  it('passes over a damaged checkpoint and takes the one before', async () => {
    const { runDir } = await run(config);
    truncateSync(join(runDir, 'checkpoints/step-000004/state.safetensors'), 100);
    const { events, log } = await run(config, { runDir, resume: true });
    expect(of(events, 'started')[0]!.startIteration).toBe(2);
    expect(log.join()).toMatch(/step-000004 cannot be used: state.safetensors has changed/);
    expect(of(events, 'finished')[0]!.reason).toBe('completed');
  });

  it('says so when no checkpoint can be used', async () => {
    const { runDir } = await run(config);
    for (const name of readdirSync(join(runDir, 'checkpoints'))) writeFileSync(join(runDir, 'checkpoints', name, 'checkpoint.json'), '{');
    await expect(run(config, { runDir, resume: true })).rejects.toThrow(/None of the 2 checkpoints/);
  });

  it('keeps the LoRA of every checkpoint and the state of the last two', async () => {
    const { runDir } = await run(tinyConfig({ checkpointEvery: 1 }));
    const files = readdirSync(join(runDir, 'checkpoints')).sort().map((name) => readdirSync(join(runDir, 'checkpoints', name)).includes('state.safetensors'));
    expect(files).toEqual([false, false, true, true]);
    expect(() => readCheckpoint(join(runDir, 'checkpoints/step-000001'), { names: [], shapes: [], slots: {}, codes: {} })).toThrow(/state.safetensors is missing/);
  });
});

describe('a run that goes wrong', () => {
  it('leaves out steps whose reward is not a number, names the reward, and gives up after five', async () => {
    const reward = await symmetryDefinition.open(engine, {});
    const score = reward.score;
    (reward as { score: typeof score }).score = (images) => tf.tidy(() => tf.mul(score(images, []), Number.NaN));
    try {
      const { events, runDir } = await run(tinyConfig({ iterations: 9, samplePrompts: 0 }));
      expect(steps(events).map((each) => [each.skipped, each.terms])).toEqual(new Array(5).fill([true, {}]));
      expect(of(events, 'alarm')[0]!.message).toBe('Step 1 was left out: the reward symmetry is not a number.');
      expect(of(events, 'finished')[0]).toMatchObject({ reason: 'failed', step: 5, message: '5 steps in a row were not finite: the reward symmetry is not a number.' });
      expect(existsSync(join(runDir, 'manifest.json'))).toBe(true);
    } finally {
      (reward as { score: typeof score }).score = score;
    }
  });

  it('fails rather than call an unchanged LoRA finished', async () => {
    const config = tinyConfig({ iterations: 1, samplePrompts: 0, optimizer: { lr: 1e-300, weightDecay: 0 } });
    await expect(run(config)).rejects.toThrow(/changed nothing/);
  });

  it('refuses a truncated weights file in one line and leaves no tensor', async () => {
    const folder = join(home, 'truncated');
    cpSync(tinyConfig().model, folder, { recursive: true });
    truncateSync(join(folder, 'unet/diffusion_pytorch_model.safetensors'), 1000);
    const before = tensorCount();
    await expect(run(tinyConfig({ model: folder }))).rejects.toThrow(/truncated/);
    expect(tensorCount()).toBe(before);
  });

  it.each([
    [{ model: 'nothing-here' }, /no model "nothing-here"/],
    [{ algorithm: 'refl' as const }, /refl trains the step at which sampling stops early, and earlyStop is 0/],
    [{ algorithm: 'draft-k' as const, earlyStop: 2 }, /earlyStop is 2, but the algorithm draft-k samples to the end/],
    [{ rewards: [{ name: 'pickscore' }] }, /pickscore needs a model of its own/],
    [{ width: 25 }, /25/],
    [{ prompts: '/no/such/file.txt' }, /file of prompts/],
    [{ trainedStepList: [9] }, /step 9, but there are 3/],
    [{ lora: { targets: ['nowhere'] } }, /No linear layer or convolution of .* ends in nowhere/],
    [{ scheduler: 'lcm' as const, steps: 60 }, /60; this sampler has 50 at most/],
  ])('refuses %j', async (change, words) => {
    await expect(run(tinyConfig(change))).rejects.toThrow(words);
  });
});
