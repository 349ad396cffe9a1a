/** The wasm engine's own kernels at sizes where threads share the work, against plain loops in double precision. */
import { beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { assemble, webAssembly } from '../../../src-main/engine/kernels/wasm/assembler.ts';
import { productKernels } from '../../../src-main/engine/kernels/wasm/multiply.ts';
import { conv2d, gelu, groupNorm, layerNorm, linear, quickGelu, silu } from '../../../src-main/engine/ops.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor, type Tensor4D } from '../../../src-main/engine/tf.ts';

beforeAll(async () => void (await openEngine({ prefer: 'wasm', home: drtuneHome() })));

/** Values in -1..1 without a pattern that a wrong place could hide behind. */
const wave = (shape: number[], pace: number): Tensor => tf.tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * pace + pace)), shape);
const valuesOf = (t: Tensor): number[] => [...t.dataSync()];
const worst = (got: Tensor, wanted: ArrayLike<number>): number => {
  const values = valuesOf(got);
  expect(values).toHaveLength(wanted.length);
  return values.reduce((most, value, i) => Math.max(most, Math.abs(value - wanted[i]!)), 0);
};

describe('products', () => {
  const product = (a: number[], b: number[], [batchA, batchB]: [number, number], [m, k, n]: [number, number, number], [tA, tB]: [boolean, boolean]): number[] =>
    Array.from({ length: Math.max(batchA, batchB) * m * n }, (_, at) => {
      const [batch, row, column] = [Math.floor(at / (m * n)), Math.floor(at / n) % m, at % n];
      const [fromA, fromB] = [batchA === 1 ? 0 : batch * m * k, batchB === 1 ? 0 : batch * k * n];
      let sum = 0;
      for (let i = 0; i < k; i++) sum += a[fromA + (tA ? i * m + row : row * k + i)]! * b[fromB + (tB ? column * k + i : i * n + column)]!;
      return sum;
    });
  const sizes: [number, number, number][] = [[1, 1, 1], [6, 4, 8], [7, 5, 9], [64, 33, 70], [131, 66, 47]];
  const turns: [boolean, boolean][] = [[false, false], [false, true], [true, false], [true, true]];
  it.each(sizes.flatMap((size) => turns.map((turn) => ({ size, turn }))))('of $size, transposed $turn, alone, in batches and broadcast', ({ size, turn }) => {
    const [m, k, n] = size;
    const counts: [number, number][] = [[1, 1], [3, 3], [3, 1], [1, 3]];
    for (const count of counts) {
      const a = wave([count[0], ...(turn[0] ? [k, m] : [m, k])], 0.37);
      const b = wave([count[1], ...(turn[1] ? [n, k] : [k, n])], 0.53);
      expect(worst(tf.matMul(a, b, turn[0], turn[1]), product(valuesOf(a), valuesOf(b), count, size, turn))).toBeLessThan(2e-5);
    }
  });
  it('add a bias', () => {
    const [x, w, bias] = [wave([90, 40], 0.31), wave([50, 40], 0.47), wave([50], 0.7)];
    const plain = product(valuesOf(x), valuesOf(w), [1, 1], [90, 40, 50], [false, true]);
    const biases = valuesOf(bias);
    expect(worst(linear(x, w, bias), plain.map((value, i) => value + biases[i % 50]!))).toBeLessThan(2e-5);
  });
  it('are equal each time, whoever computes them', () => {
    const [a, b] = [wave([200, 96], 0.37), wave([96, 160], 0.53)];
    const bytes = (): Buffer => {
      const y = tf.matMul(a, b);
      const values = Buffer.from(y.dataSync().buffer);
      y.dispose();
      return values;
    };
    const first = bytes();
    expect(Array.from({ length: 300 }, bytes).every((each) => each.equals(first))).toBe(true);
  });
});

describe('convolutions', () => {
  const cases = [
    { x: [2, 9, 11, 5], w: [3, 3, 5, 7], stride: 1, pad: 1 }, { x: [2, 10, 8, 24], w: [3, 3, 24, 40], stride: 2, pad: 1 },
    { x: [1, 17, 17, 3], w: [4, 4, 3, 20], stride: 4, pad: 0 }, { x: [1, 12, 12, 8], w: [1, 1, 8, 33], stride: 1, pad: 0 }, { x: [1, 9, 9, 4], w: [3, 3, 4, 4], stride: 3, pad: 2 },
  ];
  /** What each value of the filter and each of the input have to do with each of the result. */
  const overTaps = ({ x, w, stride, pad }: (typeof cases)[number], visit: (xAt: number, wAt: number, yAt: number) => void): void => {
    const [B, h, width, Cin] = x as [number, number, number, number];
    const [kh, kw, , Cout] = w as [number, number, number, number];
    const [outH, outW] = [Math.floor((h + 2 * pad - kh) / stride) + 1, Math.floor((width + 2 * pad - kw) / stride) + 1];
    for (let b = 0; b < B; b++) for (let oy = 0; oy < outH; oy++) for (let ox = 0; ox < outW; ox++) for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
      const [iy, ix] = [oy * stride - pad + i, ox * stride - pad + j];
      if (iy < 0 || ix < 0 || iy >= h || ix >= width) continue;
      for (let c = 0; c < Cin; c++) for (let o = 0; o < Cout; o++) visit(((b * h + iy) * width + ix) * Cin + c, ((i * kw + j) * Cin + c) * Cout + o, ((b * outH + oy) * outW + ox) * Cout + o);
    }
  };
  it.each(cases)('$x by $w, stride $stride, padding $pad, and both gradients', (each) => {
    const [x, w] = [wave(each.x, 0.37), wave(each.w, 0.53)];
    const y = conv2d(x, w, undefined, each.stride, each.pad);
    const dy = wave(y.shape, 0.91);
    const [dx, dw] = tf.grads((a: Tensor, b: Tensor) => tf.sum(tf.mul(conv2d(a, b, undefined, each.stride, each.pad), dy)))([x, w]) as [Tensor, Tensor];
    const [xs, ws, dys] = [valuesOf(x), valuesOf(w), valuesOf(dy)];
    const [wantedY, wantedX, wantedW] = [dys, xs, ws].map(({ length }) => new Float64Array(length)) as [Float64Array, Float64Array, Float64Array];
    overTaps(each, (i, k, o) => {
      wantedY[o]! += xs[i]! * ws[k]!;
      wantedX[i]! += dys[o]! * ws[k]!;
      wantedW[k]! += dys[o]! * xs[i]!;
    });
    expect([worst(y, wantedY), worst(dx, wantedX), worst(dw, wantedW)].every((error) => error < 5e-5)).toBe(true);
  });
  it('leave to the engine what they do not do: a dilated filter', () => {
    const y = tf.conv2d(wave([1, 7, 7, 2], 0.3) as Tensor4D, wave([3, 3, 2, 3], 0.5) as Tensor4D, 1, 'same', 'NHWC', 2);
    expect(y.shape).toEqual([1, 7, 7, 3]);
  });
});

