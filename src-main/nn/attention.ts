/** Multi-head attention over token sequences. */
import { attention } from '../engine/ops.ts';
import { tf, type Tensor } from '../engine/tf.ts';

/** [B, N, nH * d] -> [B, nH, N, d]. */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [B, N, D] = x.shape as [number, number, number];
  return tf.transpose(tf.reshape(x, [B, N, heads, D / heads]), [0, 2, 1, 3]);
}

/**
 * softmax(q k^T / sqrt(d) + mask) v for each head, heads joined again.
 * @param q [B, N, nH * d]
 * @param k [B, M, nH * d]
 * @param v [B, M, nH * d]
 * @param mask additive, broadcast to [B, nH, N, M]
 * @returns [B, N, nH * d]
 */
export function multiHeadAttention(q: Tensor, k: Tensor, v: Tensor, heads: number, mask?: Tensor): Tensor {
  return attendHeads(q, splitHeads(k, heads), splitHeads(v, heads), mask);
}

/** As {@link multiHeadAttention}, on keys and values [B, nH, M, d]. */
export function attendHeads(q: Tensor, k: Tensor, v: Tensor, mask?: Tensor): Tensor {
  const [B, N, D] = q.shape as [number, number, number];
  const heads = k.shape[1]!;
  const y = attention(splitHeads(q, heads), k, v, 1 / Math.sqrt(D / heads), mask);
  return tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [B, N, D]);
}
