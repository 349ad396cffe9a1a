/** Differentiable picture resizing: bicubic or bilinear with antialiasing, as two matrix products. */
import { assert } from '../base/errors.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor2D, type Tensor4D } from '../engine/tf.ts';

/** Keys' cubic with a = -0.5, what PIL and torch's antialiased bicubic use. */
function cubic(x: number): number {
  const a = -0.5;
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

const filters = {
  bicubic: { of: cubic, reach: 2 },
  bilinear: { of: (x: number): number => Math.max(0, 1 - Math.abs(x)), reach: 1 },
} as const;
export type ResizeFilter = keyof typeof filters;

/**
 * Weights [outSize, inSize] of a one-dimensional antialiased resize; rows sum to 1.
 * Source: Pillow src/libImaging/Resample.c `precompute_coeffs`, which torch's `interpolate(antialias=True)` follows.
 */
export function resizeWeights(inSize: number, outSize: number, filter: ResizeFilter): Float32Array {
  assert(inSize > 0 && outSize > 0, () => `resizeWeights: ${inSize} -> ${outSize}`);
  const { of, reach } = filters[filter];
  const weights = new Float32Array(outSize * inSize);
  const scale = inSize / outSize;
  const stretch = Math.max(1, scale);
  const support = reach * stretch;
  for (let i = 0; i < outSize; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const last = Math.min(inSize, Math.floor(centre + support + 0.5));
    const row = Array.from({ length: last - first }, (_, k) => of((first + k - centre + 0.5) / stretch));
    const sum = row.reduce((a, b) => a + b, 0);
    row.forEach((w, k) => (weights[i * inSize + first + k] = w / sum));
  }
  return weights;
}

/**
 * Resizes pictures with antialiasing. Differentiable; the identity where the size stays.
 * @param images [B,H,W,C]
 * @returns [B,height,width,C]
 */
export function resizePictures(images: Tensor4D, height: number, width: number, filter: ResizeFilter): Tensor4D {
  const [B, H, W, C] = images.shape;
  return scope(() => {
    let x = tf.clone(images);
    if (height !== H) {
      const rows = tf.tensor2d(resizeWeights(H, height, filter), [height, H]);
      const across = tf.reshape(tf.transpose(x, [1, 0, 2, 3]), [H, B * W * C]) as Tensor2D;
      x = tf.transpose(tf.reshape(tf.matMul(rows, across), [height, B, W, C]), [1, 0, 2, 3]);
    }
    if (width !== W) {
      const columns = tf.tensor2d(resizeWeights(W, width, filter), [width, W]);
      const down = tf.reshape(tf.transpose(x, [2, 0, 1, 3]), [W, B * height * C]) as Tensor2D;
      x = tf.transpose(tf.reshape(tf.matMul(columns, down), [width, B, height, C]), [1, 2, 0, 3]);
    }
    return x;
  });
}

export function resizeBicubic(images: Tensor4D, height: number, width: number): Tensor4D {
  return resizePictures(images, height, width, 'bicubic');
}

/**
 * Short side to `size`, the long one in proportion, rounded down.
 * @param images [B,H,W,C]
 * Source: transformers image_transforms.get_resize_output_image_size.
 */
export function resizeShortSide(images: Tensor4D, size: number): Tensor4D {
  const [, H, W] = images.shape;
  return H <= W ? resizeBicubic(images, size, Math.floor((size * W) / H)) : resizeBicubic(images, Math.floor((size * H) / W), size);
}

/**
 * The middle of a picture.
 * @param images [B,H,W,C]
 * @param half what becomes of half a pixel at the edge: transformers rounds it down, torchvision to an even number
 * @returns [B,height,width,C]
 * Source: transformers image_transforms.center_crop; torchvision transforms/functional.py center_crop.
 */
export function cropCentre(images: Tensor4D, height: number, width: number, half: (x: number) => number = Math.floor): Tensor4D {
  const [B, H, W, C] = images.shape;
  assert(height <= H && width <= W, () => `cropCentre: ${height} x ${width} of ${H} x ${W}`);
  return scope(() => tf.slice(images, [0, half((H - height) / 2), half((W - width) / 2), 0], [B, height, width, C]));
}
