import { beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { findLibraries } from '../../../src-main/engine/engine-folder.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { readFloats, readFloatsSync, scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor } from '../../../src-main/engine/tf.ts';

const found = findLibraries(drtuneHome());
const present = found.folder !== undefined;
if (!present) console.warn(`SKIPPED: the tensorflow engine (${found.why})`);

describe.skipIf(!present)('the tensorflow engine', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ prefer: 'tensorflow', home: drtuneHome() });
  });

  it('says what it is', () => {
    expect(engine).toMatchObject({ name: 'tensorflow', version: '2.21.0', why: 'chosen by name' });
    expect(engine.device).toMatch(/^CPU, \d+ cores?$/);
    expect(tf.getBackend()).toBe('tensorflow');
  });

  it.each<{ dtype: 'float32' | 'int32' | 'bool'; values: number[] | boolean[] }>([
    { dtype: 'float32', values: [1.5, -0.25, Infinity, 2 ** 127] },
    { dtype: 'int32', values: [1, -2, 2147483647, -2147483648] },
    { dtype: 'bool', values: [true, false, true] },
  ])('keeps $dtype values through an operation', ({ dtype, values }) => {
    scope(() => {
      const copy = tf.reshape(tf.tensor1d(values as number[], dtype), [1, values.length]);
      expect([...copy.dataSync()]).toEqual(values.map(Number));
      expect(copy.dtype).toBe(dtype);
    });
  });

  it('keeps complex numbers, empty tensors and scalars', () => {
    scope(() => {
      const z = tf.complex([1, 2], [3, -4]);
      expect([...tf.real(z).dataSync()]).toEqual([1, 2]);
      expect([...tf.imag(z).dataSync()]).toEqual([3, -4]);
      const empty = tf.add(tf.zeros([0, 3]), 1);
      expect({ shape: empty.shape, length: empty.dataSync().length }).toEqual({ shape: [0, 3], length: 0 });
      expect(tf.add(tf.scalar(2), tf.scalar(3)).dataSync()[0]).toBe(5);
    });
  });

  it('reads copies: changing them changes no tensor', async () => {
    const x = scope(() => tf.add(tf.ones([3]), 1));
    readFloatsSync(x)[0] = 9;
    expect([...(await readFloats(x))]).toEqual([2, 2, 2]);
    x.dispose();
  });

  it('counts bytes and frees them', () => {
    const { bytes } = engine.memory();
    const tensors = tensorCount();
    const x = scope(() => tf.add(tf.ones([256, 256]), 1));
    expect(engine.memory().bytes - bytes).toBeGreaterThanOrEqual(256 * 256 * 4);
    x.dispose();
    scope(() => {
      for (let i = 0; i < 50; i++) tf.matMul(tf.ones([32, 32]), tf.randomNormal([32, 32]));
    });
    expect(engine.memory().bytes).toBe(bytes);
    expect(tensorCount()).toBe(tensors);
  });

  it('does not grow with use', () => {
    const run = (count: number): void =>
      scope(() => {
        const x = tf.ones([128, 128]); // 64 kB
        for (let i = 0; i < count; i++) {
          const y = tf.mul(x, 2);
          if (i % 10 === 0) y.dataSync();
          y.dispose();
        }
      });
    run(3000);
    const before = process.memoryUsage().rss;
    run(10_000); // 650 MB if each result leaked
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  });

  it('says that memory ran out (TensorFlow tries for ten seconds), and works on', () => {
    scope(() => {
      expect(() => tf.fill([400_000, 400_000], 1)).toThrow(expect.objectContaining({ code: 'engine', message: expect.stringContaining('ran out of memory') }));
      expect(tf.add(1, 1).dataSync()[0]).toBe(2);
    });
  });

  it('passes on what TensorFlow says of a wrong operation', () => {
    scope(() => {
      const run = (): Tensor => tf.engine().runKernel('Multiply', { a: tf.ones([2, 3]), b: tf.ones([4, 5]) }) as Tensor;
      expect(run).toThrow(/TensorFlow: Mul.*Incompatible shapes/s);
      expect(() => tf.gather(tf.ones([3, 2]), tf.tensor1d([5], 'int32'))).toThrow(/indices/);
    });
  });

  it('refuses to become another engine in the same process', async () => {
    await expect(openEngine({ prefer: 'wasm', home: drtuneHome() })).rejects.toMatchObject({ code: 'engine', message: expect.stringContaining('cannot change to wasm') });
    expect(await openEngine({ prefer: 'auto', home: drtuneHome() })).toBe(engine);
  });
});
