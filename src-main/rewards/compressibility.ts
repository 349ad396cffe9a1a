/** How small a picture is as a JPEG file. */
import { readFloats, scope } from '../engine/scope.ts';
import { tf, type Tensor1D, type Tensor4D } from '../engine/tf.ts';
import { jpegBitsPerPixel } from './jpeg.ts';
import type { Reward, RewardDefinition } from './reward.ts';

const QUALITY = 75;

/**
 * True size of each picture as a JPEG file of quality 75 with 4:2:0 chroma, header included, in bits per pixel.
 * @param images [B,H,W,3] in [0,1]
 */
export async function trueJpegBitsPerPixel(images: Tensor4D): Promise<number[]> {
  const { default: sharp } = await import('sharp');
  const [B, H, W] = images.shape;
  const values = await readFloats(images);
  const size = H * W * 3;
  const encode = async (i: number): Promise<number> => {
    const pixels = Uint8Array.from(values.subarray(i * size, (i + 1) * size), (v) => Math.round(Math.min(1, Math.max(0, v)) * 255));
    const file = await sharp(pixels, { raw: { width: W, height: H, channels: 3 } }).jpeg({ quality: QUALITY, chromaSubsampling: '4:2:0' }).toBuffer();
    return (file.length * 8) / (H * W);
  };
  return Promise.all(Array.from({ length: B }, (_, i) => encode(i)));
}

function compressibility(name: string, sign: 1 | -1): Reward {
  return {
    name,
    score: (images) => scope(() => tf.mul<Tensor1D>(jpegBitsPerPixel(images, QUALITY), sign)),
    exact: trueJpegBitsPerPixel,
    dispose() {},
  };
}

export const compressibilityDefinition: RewardDefinition = {
  name: 'compressibility', title: 'Compressibility', what: 'Small as a JPEG file: minus the estimated bits per pixel (quality 75, 4:2:0).',
  habit: 'Smooths everything; trained alone it ends in flat colour.',
  needs: 'nothing', licence: 'none needed', range: 'about -6 to 0 bits per pixel', color: '#0ea5e9',
  open: async () => compressibility('compressibility', -1),
};

export const incompressibilityDefinition: RewardDefinition = {
  name: 'incompressibility', title: 'Incompressibility', what: 'Large as a JPEG file: the estimated bits per pixel (quality 75, 4:2:0).',
  habit: 'Covers everything in fine texture or noise.',
  needs: 'nothing', licence: 'none needed', range: '0 to about 6 bits per pixel', color: '#0369a1',
  open: async () => compressibility('incompressibility', 1),
};
