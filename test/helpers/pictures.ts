/** Pictures made from a seed: gradients, shapes, stripes and noise, so that every measure has something to differ in. */
import { tf, type Tensor4D } from '../../src-main/engine/tf.ts';

/** Uniform numbers of [0,1). */
export function uniform(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const mixed = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d);
    return ((mixed ^ (mixed >>> 12)) >>> 0) / 2 ** 32;
  };
}

/** One picture [1,H,W,3] in [0,1]. */
export function drawnPicture(seed: number, H: number, W: number): Tensor4D {
  const next = uniform(seed);
  for (let i = 0; i < 5; i++) next();
  const [top, bottom] = [[next(), next(), next()], [next(), next(), next()]];
  const noise = next() < 0.4 ? next() * 0.5 : 0;
  const stripe = next() < 0.5 ? 0.4 * next() : 0;
  const period = 1 + 12 * next();
  const discs = Array.from({ length: Math.floor(next() * 8) }, () => ({ y: next() * H, x: next() * W, r: next() * 0.3 * H, c: [next(), next(), next()] }));
  const values = new Float32Array(H * W * 3);
  for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) {
    const inside = discs.findLast((d) => (d.y - y) ** 2 + (d.x - x) ** 2 < d.r ** 2);
    for (let c = 0; c < 3; c++) {
      const ground = top[c]! + ((bottom[c]! - top[c]!) * y) / H + stripe * Math.sin(x / period + y / 5);
      const value = (inside ? inside.c[c]! : ground) + noise * (next() - 0.5);
      values[(y * W + x) * 3 + c] = Math.min(1, Math.max(0, value));
    }
  }
  return tf.tensor4d(values, [1, H, W, 3]);
}

/** Several pictures [B,H,W,3]. */
export function drawnPictures(count: number, H: number, W: number, seed = 1): Tensor4D {
  return tf.concat(Array.from({ length: count }, (_, i) => drawnPicture(seed + i, H, W)), 0);
}
