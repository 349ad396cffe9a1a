/** Short runs of the tiny pipeline with every algorithm, and with what is drawn anew in each iteration. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TrainerEvent, TrainerEventOf } from '../../../src-main/contract/events.ts';
import { ALGORITHMS, type RunConfigInput } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { disposeAdapter } from '../../../src-main/pipeline/adapter.ts';
import { readLora } from '../../../src-main/pipeline/lora-file.ts';
import { exportRunLora } from '../../../src-main/pipeline/lora/export.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import { openSafetensors } from '../../../src-main/weights/safetensors.ts';
import { train } from '../../../src-main/train/trainer.ts';
import { tinyConfig, tinyPipeline } from '../../helpers/tiny.ts';

const home = mkdtempSync(join(tmpdir(), 'drtune-algorithms-'));
let engine: Engine;
let runs = 0;

beforeAll(async () => void (engine = await openEngine({ prefer: 'auto', home: process.env['DRTUNE_HOME'] ?? home })));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const short: Partial<RunConfigInput> = { iterations: 2, samplePrompts: 1, diversitySeeds: 0, sampleEvery: 0, checkpointEvery: 1, guidance: 1 };

async function run(change: Partial<RunConfigInput>, { stopAfter = Infinity, runDir = join(home, `run-${runs++}`) } = {}) {
  const events: TrainerEvent[] = [];
  const steps = (): TrainerEventOf<'step'>[] => events.filter((each) => each.type === 'step');
  const deps = {
    engine, home, runDir, resume: stopAfter === -1, appVersion: 'test', now: () => 0, date: () => '2026-01-01', memoryBytes: () => 1,
    log: () => undefined, breathe: () => Promise.resolve(), stopRequested: () => stopAfter >= 0 && steps().length >= stopAfter,
  };
  for await (const event of train(tinyConfig({ ...short, ...change }), deps)) events.push(event);
  return { events, steps: steps(), runDir };
}

const lora = (runDir: string, step = 2): Buffer => readFileSync(join(runDir, 'checkpoints', `step-00000${step}`, 'lora.safetensors'));

describe('a short run', () => {
  it.each(ALGORITHMS)('with %s finishes, with a gradient, and leaves no tensor', async (algorithm) => {
    const before = tensorCount();
    const { events, steps } = await run({ algorithm, ...(algorithm === 'refl' && { earlyStop: 2 }) });
    expect(events.at(-1)).toMatchObject({ type: 'finished', reason: 'completed' });
    for (const { gradNorm } of steps) expect(gradNorm).toBeGreaterThan(0);
    expect(tensorCount()).toBe(before);
  });

  it('with sizes and guidance drawn in each iteration, noised again and pushed, goes on bit for bit where it stopped', async () => {
    const change: Partial<RunConfigInput> = { algorithm: 'draft-lv', renoise: 1, worstCase: 0.5, sizes: [[24, 16], [16, 24], [32, 16]], guidanceRange: [0.5, 3] };
    const whole = await run(change);
    const half = await run(change, { stopAfter: 1 });
    await run(change, { stopAfter: -1, runDir: half.runDir });
    expect(lora(half.runDir).equals(lora(whole.runDir))).toBe(true);
  });

  it('of a rank-stabilised LoRA in convolutions, ranks left out, goes on bit for bit where it stopped', async () => {
    const change: Partial<RunConfigInput> = { lora: { rank: 4, alpha: 2, rankStabilized: true, rankDropout: 0.4, targets: ['conv1', 'conv_shortcut', 'to_q', 'ff.net.2'] } };
    const whole = await run(change);
    const half = await run(change, { stopAfter: 1 });
    await run(change, { stopAfter: -1, runDir: half.runDir });
    expect(lora(half.runDir).equals(lora(whole.runDir))).toBe(true);
    using file = openSafetensors(join(whole.runDir, 'checkpoints', 'step-000002', 'lora.safetensors'));
    const [name] = [...file.entries.keys()].filter((each) => each.endsWith('conv1.lora_A.weight'));
    expect(file.entries.get(name!)!.shape).toHaveLength(4);
    const pipeline = await openPipeline(engine, tinyConfig().model);
    const adapter = readLora(join(whole.runDir, 'checkpoints', 'step-000002', 'lora.safetensors'), { targets: pipeline.loraTargets(change.lora!.targets!) });
    expect(adapter.scale).toBeCloseTo(2 / Math.sqrt(4), 6);
    disposeAdapter(adapter);
    pipeline.dispose();
  });

  it.each(['dora', 'lokr'] as const)('of a %s in convolutions too goes on bit for bit where it stopped, and is found sound', async (method) => {
    const change: Partial<RunConfigInput> = { lora: { method, rank: 2, targets: ['conv1', 'proj_in', 'to_q', 'ff.net.2'] } };
    const whole = await run(change);
    const verdict = whole.events.find((each) => each.type === 'finished')!.verdict!;
    expect(verdict.checks.filter(({ check }) => check !== 'reward').map(({ passed }) => passed)).toEqual([true, true, true, true]);
    const half = await run(change, { stopAfter: 1 });
    await run(change, { stopAfter: -1, runDir: half.runDir });
    expect(lora(half.runDir).equals(lora(whole.runDir))).toBe(true);
    const going = await run({ lora: { ...change.lora!, initFile: join(whole.runDir, 'checkpoints', 'step-000002', 'lora.safetensors') } });
    expect(going.events.at(-1)).toMatchObject({ type: 'finished', reason: 'completed' });
    await expect(run({ lora: { rank: 2, targets: change.lora!.targets!, initFile: join(whole.runDir, 'checkpoints', 'step-000002', 'lora.safetensors') } })).rejects.toThrow(`is of the method ${method}, and lora.method is lora`);
  });

  it.each(['lora', 'dora'] as const)('of a %s in the text encoders too goes on bit for bit where it stopped, and is found sound', async (method) => {
    const change: Partial<RunConfigInput> = { guidance: 2, lora: { method, rank: 2, textEncoder: true }, ema: 0.9 };
    const whole = await run(change);
    const verdict = whole.events.find((each) => each.type === 'finished')!.verdict!;
    expect(verdict.checks.filter(({ check }) => check !== 'reward').map(({ passed }) => passed)).toEqual([true, true, true, true]);
    const half = await run(change, { stopAfter: 1 });
    await run(change, { stopAfter: -1, runDir: half.runDir });
    expect(lora(half.runDir).equals(lora(whole.runDir))).toBe(true);
    using file = openSafetensors(join(whole.runDir, 'checkpoints', 'step-000002', 'lora.safetensors'));
    for (const part of ['text_encoder', 'text_encoder_2']) {
      const up = [...file.entries.keys()].filter((each) => each.startsWith(`${part}.`) && each.endsWith('up.weight'));
      expect(up.some((each) => file.readFloats(each).some((value) => value !== 0)), part).toBe(true);
    }
  });

  it('of the whole UNet goes on bit for bit where it stopped, is found sound, and is exported as a whole model alone', async () => {
    const change: Partial<RunConfigInput> = { train: 'full', optimizer: { lr: 1e-3 } };
    const whole = await run(change);
    const { verdict } = whole.events.find((each) => each.type === 'finished')!;
    expect(verdict!.checks.filter(({ check }) => check !== 'reward').map(({ passed }) => passed)).toEqual([true, true, true, true]);
    const half = await run(change, { stopAfter: 1 });
    await run(change, { stopAfter: -1, runDir: half.runDir });
    const [file, again] = [whole, half].map(({ runDir }) => join(runDir, 'checkpoints/step-000002/diffusion_pytorch_model.safetensors')) as [string, string];
    expect(readFileSync(again).equals(readFileSync(file))).toBe(true);
    const request = { model: { name: 'tiny', path: tinyPipeline }, checkpoint: file, prompt: 'a red apple', run: 'r', step: 2 };
    await expect(exportRunLora(engine, { ...request, format: 'kohya', out: join(home, 'x.safetensors') })).rejects.toThrow(/tuned the whole network, so there is no LoRA/);
    const { difference, fromBase } = await exportRunLora(engine, { ...request, format: 'merged', out: join(home, 'whole') });
    expect(difference).toBeLessThan(1e-5);
    expect(fromBase).toBeGreaterThan(1e-3);
    using merged = openSafetensors(join(home, 'whole/unet/diffusion_pytorch_model.safetensors'));
    using checkpoint = openSafetensors(file);
    for (const [key, { shape }] of merged.entries) {
      expect(checkpoint.entries.get(key)?.shape, key).toEqual(shape);
      expect(checkpoint.readFloats(key)).toEqual(merged.readFloats(key));
    }
  });

  it('that keeps its two newest checkpoints and the best tells which are left, and goes on bit for bit', async () => {
    const change: Partial<RunConfigInput> = { iterations: 5, sampleEvery: 1, keepCheckpoints: 2, optimizer: { lr: 3e-2 } };
    const whole = await run(change);
    const told = whole.events.filter((each) => each.type === 'checkpoint');
    expect(told.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
    const best = told.findLast((each) => each.best)!.step;
    const left = [...new Set([best, 4, 5])].sort();
    expect(told.at(-1)!.kept).toEqual(left);
    expect(readdirSync(join(whole.runDir, 'checkpoints')).sort()).toEqual(left.map((step) => `step-00000${step}`));
    const half = await run(change, { stopAfter: 3 });
    await run(change, { stopAfter: -1, runDir: half.runDir });
    expect(readdirSync(join(half.runDir, 'checkpoints')).sort()).toEqual(left.map((step) => `step-00000${step}`));
    expect(lora(half.runDir, 5).equals(lora(whole.runDir, 5))).toBe(true);
  });

  it('with nft learns from the true size of JPEG files, which has no gradient, and leaves no tensor', async () => {
    const before = tensorCount();
    const { events, steps } = await run({ algorithm: 'nft', rewards: [{ name: 'jpeg-size' }], batch: 4 });
    expect(events.at(-1)).toMatchObject({ type: 'finished', reason: 'completed' });
    for (const { reward, gradNorm } of steps) {
      expect(reward).toBeLessThan(-1);
      expect(gradNorm).toBeGreaterThan(0);
    }
    expect(tensorCount()).toBe(before);
  });

  it.each([
    [{ rewards: [{ name: 'jpeg-size' }] }, /"jpeg-size" has no gradient, and the algorithm drtune needs one/],
    [{ lora: { method: 'dora' as const, rankDropout: 0.5 } }, /rankDropout leaves ranks out, which the method dora does not allow/],
    [{ train: 'full' as const, lora: { textEncoder: true } }, /train is full, which tunes the UNet without a LoRA/],
    [{ lora: { factor: 4 } }, /lora.factor is of the method lokr, and lora.method is lora/],
    [{ algorithm: 'nft' as const, batch: 1 }, /nft compares the pictures of a batch, and batch is 1/],
  ])('refuses %j', async (change, words) => {
    await expect(run(change)).rejects.toThrow(words);
  });

  it.each(['adafactor', 'prodigy'] as const)('with %s goes on bit for bit where it stopped', async (kind) => {
    const change: Partial<RunConfigInput> = { iterations: 4, optimizer: { kind, lr: kind === 'prodigy' ? 1 : 1e-2 } };
    const whole = await run(change);
    const half = await run(change, { stopAfter: 2 });
    await run(change, { stopAfter: -1, runDir: half.runDir });
    expect(lora(half.runDir, 4).equals(lora(whole.runDir, 4))).toBe(true);
    expect(lora(whole.runDir, 4).equals(lora(whole.runDir, 1))).toBe(false);
  });

  it('with 8-bit states of large tensors goes on bit for bit where it stopped, and stays near 32 bits', async () => {
    const change = (kind: 'adamw' | 'adamw8bit'): Partial<RunConfigInput> => ({ iterations: 4, batch: 1, train: 'full', samplePrompts: 0, checkpointEvery: 2, optimizer: { kind, lr: 1e-3 } });
    const [exact, whole, half] = [await run(change('adamw')), await run(change('adamw8bit')), await run(change('adamw8bit'), { stopAfter: 2 })];
    await run(change('adamw8bit'), { stopAfter: -1, runDir: half.runDir });
    const weights = (runDir: string): string => join(runDir, 'checkpoints/step-000004/diffusion_pytorch_model.safetensors');
    expect(readFileSync(weights(half.runDir)).equals(readFileSync(weights(whole.runDir)))).toBe(true);
    using state = openSafetensors(join(whole.runDir, 'checkpoints/step-000004/state.safetensors'));
    const kept = [...state.entries.values()].filter(({ name, dtype }) => name.startsWith('mean8.') && dtype === 'U8');
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.every(({ name }) => !state.entries.has(name.replace('mean8.', 'mean.')))).toBe(true);
    // What 8 bits change against what the run changes.
    using base = openSafetensors(join(tinyPipeline, 'unet/diffusion_pytorch_model.safetensors'));
    using a = openSafetensors(weights(exact.runDir));
    using b = openSafetensors(weights(whole.runDir));
    let [off, way] = [0, 0];
    for (const { name } of kept) {
      const key = name.slice('mean8.'.length);
      const [from, one, other] = [base.readFloats(key), a.readFloats(key), b.readFloats(key)];
      one.forEach((value, i) => {
        off += (other[i]! - value) ** 2;
        way += (value - from[i]!) ** 2;
      });
    }
    expect(Math.sqrt(off / way)).toBeGreaterThan(0);
    expect(Math.sqrt(off / way)).toBeLessThan(0.05);
  });

  it('refuses sizes that are no multiple of the VAE\'s factor', async () => {
    await expect(run({ sizes: [[24, 16], [24, 18]] })).rejects.toThrow(/a side of sizes\[1\] is 18/);
  });
});
