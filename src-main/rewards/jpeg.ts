/** A differentiable JPEG: colour transform, chroma subsampling, 8x8 DCT, quantisation table and a soft count of the bits. */
import { assert } from '../base/errors.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor1D, type Tensor2D, type Tensor3D, type Tensor4D } from '../engine/tf.ts';
import { splitChannels } from './color.ts';

const BLOCK = 8;

/** Tables K.1 (luminance) and K.2 (chrominance). Source: ITU-T T.81, annex K. */
const LUMINANCE = [
  16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
  18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMINANCE = [
  17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
  99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/**
 * Bits of a block as a function of its quantised coefficients q, fitted to baseline JPEG files with optimised Huffman tables:
 * every AC coefficient costs `present` q^2 / (q^2 + softness^2) + `magnitude` log2(1 + |q|), every DC difference
 * `dc` log2(1 + |d|), every block `block` bits.
 */
export const BIT_COST = { present: 2.8, softness: 0.5, magnitude: 1.15, dc: 1.6, block: 2.5 } as const;

/** A table scaled to a quality of 1..100 as libjpeg does. */
export function quantisationTable(kind: 'luminance' | 'chrominance', quality: number): number[] {
  const scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  const base = kind === 'luminance' ? LUMINANCE : CHROMINANCE;
  return base.map((value) => Math.min(255, Math.max(1, Math.floor((value * scale + 50) / 100))));
}

/** The two-dimensional orthonormal DCT-II of a flattened 8x8 block as one matrix [64,64]: coefficients = block . matrix. */
function dctMatrix(): Float32Array {
  const basis = (u: number, x: number): number =>
    (u === 0 ? Math.SQRT1_2 : 1) * 0.5 * Math.cos(((2 * x + 1) * u * Math.PI) / (2 * BLOCK));
  const matrix = new Float32Array(64 * 64);
  for (let y = 0; y < 8; y++) for (let x = 0; x < 8; x++) {
    for (let v = 0; v < 8; v++) for (let u = 0; u < 8; u++) matrix[(y * 8 + x) * 64 + v * 8 + u] = basis(v, y) * basis(u, x);
  }
  return matrix;
}

/** Repeats the last rows and columns until both sizes are multiples of `multiple`. [B,H,W,C] -> [B,H',W',C] */
export function padByEdge(images: Tensor4D, multiple: number): Tensor4D {
  const [B, H, W, C] = images.shape;
  const down = (multiple - (H % multiple)) % multiple;
  const right = (multiple - (W % multiple)) % multiple;
  let padded = images;
  if (down > 0) padded = tf.concat([padded, tf.tile(tf.slice(padded, [0, H - 1, 0, 0], [B, 1, W, C]), [1, down, 1, 1])], 1);
  if (right > 0) padded = tf.concat([padded, tf.tile(tf.slice(padded, [0, 0, W - 1, 0], [B, H + down, 1, C]), [1, 1, right, 1])], 2);
  return padded;
}

/** Plane [B,H,W], H and W multiples of 8 -> blocks in raster order [B,n,64]. */
function toBlocks(plane: Tensor3D): Tensor3D {
  const [B, H, W] = plane.shape;
  const split = tf.reshape(plane, [B, H / 8, 8, W / 8, 8]);
  return tf.reshape(tf.transpose(split, [0, 1, 3, 2, 4]), [B, (H * W) / 64, 64]);
}

/** log2(1 + |q|), with a root that is smooth at 0: |q| = sqrt(q^2 + 1e-6). */
function magnitudeBits(q: Tensor): Tensor {
  return tf.div(tf.log1p(tf.sqrt(tf.add(tf.square(q), 1e-6))), Math.LN2);
}

/** Soft bits of one plane [B,H,W] of samples around 0 -> [B]. */
function planeBits(plane: Tensor3D, table: readonly number[], dct: Tensor2D): Tensor1D {
  const blocks = toBlocks(plane);
  const [B, n] = blocks.shape;
  const quantised = tf.div(tf.matMul(tf.reshape(blocks, [B * n, 64]), dct), tf.tensor1d([...table]));
  const ac = tf.slice(quantised, [0, 1], [B * n, 63]);
  const square = tf.square(ac);
  const present = tf.div(square, tf.add(square, BIT_COST.softness ** 2));
  const acBits = tf.add(tf.mul(present, BIT_COST.present), tf.mul(magnitudeBits(ac), BIT_COST.magnitude));
  const dc = tf.reshape(tf.slice(quantised, [0, 0], [B * n, 1]), [B, n]);
  const before = tf.concat([tf.zeros([B, 1]), tf.slice(dc, [0, 0], [B, n - 1])], 1);
  const dcBits = tf.sum(tf.mul(magnitudeBits(tf.sub(dc, before)), BIT_COST.dc), 1);
  const all = tf.add(tf.sum(tf.reshape(tf.sum(acBits, 1), [B, n]), 1), dcBits);
  return tf.add(all, BIT_COST.block * n) as Tensor1D;
}

/**
 * Estimated size of each picture as a baseline JPEG with 4:2:0 chroma, without the file's header.
 * @param images [B,H,W,3] in [0,1], any size (padded by its edge to multiples of 16)
 * @param quality 1..100, libjpeg's scale
 * @returns [B] bits per pixel
 */
export function jpegBitsPerPixel(images: Tensor4D, quality = 75): Tensor1D {
  assert(images.rank === 4 && images.shape[3] === 3, () => `jpegBitsPerPixel: images [${images.shape}]`);
  const [, H, W] = images.shape;
  return scope(() => {
    const padded = tf.mul(padByEdge(images, 16), 255) as Tensor4D;
    const [r, g, b] = splitChannels(padded);
    const mix = (kr: number, kg: number, kb: number): Tensor3D => tf.add(tf.add(tf.mul(r, kr), tf.mul(g, kg)), tf.mul(b, kb));
    const dct = tf.tensor2d(dctMatrix(), [64, 64]);
    const chroma = quantisationTable('chrominance', quality);
    const y = planeBits(tf.sub(mix(0.299, 0.587, 0.114), 128) as Tensor3D, quantisationTable('luminance', quality), dct);
    const cb = planeBits(halve(mix(-0.168735892, -0.331264108, 0.5)), chroma, dct);
    const cr = planeBits(halve(mix(0.5, -0.418687589, -0.081312411)), chroma, dct);
    return tf.div(tf.add(tf.add(y, cb), cr), H * W) as Tensor1D;
  });
}

/** Mean over 2x2 pixels. [B,H,W] -> [B,H/2,W/2] */
function halve(plane: Tensor3D): Tensor3D {
  const [B, H, W] = plane.shape;
  return tf.mean(tf.reshape(plane, [B, H / 2, 2, W / 2, 2]), [2, 4]);
}
