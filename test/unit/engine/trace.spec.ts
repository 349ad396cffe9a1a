import { beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { findLibraries } from '../../../src-main/engine/engine-folder.ts';
import type { TensorFlowBinding } from '../../../src-main/engine/engines/tensorflow/binding.ts';
import type { Engine, TensorTree } from '../../../src-main/engine/engine.ts';
import { attention, layerNorm, linear, silu } from '../../../src-main/engine/ops.ts';
import { readFloatsSync, scope } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor } from '../../../src-main/engine/tf.ts';

const present = findLibraries(drtuneHome()).folder !== undefined;
if (!present) console.warn('SKIPPED: traced blocks (no TensorFlow engine here)');

type Weights = { gamma: Tensor; beta: Tensor; q: Tensor; up: { weight: Tensor; bias?: Tensor } };
type Adapter = { a: Tensor; b: Tensor };
type Inputs = { x: Tensor; context: Tensor };

/** A small transformer block with LoRA on its query. */
function block(w: Weights, { a, b }: Adapter, { x, context }: Inputs): Tensor {
  const y = layerNorm(x, w.gamma, w.beta, 1e-5);
  const query = tf.add(linear(y, w.q), linear(linear(y, a), b));
  const heads = (t: Tensor): Tensor => tf.expandDims(t, 1);
  const seen = tf.squeeze(attention(heads(query), heads(context), heads(context), 0.4), [1]);
  return tf.add(x, silu(linear(seen, w.up.weight, w.up.bias)));
}

let seed = 1;
/** Deterministic values around 0. */
function ramp(...shape: number[]): Tensor {
  const size = shape.reduce((product, dim) => product * dim, 1);
  seed += 1;
  return tf.tensor(Float32Array.from({ length: size }, (_, i) => Math.sin(i * 1.7 + seed) * 0.5), shape);
}
const makeWeights = (): Weights => ({ gamma: ramp(6), beta: ramp(6), q: ramp(6, 6), up: { weight: ramp(6, 6), bias: ramp(6) } });
const makeAdapter = (): Adapter => ({ a: ramp(2, 6), b: ramp(6, 2) });

function gradients(f: typeof block, w: Weights, l: Adapter, i: Inputs, by: (keyof Adapter | keyof Inputs)[]): Float32Array[] {
  const all = { ...l, ...i };
  const result = tf.grads((...xs: Tensor[]) => {
    const given = { ...all, ...Object.fromEntries(by.map((name, k) => [name, xs[k]!])) };
    return tf.sum(tf.square(f(w, { a: given.a, b: given.b }, { x: given.x, context: given.context })));
  })(by.map((name) => all[name]));
  return result.map(readFloatsSync);
}

function expectClose(actual: Float32Array, expected: Float32Array): void {
  const scale = Math.max(...expected.map(Math.abs));
  actual.forEach((value, i) => expect(Math.abs(value - expected[i]!) / scale).toBeLessThan(1e-5));
}

