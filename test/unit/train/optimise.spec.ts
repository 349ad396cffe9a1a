import { describe, expect, it } from 'vitest';
import { adamWStep, clipGradNorm, newState } from '../../../src-main/train/adamw.ts';
import { findAlarms, newAlarms } from '../../../src-main/train/alarms.ts';
import { updateAverage } from '../../../src-main/train/ema.ts';
import { lrFactor } from '../../../src-main/train/lr-schedule.ts';

/**
 * torch.optim.AdamW(lr=.03, betas=(.8, .95), eps=1e-3, weight_decay=.1), torch 2.15, from p = [1,-2,.5] and [.1,3]; gradient of
 * value i of p_k at step n: p * (1 if k == 0 else -.3) + sin(n + i + k).
 */
const TORCH = [0.721317708492279, -1.6560566425323486, 0.3252320885658264, 0.0037869499064981937, 3.1002845764160156];

describe('AdamW', () => {
  it('equals torch over ten steps', () => {
    const parameters = [Float32Array.from([1, -2, 0.5]), Float32Array.from([0.1, 3])];
    const state = newState(parameters);
    for (let n = 0; n < 10; n++) {
      const gradients = parameters.map((p, k) => p.map((value, i) => value * (k === 0 ? 1 : -0.3) + Math.sin(n + i + k)));
      adamWStep(parameters, gradients, state, 0.03, { weightDecay: 0.1, betas: [0.8, 0.95], eps: 1e-3 });
    }
    expect(state.step).toBe(10);
    [...parameters[0]!, ...parameters[1]!].forEach((value, i) => expect(value).toBeCloseTo(TORCH[i]!, 5));
  });
});

describe('clipping', () => {
  it('scales all gradients by one factor and reports the norm before', () => {
    const gradients = [Float32Array.from([3, 0]), Float32Array.from([4])];
    expect(clipGradNorm(gradients, 1)).toBeCloseTo(5, 6);
    expect(gradients[0]![0]).toBeCloseTo(0.6, 5);
    expect(gradients[1]![0]).toBeCloseTo(0.8, 5);
    expect(clipGradNorm(gradients, 0)).toBeCloseTo(1, 5);
    expect(clipGradNorm([Float32Array.from([Number.NaN])], 1)).toBeNaN();
  });
});

describe('the learning rate', () => {
  it('warms up, then follows its kind', () => {
    const at = (kind: 'constant' | 'linear' | 'cosine', i: number) => lrFactor({ kind, warmup: 3 }, i, 13);
    expect([0, 1, 2, 3, 12].map((i) => at('constant', i))).toEqual([0.25, 0.5, 0.75, 1, 1]);
    expect(at('linear', 8)).toBeCloseTo(0.5, 6);
    expect(at('cosine', 8)).toBeCloseTo(0.5, 6);
    expect(at('cosine', 12)).toBeGreaterThan(0);
  });
});

describe('the average', () => {
  it('follows quickly at first, slowly later', () => {
    const average = [Float32Array.from([0])];
    updateAverage(average, [Float32Array.from([1])], 0.99, 0);
    expect(average[0]![0]).toBeCloseTo(0.9, 6);
    updateAverage(average, [Float32Array.from([0])], 0.5, 1000);
    expect(average[0]![0]).toBeCloseTo(0.45, 6);
  });
});

describe('alarms', () => {
  const base = { rewards: { clipscore: 0.5 }, edgeDensity: 0.04, saturation: 0.3, contrast: 0.2, colorEntropy: 3 };

  it('are silent while the pictures keep their character', () => {
    expect(findAlarms(5, { base, tuned: base, heldOutRewards: ['clipscore'] })).toEqual([]);
  });

  it('name collapse, garish colours and a falling held-out reward, each once until it ends', () => {
    const tuned = { ...base, rewards: { clipscore: 0.4 }, edgeDensity: 0.01, saturation: 0.6 };
    const found = findAlarms(5, { base, tuned, heldOutRewards: ['clipscore'] });
    expect(found.map((each) => each.kind)).toEqual(['collapse', 'saturation', 'held-out:clipscore']);
    expect(found[0]!.message).toContain('25 %');
    const on = new Set<string>();
    expect(newAlarms(found, on)).toHaveLength(3);
    expect(newAlarms(found, on)).toHaveLength(0);
    newAlarms([], on);
    expect(newAlarms(found, on)).toHaveLength(3);
  });
});
