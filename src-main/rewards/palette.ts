/** Closeness of a picture's colours to a palette, measured in OKLab. */
import { assert, AppError } from '../base/errors.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D } from '../engine/tf.ts';
import { pictureMean } from './picture-mean.ts';
import type { Reward, RewardDefinition } from './reward.ts';

/** Below this the cube root bends into a line, so that black has a finite slope. */
const ROOT_BEND = 1e-3;
/** Squared OKLab distance within which two colours of the palette share a pixel. */
const SOFTNESS = 0.004;
/** Keeps the square root's slope finite on a perfect match. */
const SQRT_FLOOR = 1e-6;

/** Linear sRGB -> cone response, and its cube root -> Lab; columns are inputs. Source: Ottosson, A perceptual color space for image processing, 2020. */
const TO_LMS = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]];
const TO_LAB = [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099], [0.0259040371, 0.7827717662, -0.808675766]];

/**
 * Colours as OKLab, with x / (x^2 + 1e-6)^(1/3) for the cube root: the same but for the darkest tones, and smooth at black.
 * @param rgb [n,3] sRGB in [0,1]
 * @returns [n,3] lightness in [0,1], two opponent colours in about [-0.4,0.4]
 */
export function toOklab(rgb: Tensor2D): Tensor2D {
  assert(rgb.rank === 2 && rgb.shape[1] === 3, () => `toOklab: rgb [${rgb.shape}]`);
  return scope(() => {
    const linear = tf.where(tf.greater(rgb, 0.04045), tf.pow(tf.div(tf.add(tf.maximum(rgb, 0.04), 0.055), 1.055), 2.4), tf.div(rgb, 12.92));
    const cones = tf.matMul(linear as Tensor2D, tf.tensor2d(TO_LMS), false, true);
    const root = tf.div(cones, tf.pow(tf.add(tf.square(cones), ROOT_BEND ** 2), 1 / 3));
    return tf.matMul(root as Tensor2D, tf.tensor2d(TO_LAB), false, true);
  });
}

/** "#rrggbb" -> [r, g, b] in [0,1] */
export function parseColor(text: string): [number, number, number] {
  const found = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text);
  if (!found) throw new AppError('config', `"${text}" is no colour.`, { hint: 'A colour is written "#rrggbb", e.g. "#ff8800".' });
  return [1, 2, 3].map((i) => Number.parseInt(found[i]!, 16) / 255) as [number, number, number];
}

/**
 * Mean distance of a picture's pixels to the nearest of some colours, the nearest taken softly:
 * mean over pixels of sqrt(sum_k p_k d_k^2 + 1e-6), p = softmax(-d^2 / 0.004), d_k the OKLab distance to colour k.
 * @param images [B,H,W,3] in [0,1]
 * @param colors [k,3] OKLab
 * @returns [B]; 0.02 is a difference one just sees, black to white is 1
 */
export function paletteDistance(images: Tensor4D, colors: Tensor2D): Tensor1D {
  const [B, H, W, C] = images.shape;
  assert(C === 3 && colors.shape[1] === 3, () => `paletteDistance: images [${images.shape}], colors [${colors.shape}]`);
  return scope(() => {
    const lab = toOklab(tf.reshape(images, [B * H * W, 3]) as Tensor2D);
    const squares = tf.add(tf.sum(tf.square(lab), 1, true), tf.reshape(tf.sum(tf.square(colors), 1), [1, colors.shape[0]]));
    const square = tf.relu(tf.sub(squares, tf.mul(tf.matMul(lab, colors, false, true), 2))) as Tensor;
    const share = tf.softmax(tf.div(square, -SOFTNESS));
    const nearest = tf.sum(tf.mul(share, square), 1);
    return pictureMean(tf.reshape(tf.sqrt(tf.add(nearest, SQRT_FLOOR)), [B, H, W]));
  });
}

/** @throws AppError('config') where no palette is given */
async function openPalette(palette: readonly string[] | undefined): Promise<Reward> {
  if (!palette || palette.length === 0) throw new AppError('config', 'The reward "palette" needs a palette.', { hint: 'Give it colours, e.g. "palette": ["#1b4332", "#ffb703"].' });
  const rgb = palette.flatMap(parseColor);
  const colors = scope(() => toOklab(tf.tensor2d(rgb, [palette.length, 3])));
  return {
    name: 'palette',
    score: (images) => scope(() => tf.neg(paletteDistance(images, colors))),
    dispose: () => colors.dispose(),
  };
}

export const paletteDefinition: RewardDefinition = {
  name: 'palette', title: 'Palette', what: 'Every pixel is close to one of your colours (OKLab distance to the nearest).',
  habit: 'Trained alone it fills the picture with the one colour that is nearest.',
  needs: 'a list of colours', licence: 'none needed', range: '-1 to 0; -0.02 is a difference one just sees', color: '#ea580c',
  takes: ['palette'],
  open: (_engine, { palette }) => openPalette(palette),
};
