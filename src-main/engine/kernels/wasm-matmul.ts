/**
 * BatchMatMul for tfjs's wasm engine, whose own is a plain loop for all but one pair of matrices as they lie, and rounds twice
 * where a fused multiply-add rounds once in half the time.
 */
import { assert } from '../../base/errors.ts';
import { tf, type Tensor } from '../tf.ts';
import { multiply, plainRows } from './wasm/multiply.ts';
import type { WasmTensors } from './wasm/heap.ts';

/**
 * op(a) op(b) + bias, op being the transposition of the last two axes where asked.
 * @param a [..., m, k], or [..., k, m]
 * @param b [..., k, n], or [..., n, k]; leading axes are the other's, or all 1
 * @param bias [n]
 * @returns [..., m, n]
 */
export function wasmMatMul(tensors: WasmTensors, a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean, bias?: Tensor): Tensor {
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const count = tf.util.sizeFromShape(batch);
  const [countA, countB] = [a, b].map((t) => tf.util.sizeFromShape(t.shape.slice(0, -2))) as [number, number];
  assert([countA, countB].every((n) => n === count || n === 1), () => `matMul: [${a.shape}] and [${b.shape}] are broadcast on both sides`);
  const [m, k] = (transposeA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!]) as [number, number];
  const [n, kB] = (transposeB ? [b.shape.at(-2)!, b.shape.at(-1)!] : [b.shape.at(-1)!, b.shape.at(-2)!]) as [number, number];
  assert(k === kB && k > 0, () => `matMul: [${a.shape}] and [${b.shape}], inner sizes ${k} and ${kB}`);
  const y = tensors.empty([...batch, m, n]);
  if (y.size === 0) return y;
  const rows = transposeA ? tf.transpose(tf.reshape(a, [countA, k, m]), [0, 2, 1]) : a;
  multiply(tensors.pool, {
    x: { at: tensors.at(rows), matrixStride: countA === 1 ? 0 : 4 * m * k },
    factor: {
      at: tensors.at(b), taps: 1, tapStride: 0, rows: k, rowStride: transposeB ? 4 : 4 * n, columns: n, columnStride: transposeB ? 4 * k : 4,
      matrixStride: countB === 1 ? 0 : 4 * k * n,
    },
    bias: bias ? tensors.at(bias) : 0, y: tensors.at(y), count, rows: m, window: plainRows(m),
  });
  if (rows !== a) rows.dispose();
  return y;
}

/** Puts it in the place of the engine's own. */
export function registerWasmMatMul(tensors: WasmTensors): void {
  tf.unregisterKernel('BatchMatMul', 'wasm');
  tf.registerKernel({
    kernelName: 'BatchMatMul',
    backendName: 'wasm',
    kernelFunc({ inputs, attrs }) {
      const { a, b } = inputs as { a: Tensor; b: Tensor };
      const { transposeA, transposeB } = attrs as unknown as { transposeA: boolean; transposeB: boolean };
      return wasmMatMul(tensors, a, b, transposeA, transposeB);
    },
  });
}
