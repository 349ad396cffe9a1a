import { afterAll, beforeAll, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import type { Padding2D } from '../../../src-main/engine/convolution.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { conv2d } from '../../../src-main/engine/ops.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor, type Tensor4D } from '../../../src-main/engine/tf.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ home: drtuneHome() });
});
afterAll(() => engine.dispose());

/** Few pixels and many channels: a product of matrices on TensorFlow, forward and backward; the last but one only backward, the last neither. */
it.each<[x: number[], kernel: number[], outSize: number, padding: Padding2D]>([
  [[1, 2, 3, 5], [3, 3], 24, [[1, 1], [1, 1]]],
  [[2, 3, 2, 4], [3, 2], 96, [[0, 1], [2, 0]]],
  [[2, 4, 1, 3], [2, 1], 64, [[0, 0], [0, 0]]],
  [[1, 5, 4, 2], [3, 5], 80, [[3, 2], [4, 4]]],
  [[1, 4, 4, 2], [3, 3], 40, [[1, 1], [1, 1]]],
  [[1, 4, 4, 2], [3, 3], 31, [[1, 1], [1, 1]]],
])('a convolution of few pixels is the convolution: x %s, filter %s to %s, padding %s', (shape, kernel, outSize, padding) => {
  const [x, w] = [tf.randomNormal(shape, 0, 1, 'float32', 1), tf.randomNormal([...kernel, shape[3]!, outSize], 0, 1, 'float32', 2)];
  const plain = (a: Tensor): Tensor => tf.conv2d(a as Tensor4D, w as Tensor4D, 1, [[0, 0], [...padding[0]], [...padding[1]], [0, 0]]);
  const own = (a: Tensor): Tensor => conv2d(a, w, undefined, 1, padding);
  const dy = tf.randomNormal(plain(x).shape, 0, 1, 'float32', 3);
  const size = (t: Tensor): number => tf.norm(t).dataSync()[0]!;
  for (const [a, b] of [[own(x), plain(x)], [tf.grad(own)(x, dy), tf.grad(plain)(x, dy)]] as const) {
    expect(a.shape).toEqual(b.shape);
    expect(size(tf.sub(a, b)) / size(b)).toBeLessThan(1e-5);
  }
  tf.dispose([x, w, dy]);
});
