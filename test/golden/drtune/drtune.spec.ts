/** The DRTune gradient against PyTorch's tape, and the replay against the tape of TensorFlow.js. Fixture: make_drtune.py. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runConfigSchema } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { outputWeights } from '../../../src-main/train/drtune.ts';
import { openSession } from '../../../src-main/train/session.ts';
import { singleGradient, type SingleGradient } from '../../../src-main/train/single-gradient.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';

const here = import.meta.dirname;
const fixture = readFixture(join(here, 'cases.safetensors'));
const cases = JSON.parse(fixture.metadata['configs']!) as Record<string, Record<string, unknown>>;
const home = mkdtempSync(join(tmpdir(), 'drtune-'));
let engine: Engine;

beforeAll(async () => {
  engine = await openEngine({ prefer: 'auto', home: process.env['DRTUNE_HOME'] ?? home });
  cpSync(join(here, 'pipeline'), join(home, 'clipped'), { recursive: true });
  const file = join(home, 'clipped', 'scheduler', 'scheduler_config.json');
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), clip_sample: true }));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

async function openCase(name: string, change: Record<string, unknown> = {}) {
  const raw = cases[name]!;
  const rewards = (raw['rewards'] as { model?: string }[]).map((each) => (each.model ? { ...each, model: join(here, each.model) } : each));
  const config = runConfigSchema.parse({
    ...raw, ...change, rewards, model: name === 'clipped' ? join(home, 'clipped') : join(here, 'pipeline'),
    lora: { ...(raw['lora'] as object), initFile: join(here, 'lora.safetensors') },
  });
  return openSession(config, { engine, home });
}

function free(result: SingleGradient): void {
  tf.dispose([result.x0, ...result.gradients.values()]);
}

const nchw = (x: Tensor4D): Float32Array => tf.tidy(() => tf.transpose(x, [0, 3, 1, 2]).dataSync() as Float32Array);

describe.each(Object.keys(cases))('case %s', (name) => {
  it('replay equals PyTorch: reward, x0 and the gradient of every parameter', async () => {
    const session = await openCase(name);
    const result = singleGradient(session, 'replay');
    expect(result.reward).toBeCloseTo(fixture.values(`${name}/reward`)[0]!, 4);
    expect(relativeL2(nchw(result.x0), fixture.values(`${name}/x0`))).toBeLessThan(1e-4);
    const expected = fixture.names.filter((each) => each.startsWith(`${name}/unet.`));
    expect([...result.gradients.keys()].map((each) => `${name}/unet.${each}`).sort()).toEqual([...expected].sort());
    for (const [key, gradient] of result.gradients) {
      expect(relativeL2(gradient.dataSync(), fixture.values(`${name}/unet.${key}`)), key).toBeLessThan(1e-3);
    }
    free(result);
    session.dispose();
  });

  it('replay equals the full tape, and neither leaves a tensor behind', async () => {
    const session = await openCase(name);
    free(singleGradient(session, 'replay')); // opens what is opened lazily
    const before = tensorCount();
    const [replay, tape] = [singleGradient(session, 'replay'), singleGradient(session, 'full-tape')];
    expect(replay.reward).toBeCloseTo(tape.reward, 5);
    expect(replay.kl).toBeCloseTo(tape.kl, 5);
    for (const [key, gradient] of replay.gradients) expect(relativeL2(gradient.dataSync(), tape.gradients.get(key)!.dataSync()), key).toBeLessThan(1e-4);
    free(replay);
    free(tape);
    expect(tensorCount()).toBe(before);
    session.dispose();
  });
});

describe('the replay', () => {
  it('does not depend on how many pictures go through the VAE at once', async () => {
    const [low, fast] = [await openCase('clip-and-kl', { memory: 'low' }), await openCase('clip-and-kl', { memory: 'fast' })];
    const [a, b] = [singleGradient(low, 'replay'), singleGradient(fast, 'replay')];
    expect(a.reward).toBeCloseTo(b.reward, 5);
    for (const [key, gradient] of a.gradients) expect(relativeL2(gradient.dataSync(), b.gradients.get(key)!.dataSync()), key).toBeLessThan(1e-4);
    free(a);
    free(b);
    low.dispose();
    fast.dispose();
  });

  it('uses d x0 / d eps of DDIM: sigma(t-1) - sigma(t) times the root of the last alpha, and -sigma where it stops', async () => {
    const session = await openCase('plain');
    const scheduler = session.pipeline.scheduler('ddim', 5);
    const betas = Array.from({ length: 1000 }, (_, i) => (Math.sqrt(0.00085) + ((Math.sqrt(0.012) - Math.sqrt(0.00085)) * i) / 999) ** 2);
    const alphas: number[] = [];
    betas.forEach((beta, i) => alphas.push((alphas[i - 1] ?? 1) * (1 - beta)));
    const sigma = (t: number): number => Math.sqrt((1 - alphas[Math.max(0, t)]!) / alphas[Math.max(0, t)]!);
    const weights = outputWeights(scheduler, { trained: [1], stop: 0 });
    scheduler.timesteps.forEach((t, i) => {
      const previous = scheduler.timesteps[i + 1] ?? 0;
      expect(weights[i]! / (Math.sqrt(alphas[0]!) * (sigma(previous) - sigma(t)))).toBeCloseTo(1, 4);
    });
    expect(outputWeights(scheduler, { trained: [2], stop: 2 })[3]! / -sigma(scheduler.timesteps[3]!)).toBeCloseTo(1, 4);
    session.dispose();
  });
});
