/** Picture files as tensors. */
import { existsSync } from 'node:fs';
import sharp from 'sharp';
import { AppError, errorLine } from '../base/errors.ts';
import { tf, type Tensor4D } from '../engine/tf.ts';

/** More pixels than this in one file are refused: a picture of a reward, not a map. */
const MAX_PIXELS = 64e6;

/**
 * A picture as [1,H,W,3] in [0,1]; transparency is laid on white, the turn that a camera noted is made.
 * @param source path of a PNG, JPEG or WebP file, or its bytes
 * @param name how the error calls it; the path if left out
 * @throws AppError('disk')
 */
export async function readPicture(source: string | Uint8Array, name = typeof source === 'string' ? source : 'picture'): Promise<Tensor4D> {
  if (typeof source === 'string' && !existsSync(source)) throw new AppError('disk', `There is no picture ${source}.`);
  try {
    const { data, info } = await sharp(source, { limitInputPixels: MAX_PIXELS }).rotate().flatten({ background: '#ffffff' }).toColourspace('srgb').removeAlpha().raw().toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`it has ${info.channels} channels`);
    return tf.tensor4d(Float32Array.from(data, (value) => value / 255), [1, info.height, info.width, 3]);
  } catch (cause) {
    throw new AppError('disk', `The picture ${name} cannot be read: ${errorLine(cause).split(/: VipsJpeg|\n| Vips/)[0]}.`, { hint: 'PNG, JPEG and WebP can be.', cause });
  }
}
