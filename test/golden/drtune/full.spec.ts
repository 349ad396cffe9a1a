/** The gradient of every weight of the UNet against PyTorch's tape. Fixture: make_full.py. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { runConfigSchema } from '../../../src-main/contract/run.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { openSession } from '../../../src-main/train/session.ts';
import { singleGradient } from '../../../src-main/train/single-gradient.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';

const here = import.meta.dirname;
const fixture = readFixture(join(here, 'full.safetensors'));
const home = mkdtempSync(join(tmpdir(), 'drtune-full-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

it.each(['fast', 'low'] as const)('every weight has the gradient that PyTorch gives it, memory %s; no tensor is left', async (memory) => {
  const engine = await openEngine({ prefer: 'auto', home: process.env['DRTUNE_HOME'] ?? home });
  const config = runConfigSchema.parse({
    model: join(here, 'pipeline'), prompts: ['a red apple', 'two blue cats'], negativePrompt: 'ugly', width: 32, height: 24, steps: 3, guidance: 3, batch: 2, seed: 5,
    trainedStepList: [1, 3], earlyStopStep: 0, rewards: [{ name: 'symmetry' }], train: 'full', memory,
  });
  const session = await openSession(config, { engine, home });
  const before = tensorCount();
  const { reward, x0, gradients } = singleGradient(session, 'replay');
  expect(reward).toBeCloseTo(fixture.values('reward')[0]!, 4);
  expect(relativeL2(tf.tidy(() => tf.transpose(x0 as Tensor4D, [0, 3, 1, 2]).dataSync()), fixture.values('x0'))).toBeLessThan(1e-4);
  expect([...gradients.keys()].sort()).toEqual(fixture.names.filter((name) => name !== 'reward' && name !== 'x0').sort());
  for (const [key, gradient] of gradients) {
    const values = gradient.dataSync() as Float32Array;
    const [norm, along] = fixture.values(key) as unknown as [number, number];
    const own = [Math.hypot(...values), values.reduce((sum, value, i) => sum + value * Math.cos(1 + i), 0)] as const;
    // A bias before a norm of one channel a group has no gradient but rounding.
    expect(Math.abs(own[0] - norm), `${key}: ${own[0]}, ${norm}`).toBeLessThan(1e-3 * norm + 1e-7);
    expect(Math.abs(own[1] - along), `${key}: ${own[1]}, ${along}`).toBeLessThan(2e-3 * norm + 1e-7);
  }
  tf.dispose([x0, ...gradients.values()]);
  expect(tensorCount()).toBe(before);
  session.dispose();
});