describe.skipIf(!present)('a traced block', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ prefer: 'tensorflow', home: drtuneHome() });
  });

  it.each([{ by: ['a', 'b'] }, { by: ['x'] }, { by: ['b', 'x'] }, { by: ['context'] }, { by: ['a', 'b', 'x', 'context'] }] as const)(
    'has the gradients of the plain block by $by',
    ({ by }) => {
      scope(() => {
        const [w, l, i] = [makeWeights(), makeAdapter(), { x: ramp(2, 5, 6), context: ramp(2, 3, 6) }];
        const names = [...by];
        const expected = gradients(block, w, l, i, names);
        for (const memory of ['residuals', 'recompute'] as const) {
          gradients(engine.trace('test', block, { memory }), w, l, i, names).forEach((g, k) => expectClose(g, expected[k]!));
        }
      });
    },
  );

  it('gives the plain result without a gradient, for each shape anew, with and without an optional weight', () => {
    scope(() => {
      const traced = engine.trace('test', block);
      const l = makeAdapter();
      const w = makeWeights();
      const bare = { ...w, up: { weight: w.up.weight } };
      for (const tokens of [5, 4, 5]) {
        for (const weights of [w, bare]) {
          const i = { x: ramp(2, tokens, 6), context: ramp(2, 3, 6) };
          expectClose(readFloatsSync(traced(weights, l, i)), readFloatsSync(block(weights, l, i)));
        }
      }
    });
  });

  it('chains: a gradient reaches the first of three blocks through the others', () => {
    scope(() => {
      const w = [makeWeights(), makeWeights(), makeWeights()];
      const l = [makeAdapter(), makeAdapter(), makeAdapter()];
      const [x0, context] = [ramp(2, 5, 6), ramp(2, 3, 6)];
      const all = (f: typeof block): Float32Array[] =>
        tf
          .grads((...xs: Tensor[]) => {
            let x = x0;
            w.forEach((weights, n) => (x = f(weights, { a: xs[2 * n]!, b: xs[2 * n + 1]! }, { x, context })));
            return tf.sum(x);
          })(l.flatMap(({ a, b }) => [a, b]))
          .map(readFloatsSync);
      const expected = all(block);
      all(engine.trace('chain', block)).forEach((g, k) => expectClose(g, expected[k]!));
    });
  });

  it('is differentiated by variables, as a trainer does', () => {
    scope(() => {
      const [w, start, i] = [makeWeights(), makeAdapter(), { x: ramp(2, 5, 6), context: ramp(2, 3, 6) }];
      const variables = { a: tf.variable(start.a, true, 'test.a'), b: tf.variable(start.b, true, 'test.b') };
      const run = (f: typeof block) => tf.variableGrads(() => tf.sum(tf.square(f(w, variables, i))) as never, [variables.a, variables.b]).grads;
      const [expected, actual] = [run(block), run(engine.trace('variables', block))];
      for (const name of ['test.a', 'test.b']) expectClose(readFloatsSync(actual[name]!), readFloatsSync(expected[name]!));
      for (const variable of Object.values(variables)) variable.dispose();
    });
  });

  it('can be compiled by XLA', () => {
    scope(() => {
      const [w, l, i] = [makeWeights(), makeAdapter(), { x: ramp(2, 5, 6), context: ramp(2, 3, 6) }];
      const expected = gradients(block, w, l, i, ['a', 'x']);
      gradients(engine.trace('xla', block, { xla: true }), w, l, i, ['a', 'x']).forEach((g, k) => expectClose(g, expected[k]!));
    });
  });

  it('keeps nothing for a gradient that does not pass through it', () => {
    scope(() => {
      const [w, l, i] = [makeWeights(), makeAdapter(), { x: ramp(2, 5, 6), context: ramp(2, 3, 6) }];
      const traced = engine.trace('unwanted', block);
      traced(w, l, i).dispose();
      const scale = tf.scalar(2);
      const kept = tf.grad((s: Tensor) => {
        const before = tf.memory().numTensors;
        const y = traced(w, l, i);
        expect(tf.memory().numTensors - before).toBe(1); // y alone
        return tf.sum(tf.mul(y, s));
      })(scale);
      expect(Number.isFinite(kept.dataSync()[0])).toBe(true);
    });
  });

  it('is inlined inside another traced block', () => {
    scope(() => {
      const [w, l, i] = [makeWeights(), makeAdapter(), { x: ramp(2, 5, 6), context: ramp(2, 3, 6) }];
      const inner = engine.trace('inner', block);
      const twice = engine.trace('twice', ((w_, l_, { x, context }) => inner(w_, l_, { x: inner(w_, l_, { x, context }), context })) as typeof block);
      expectClose(readFloatsSync(twice(w, l, i)), readFloatsSync(block(w, l, { x: block(w, l, i), context: i.context })));
    });
  });

  it('leaves no tensor and no byte behind', () => {
    const tensors = tf.memory().numTensors;
    const { bytes } = engine.memory();
    for (let n = 0; n < 3; n++) {
      scope(() => {
        const i = { x: ramp(2, 5, 6), context: ramp(2, 3, 6) };
        gradients(engine.trace('leak', block), makeWeights(), makeAdapter(), i, ['a', 'b', 'x']);
      });
    }
    expect({ tensors: tf.memory().numTensors, bytes: engine.memory().bytes }).toEqual({ tensors, bytes });
  });

  it('refuses a tensor that is not among its arguments, and works again afterwards', () => {
    const tensors = tf.memory().numTensors;
    scope(() => {
      for (const outside of [tf.tensor1d([1, 2, 3]), tf.add(tf.tensor1d([1, 2, 3]), 1)]) {
        const bad = engine.trace('uses an outside tensor', (_w: object, _a: object, { x }: { x: Tensor }) => tf.add(x, outside));
        expect(() => bad({}, {}, { x: tf.ones([3]) })).toThrow(/block "uses an outside tensor".*outside its arguments/);
        expect([...readFloatsSync(outside as Tensor)].length).toBe(3);
      }
      const reads = engine.trace('reads', (_w: object, _a: object, { x }: { x: Tensor }) => tf.mul(x, x.dataSync()[0]!));
      expect(() => reads({}, {}, { x: tf.ones([3]) })).toThrow(/block "reads".*may not read/);
      const good = engine.trace('good', (_w: object, _a: object, { x }: { x: Tensor }) => tf.add(x, 1));
      expect([...readFloatsSync(good({}, {}, { x: tf.ones([3]) }))]).toEqual([2, 2, 2]);
    });
    expect(tf.memory().numTensors).toBe(tensors);
  });

  it('takes integer and boolean inputs', () => {
    scope(() => {
      const pick = engine.trace('pick', (w: { table: Tensor }, _a: object, { ids, keep }: { ids: Tensor; keep: Tensor }) =>
        tf.mul(tf.gather(w.table, tf.cast(ids, 'int32') as never), tf.expandDims(tf.cast(keep, 'float32'), 1)));
      const y = pick({ table: ramp(5, 3) }, {}, { ids: tf.tensor1d([4, 0], 'int32'), keep: tf.tensor1d([true, false]) });
      expect([...readFloatsSync(y)].slice(3).map(Math.abs)).toEqual([0, 0, 0]);
      expect(y.shape).toEqual([2, 3]);
    });
  });

  it('gives a zero gradient for an input the result does not depend on', () => {
    scope(() => {
      const first = engine.trace('first', (_w: object, _a: object, { x }: { x: Tensor; unused: Tensor }) => tf.square(x));
      const [gx, gUnused] = tf.grads((x: Tensor, unused: Tensor) => tf.sum(first({}, {}, { x, unused })))([tf.ones([2]), tf.ones([3])]);
      expect([...readFloatsSync(gx!)]).toEqual([2, 2]);
      expect([...readFloatsSync(gUnused!)]).toEqual([0, 0, 0]);
    });
  });

  it('records what is computed twice once where that costs no memory, and shapes given one after another as the last', () => {
    scope(() => {
      const { binding } = tf.backend() as unknown as { binding: TensorFlowBinding };
      const recorded: number[] = [];
      const count = <T extends Tensor>(make: () => T): T => {
        const before = binding.recorder?.position ?? 0;
        const made = make();
        if (binding.recorder) recorded.push(binding.recorder.position - before);
        return made;
      };
      const twice = (_w: TensorTree, _a: TensorTree, { x }: { x: Tensor }): Tensor => {
        const centre = (): Tensor => tf.mean(tf.mul(x, 2), 0, true); // [1, 3] of [4000, 3]
        const [first, second] = [count(centre), count(centre)];
        const again = count(() => tf.reshape(tf.reshape(x, [3, 4000]), x.shape));
        return tf.add(tf.sub(x, first), tf.mul(second, tf.add(again, tf.cast(x, 'float32'))));
      };
      const inputs = { x: ramp(4000, 3) };
      expectClose(readFloatsSync(engine.trace('twice', twice)({}, {}, inputs)), readFloatsSync(twice({}, {}, inputs)));
      expect(recorded[1]).toBeLessThan(recorded[0]!); // the product anew, too large to keep; its mean not
      expect(recorded[2]).toBe(2 + 2); // two shapes and two operations, of which none is run
      const gradient = (f: typeof twice): Float32Array => readFloatsSync(tf.grad((x) => tf.sum(tf.square(f({}, {}, { x }))))(inputs.x));
      expectClose(gradient(engine.trace('twice', twice)), gradient(twice));
    });
  });

  it('takes part in gradients taken inside the backward pass of another, as checkpointing does', () => {
    scope(() => {
      const square = engine.trace('square', (_w: object, _a: object, { x }: { x: Tensor }) => tf.mul(tf.square(x), x));
      const checkpoint = tf.customGrad((...given: unknown[]) => {
        const [x, save] = given as [Tensor, (tensors: Tensor[]) => void];
        save([x]);
        return {
          value: square({}, {}, { x }),
          gradFunc: (dy: Tensor, saved: Tensor[]) => tf.grad((t: Tensor) => square({}, {}, { x: t }))(saved[0]!, dy),
        };
      });
      const g = tf.grad((x: Tensor) => tf.sum(checkpoint(checkpoint(x) as Tensor)))(tf.tensor1d([1, 2]));
      expect([...readFloatsSync(g)]).toEqual([9, 2304]); // x^9: 9 x^8
    });
  });

  it('of many layers returns all it keeps for the gradient, more than a thousand tensors', () => {
    scope(() => {
      const deep = (_w: Record<string, Tensor>, { q }: { q: Tensor }, { x }: { x: Tensor }): Tensor => Array.from({ length: 600 }).reduce<Tensor>((y) => tf.add(y, tf.mul(tf.tanh(linear(y, q)), 0.01)), x);
      const [q, x] = [ramp(6, 6), ramp(2, 6)];
      const gradient = (f: typeof deep): Float32Array => readFloatsSync(tf.grad((given: Tensor) => tf.sum(tf.square(f({}, { q: given }, { x }))))(q));
      expectClose(gradient(engine.trace('deep', deep)), gradient(deep));
    });
  });
});