describe('norms and activations', () => {
  it.each([[2, 30, 20, 48, 16], [1, 9, 9, 320, 32], [3, 8, 8, 60, 12], [2, 5, 5, 36, 4], [1, 4, 4, 6, 3]])('group norm of [%i, %i, %i, %i] in %i groups', (B, h, w, C, groups) => {
    const [x, gamma, beta] = [tf.add(wave([B, h, w, C], 0.37), 3), wave([C], 0.7), wave([C], 0.9)];
    const [xs, scale, shift] = [valuesOf(x), valuesOf(gamma), valuesOf(beta)];
    const per = C / groups;
    const wanted = new Float64Array(xs.length);
    for (let b = 0; b < B; b++) for (let g = 0; g < groups; g++) {
      const places = Array.from({ length: h * w * per }, (_, i) => (b * h * w + Math.floor(i / per)) * C + g * per + (i % per));
      const mean = places.reduce((sum, at) => sum + xs[at]!, 0) / places.length;
      const variance = places.reduce((sum, at) => sum + (xs[at]! - mean) ** 2, 0) / places.length;
      for (const at of places) wanted[at] = ((xs[at]! - mean) / Math.sqrt(variance + 1e-5)) * scale[at % C]! + shift[at % C]!;
    }
    expect(worst(groupNorm(x, gamma, beta, groups, 1e-5), wanted)).toBeLessThan(1e-5);
  });
  it.each([[100, 96], [33, 160], [5, 7]])('layer norm of [%i, %i]', (rows, C) => {
    const [x, gamma, beta] = [wave([rows, C], 0.37), wave([C], 0.7), wave([C], 0.9)];
    const [xs, scale, shift] = [valuesOf(x), valuesOf(gamma), valuesOf(beta)];
    const wanted = xs.map((value, at) => {
      const row = xs.slice(at - (at % C), at - (at % C) + C);
      const mean = row.reduce((a, b) => a + b) / C;
      return ((value - mean) / Math.sqrt(row.reduce((sum, each) => sum + (each - mean) ** 2, 0) / C + 1e-5)) * scale[at % C]! + shift[at % C]!;
    });
    expect(worst(layerNorm(x, gamma, beta, 1e-5), wanted)).toBeLessThan(1e-5);
  });
  it.each([['silu', silu, 1], ['quickGelu', quickGelu, 1.702]] as const)('%s and its slope from -100 to 100', (_, op, a) => {
    const x = tf.linspace(-100, 100, 8000);
    const s = (v: number): number => 1 / (1 + Math.exp(-a * v));
    expect(worst(op(x), valuesOf(x).map((v) => v * s(v)))).toBeLessThan(1e-5);
    expect(worst(tf.grad(op)(x), valuesOf(x).map((v) => s(v) * (1 + a * v * (1 - s(v)))))).toBeLessThan(1e-6);
  });
  it('GELU and its slope from -12 to 12', () => {
    const x = tf.linspace(-12, 12, 8000);
    /** Phi by its series; beyond 6 it is 0 or 1 to seven places. */
    const phi = (v: number): number => {
      if (Math.abs(v) > 6) return v > 0 ? 1 : 0;
      let [term, sum] = [v, v];
      for (let k = 1; k < 120; k++) sum += term *= (v * v) / (2 * k + 1);
      return 0.5 + (sum * Math.exp((-v * v) / 2)) / Math.sqrt(2 * Math.PI);
    };
    expect(worst(gelu(x), valuesOf(x).map((v) => v * phi(v)))).toBeLessThan(2e-6);
    expect(worst(tf.grad(gelu)(x), valuesOf(x).map((v) => phi(v) + (v * Math.exp((-v * v) / 2)) / Math.sqrt(2 * Math.PI)))).toBeLessThan(1e-6);
  });
});

it('has a form for processors without a fused multiply-add', () => {
  const [fused, plain] = [true, false].map((each) => assemble(productKernels, each)) as [Uint8Array, Uint8Array];
  expect([fused, plain].every((bytes) => webAssembly.validate(bytes))).toBe(true);
  expect(plain).not.toEqual(fused);
});
