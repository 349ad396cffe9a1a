import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { OPTIMIZERS, optimizerSchema, type OptimizerConfig } from '../../../src-main/contract/run.ts';
import { bestStep, watchedNames } from '../../../src-main/contract/best.ts';
import { findAlarms, newAlarms } from '../../../src-main/train/alarms.ts';
import { updateAverage } from '../../../src-main/train/ema.ts';
import { clipGradNorm } from '../../../src-main/train/gradient-norm.ts';
import { openOptimizer } from '../../../src-main/train/optimizers/index.ts';
import { slotShapes } from '../../../src-main/train/optimizers/optimizer.ts';
import { relativeL2 } from '../../helpers/fixture.ts';
import { lrFactor } from '../../../src-main/train/lr-schedule.ts';

describe('an optimiser', () => {
  const golden = JSON.parse(readFileSync(join(import.meta.dirname, '../../golden/optimizers/optimizers.json'), 'utf8')) as {
    cases: Record<string, { config: Partial<OptimizerConfig>; lr: number[]; start: number[][]; values: number[][] }>;
  };
  const shapes: [number, number][] = [[3, 5], [4, 2]];
  const gradientsAt = (parameters: readonly Float32Array[], n: number): Float32Array[] =>
    parameters.map((p, k) => p.map((value, i) => (-0.3) ** k * value + Math.sin(n + 1.7 * i + k)));

  it.each(Object.entries(golden.cases))('equals its reference implementation: %s', (_, { config, lr, start, values }) => {
    const optimizer = openOptimizer(optimizerSchema.parse(config), shapes);
    const parameters = start.map((each) => Float32Array.from(each));
    const state = optimizer.start(parameters);
    for (const [n, rate] of lr.entries()) {
      optimizer.step(parameters, gradientsAt(parameters, n), state, rate);
      if (n % 10 === 9) expect(relativeL2(parameters.flatMap((each) => [...each]), values[(n - 9) / 10]!), `step ${n + 1}`).toBeLessThan(2e-5);
    }
    expect(state.step).toBe(lr.length);
  });

  it('has a case for every name, and a state of the shapes it states', () => {
    expect(new Set([...Object.values(golden.cases).map(({ config }) => config.kind), 'adamw8bit'])).toEqual(new Set(OPTIMIZERS)); // adamw-8bit.spec.ts
    for (const kind of OPTIMIZERS) {
      const optimizer = openOptimizer(optimizerSchema.parse({ kind }), shapes);
      const { slots } = optimizer.start(shapes.map(([rows, columns]) => new Float32Array(rows * columns)));
      const stated = slotShapes(optimizer, shapes);
      expect(Object.keys(slots)).toEqual(Object.keys(stated));
      for (const [slot, arrays] of Object.entries(slots)) arrays.forEach((array, k) => expect(array.length).toBe(stated[slot]![k]!.reduce((a, b) => a * b, 1)));
    }
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

  it('name noise, lost colours, seeds that make no difference and pictures that left the base; the remedy names the best checkpoint', () => {
    const before = { ...base, diversity: 0.1 };
    const tuned = { ...base, edgeDensity: 0.15, colorEntropy: 1.2, diversity: 0.03, baseDistance: 0.2 };
    const found = findAlarms(40, { base: before, tuned, heldOutRewards: [], best: 20 });
    expect(found.map((each) => each.kind)).toEqual(['noise', 'entropy', 'diversity', 'distance']);
    expect(found[2]!.message).toContain('30 %');
    expect(found[3]!.message).toContain('2.0 times');
    for (const { remedy, message } of found) {
      expect(remedy).toMatch(/^Stop and go back to step 20, the best by what is held out/);
      expect(`${message}${remedy}`).not.toContain('\n');
    }
    expect(findAlarms(40, { base: before, tuned: { ...before, baseDistance: 0.12 }, heldOutRewards: [] })).toEqual([]);
  });
});

describe('the best checkpoint', () => {
  const point = (step: number, reward: number | undefined, clipscore: number) => ({ step, measures: { rewards: { clipscore }, reward, edgeDensity: 0, saturation: 0, contrast: 0, colorEntropy: 0 } });
  const base = point(0, 0, 0.8).measures;

  it('has the highest reward on held-out prompts before a held-out reward fell', () => {
    const points = [point(10, 0.2, 0.81), point(20, 0.4, 0.75), point(30, 0.9, 0.6), point(40, 0.3, 0.79)];
    expect(bestStep(points, base, ['clipscore'])).toBe(20);
    expect(bestStep(points, base, [])).toBe(30);
    expect(bestStep([...points, point(50, 0.4, 0.8)], base, ['clipscore'])).toBe(50);
  });

  it('is where the held-out rewards fell least, if they fell everywhere; none where nothing is known', () => {
    expect(bestStep([point(10, 0.2, 0.5), point(20, 0.9, 0.4)], base, ['clipscore'])).toBe(10);
    expect(bestStep([], base, ['clipscore'])).toBeNull();
    expect(bestStep([point(10, undefined, 0.8)], base, ['clipscore'])).toBeNull();
  });

  it('looks at rewards that are watched and not trained', () => {
    expect(watchedNames({ rewards: [{ name: 'a', weight: 1 }], heldOutRewards: [{ name: 'a', weight: 1 }, { name: 'b', weight: 1 }] })).toEqual(['b']);
  });
});
