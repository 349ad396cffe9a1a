/** The best checkpoint on the run page, and the weighted sum as the trainer counts it. */
import { describe, expect, it } from 'vitest';
import { config, detail } from '../../../src-renderer/dev/mock-data.ts';
import { weightedReward } from '../../../src-renderer/stores/apply-run-event.ts';
import { bestCheckpoint, gentler, spreadsOf } from '../../../src-renderer/stores/run-best.ts';

describe('the best checkpoint', () => {
  it('is the one with the highest held-out reward that has a checkpoint, before a scored reward fell', () => {
    const run = detail('r', 'A run', 'finished', { config: config({ heldOutRewards: [{ name: 'colorfulness', weight: 1 }], iterations: 60 }) });
    const measured = (reward: (step: number) => number, colorfulness: (step: number) => number) => ({
      ...run, samples: run.samples.map((row) => ({ ...row, measures: { ...row.measures, reward: reward(row.step), rewards: { ...row.measures.rewards, colorfulness: colorfulness(row.step) } } })),
    });
    expect(run.checkpoints.map((each) => each.step)).toEqual([20, 40, 60]);
    expect(bestCheckpoint(measured((step) => step, () => 1))?.step).toBe(60);
    expect(bestCheckpoint(measured((step) => step, (step) => (step > 40 ? 0.5 : 1)))?.step).toBe(40);
    expect(bestCheckpoint(measured((step) => -step, () => 1))?.step).toBe(20);
    expect(bestCheckpoint({ ...run, checkpoints: [] })).toBeNull();
    expect(spreadsOf(run)).toEqual({});
  });

  it('is gone on from with its weights and gentler settings', () => {
    const before = config();
    const from = (change = {}, file?: string) => gentler({ config: { ...before, ...change }, alarms: [] }, file);
    const after = from({}, '/runs/r/lora.safetensors');
    expect(after).toMatchObject({ lora: { initFile: '/runs/r/lora.safetensors', rank: before.lora.rank }, optimizer: { lr: before.optimizer.lr / 2 }, kl: 0.1 });
    expect(from({ kl: 0.5 }).kl).toBe(1);
    expect(from({ lora: { ...before.lora, alpha: 4, rankStabilized: true } }, 'x').lora).not.toHaveProperty('alpha');
    expect(from()).toEqual({ ...before, optimizer: { ...before.optimizer, lr: before.optimizer.lr / 2 }, kl: 0.1 });
  });

  it('is gone on from with what the alarms advise: a crop against texture, a held-out reward that fell is trained', () => {
    const before = config({ rewards: [{ name: 'sharpness', weight: 1 }], heldOutRewards: [{ name: 'clipscore', weight: 0.5 }, { name: 'brightness', weight: 1 }] });
    const alarms = ['noise', 'held-out:clipscore', 'saturation'].map((kind) => ({ step: 5, kind, message: '', remedy: '' }));
    expect(gentler({ config: before, alarms })).toMatchObject({ augment: { crop: 8 }, rewards: [{ name: 'sharpness' }, { name: 'clipscore', weight: 0.5 }], heldOutRewards: [{ name: 'brightness' }] });
    expect(gentler({ config: { ...before, augment: { crop: 20 } }, alarms }).augment.crop).toBe(20);
  });
});

describe('the weighted sum', () => {
  it('divides by spreads, leaves out terms of other prompts, and knows a second term of a reward', () => {
    const mix = { rewards: [{ name: 'a', weight: 2 }, { name: 'a', weight: 1, target: 0.5 }, { name: 'b', weight: 1, prompts: 'cat' }] };
    expect(weightedReward(mix, { a: 1, 'a#2': 0.9 }, { prompt: 'a dog', spread: { a: 4 } })).toBeCloseTo(1);
    expect(weightedReward(mix, { a: 1, 'a#2': 0.9, b: 3 }, { prompt: 'a cat' })).toBeCloseTo(5.5);
    expect(weightedReward(mix, { a: 1, 'a#2': 0.9 }, { prompt: 'a cat' })).toBeUndefined();
  });
});
