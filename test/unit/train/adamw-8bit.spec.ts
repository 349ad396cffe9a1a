/** AdamW with moments in 8 bits, held to bitsandbytes' own; and what it costs against 32 bits. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { optimizerSchema } from '../../../src-main/contract/run.ts';
import { dynamicMap } from '../../../src-main/train/optimizers/adamw-8bit.ts';
import { openOptimizer } from '../../../src-main/train/optimizers/index.ts';
import { stateBytes, type Shape } from '../../../src-main/train/optimizers/optimizer.ts';
import { relativeL2 } from '../../helpers/fixture.ts';

interface At { values: number[][]; mean8: number[][]; square8: number[][]; meanScale: number[][]; squareScale: number[][] }
const golden = JSON.parse(readFileSync(join(import.meta.dirname, '../../golden/optimizers/adamw-8bit.json'), 'utf8')) as { maps: [number[], number[]]; lr: number[]; steps: Record<string, At> };
const shapes: Shape[] = [[64, 96], [65, 71], [4, 2]];
const some = (array: ArrayLike<number>): number[] => Array.from(array).filter((_, i) => i % 37 === 0);

describe('AdamW with 8-bit states', () => {
  it('has the maps of bitsandbytes', () => {
    for (const [i, signed] of [true, false].entries()) {
      const map = dynamicMap(signed);
      expect(map).toHaveLength(256);
      golden.maps[i]!.forEach((value, k) => expect(Math.abs(map[k]! - value), `${signed} ${k}`).toBeLessThanOrEqual(2e-7 * Math.abs(value))); // a last bit: torch's linspace adds from both ends
    }
  });

  it('makes the updates of bitsandbytes: the same codes, the same values', () => {
    const optimizer = openOptimizer(optimizerSchema.parse({ kind: 'adamw8bit', betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.05 }), shapes);
    const parameters = shapes.map(([rows, columns], k) => Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(Math.fround(i * Math.fround(0.7))) * [0.1, 0, 1][k]!));
    const state = optimizer.start(parameters);
    for (const [n, lr] of golden.lr.entries()) {
      const gradients = parameters.map((p, k) => p.map((value, i) => (-0.3) ** k * value + 10 ** (-3 * (i % 3)) * Math.sin(n + 1.7 * i + k)));
      optimizer.step(parameters, gradients, state, lr);
      const at = golden.steps[n + 1];
      if (!at) continue;
      let other = 0;
      for (const name of ['mean8', 'square8'] as const) {
        for (const k of [0, 1]) some(state.codes![name]![k]!).forEach((code, i) => {
          other += Number(code !== at[name][k]![i]);
          expect(Math.abs(code - at[name][k]![i]!), `${name} ${k} at ${i}, step ${n + 1}`).toBeLessThanOrEqual(1);
        });
      }
      expect(other, `step ${n + 1}`).toBeLessThanOrEqual(2); // a value between two places, rounded in double there and in float here
      for (const name of ['meanScale', 'squareScale'] as const) for (const k of [0, 1]) expect(relativeL2(some(state.slots[name]![k]!), at[name][k]!), name).toBeLessThan(1e-5);
      parameters.forEach((p, k) => expect(relativeL2(some(p), at.values[k]!), `value ${k}, step ${n + 1}`).toBeLessThan(1e-5));
    }
  });

  it('keeps a quarter of the state', () => {
    const bytes = (kind: 'adamw' | 'adamw8bit'): number => stateBytes(openOptimizer(optimizerSchema.parse({ kind }), [[1024, 1024]]), [[1024, 1024]]);
    expect(bytes('adamw')).toBe(8 * 1024 * 1024);
    expect(bytes('adamw8bit')).toBe(2 * 1024 * 1024 + (8 * 1024 * 1024) / 256);
  });
});
