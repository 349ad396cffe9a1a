import { availableParallelism } from 'node:os';
import { beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { findLibraries } from '../../../src-main/engine/engine-folder.ts';
import type { BlockFunction, Engine } from '../../../src-main/engine/engine.ts';
import { traceInLanes } from '../../../src-main/engine/lanes.ts';
import { linear } from '../../../src-main/engine/ops.ts';
import { readFloatsSync, scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor } from '../../../src-main/engine/tf.ts';

const present = findLibraries(drtuneHome()).folder !== undefined;
if (!present) console.warn('SKIPPED: batches in lanes (no TensorFlow engine here)');

type Weights = { up: Tensor; bias: Tensor };
type Inputs = { x: Tensor; perHead: Tensor };

/** x [B, 5] through a layer with LoRA, times the mean of the two rows that perHead [2 B, 5] has of each. */
const block: BlockFunction<Weights, { a: Tensor; b: Tensor }, Inputs> = (w, { a, b }, { x, perHead }) => {
  const heads = tf.mean(tf.reshape(perHead, [x.shape[0]!, 2, 5]), 1);
  return tf.mul(tf.tanh(tf.add(linear(x, w.up, w.bias), tf.matMul(tf.matMul(x as never, a, false, true), b, false, true))), heads);
};

const ramp = (shape: number[], phase: number): Tensor => tf.tensor(Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 0.7 + phase)), shape);

describe.skipIf(!present)('a block traced in lanes', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ prefer: 'tensorflow', home: drtuneHome() });
    engine.beSmall();
  });

  it('has one for each core', () => {
    expect(engine.lanes()).toBe(availableParallelism());
    tf.tensor([1]).square().dataSync();
    engine.beSmall(); // too late, and no harm
    expect(engine.lanes()).toBe(availableParallelism());
  });

  it.each([1, 2, 3, 7])('equals the block itself for a batch of %i: value, gradients of adapter and inputs', (B) => {
    const before = tensorCount();
    scope(() => {
      const weights = { up: ramp([5, 5], 1), bias: ramp([5], 2) };
      const [a, b, x, perHead] = [ramp([2, 5], 3), ramp([5, 2], 4), ramp([B, 5], 5), ramp([2 * B, 5], 6)];
      const numbers = (f: typeof block): number[] => [
        f(weights, { a, b }, { x, perHead }),
        ...tf.grads((...[p, q, r, s]: Tensor[]) => tf.sum(tf.square(f(weights, { a: p!, b: q! }, { x: r!, perHead: s! }))))([a, b, x, perHead]),
      ].flatMap((each) => [...readFloatsSync(each)]);
      const [found, expected] = [numbers(traceInLanes(engine, 'block', block)), numbers(block)];
      expect(found).toHaveLength(expected.length);
      found.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
    });
    expect(tensorCount()).toBe(before);
  });
});
