/** Closeness to a reference picture in layout and colour: both are blurred, so that masses count and details do not. */
import { AppError } from '../base/errors.ts';
import { isInlinePicture } from '../contract/run.ts';
import { readFloatsSync, scope } from '../engine/scope.ts';
import { tf, type Tensor1D, type Tensor4D } from '../engine/tf.ts';
import { readPicture } from '../pipeline/read-picture.ts';
import { resizeBicubic } from './resize.ts';
import type { Reward, RewardDefinition } from './reward.ts';

/** Grids, longer side, on which pictures are compared: the masses, and their outlines. */
const GRIDS = [8, 32];
/** Keeps the square root's slope finite on a perfect match. */
const SQRT_FLOOR = 1e-6;

/** A grid of a picture's proportions with `longer` points on its longer side; never finer than the picture. */
function gridSize(H: number, W: number, longer: number): [number, number] {
  const scale = Math.min(1, longer / Math.max(H, W));
  return [Math.max(1, Math.round(H * scale)), Math.max(1, Math.round(W * scale))];
}

/** A reference reduced to the grids of a picture size: plain numbers, for they are kept from score to score. */
interface Layout { readonly values: Float32Array; readonly h: number; readonly w: number }

/** The grids of a reference, first brought to the pictures' size. @param reference [1,h,w,3] in [0,1] */
export function layoutsOf(reference: Tensor4D, H: number, W: number): Layout[] {
  return scope(() => {
    const sized = tf.clipByValue(resizeBicubic(reference, H, W), 0, 1) as Tensor4D;
    return GRIDS.map((longer) => {
      const [h, w] = gridSize(H, W, longer);
      return { values: readFloatsSync(resizeBicubic(sized, h, w)), h, w };
    });
  });
}

/**
 * Difference in layout and colour: mean over grids of sqrt(mean (a - b)^2 + 1e-6), a and b reduced to the grid by an antialiased
 * bicubic, which is the blur.
 * @param images [B,H,W,3] in [0,1]
 * @param layouts those of the reference for H x W
 * @returns [B] in [0,1]
 */
export function layoutDistance(images: Tensor4D, layouts: readonly Layout[]): Tensor1D {
  return scope(() => {
    const parts = layouts.map(({ values, h, w }) => {
      const difference = tf.sub(resizeBicubic(images, h, w), tf.tensor4d(values, [1, h, w, 3]));
      return tf.sqrt(tf.add<Tensor1D>(tf.mean(tf.square(difference), [1, 2, 3]), SQRT_FLOOR));
    });
    return tf.div<Tensor1D>(tf.addN(parts), parts.length);
  });
}

/** The bytes of a picture given as a data: URL. @throws AppError('config') where it is none */
function inlineBytes(url: string): Buffer {
  const [, data] = /^data:image\/[\w.+-]+;base64,([\w+/]+={0,2})$/.exec(url) ?? [];
  if (data === undefined) throw new AppError('config', `The reference begins with "${url.slice(0, 30)}" and is no picture.`, { hint: 'Name a picture file, or write it as data:image/png;base64,...' });
  return Buffer.from(data, 'base64');
}

/** @throws AppError('config') where no reference is given, AppError('disk') where it cannot be read */
async function openReference(file: string | undefined): Promise<Reward> {
  if (file === undefined) throw new AppError('config', 'The reward "reference" needs a picture.', { hint: 'Name one, e.g. "reference": "sunset.jpg".' });
  const reference = await (isInlinePicture(file) ? readPicture(inlineBytes(file), 'of the reward "reference"') : readPicture(file));
  /** By picture size: training and samples have one. */
  const known = new Map<string, Layout[]>();
  const layouts = (H: number, W: number): Layout[] => {
    const key = `${H} x ${W}`;
    if (!known.has(key)) known.set(key, layoutsOf(reference, H, W));
    return known.get(key)!;
  };
  return {
    name: 'reference',
    score: (images) => scope(() => tf.neg(layoutDistance(images, layouts(images.shape[1], images.shape[2])))),
    dispose: () => reference.dispose(),
  };
}

export const referenceDefinition: RewardDefinition = {
  name: 'reference', title: 'Reference picture', what: 'The picture has the layout and colours of one you give: both blurred, then compared.',
  habit: 'Trained alone it paints the reference into every picture and forgets the prompt.',
  needs: 'a picture', licence: 'that of the picture', range: '-1 to 0 (minus the mean difference)', color: '#0d9488',
  takes: ['reference'],
  open: (_engine, { reference }) => openReference(reference),
};
