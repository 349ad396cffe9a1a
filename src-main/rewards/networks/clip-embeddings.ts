/** What the rewards on CLIP share: how it sees a picture, unit embeddings, remembered prompts, the cosine of both. */
import { AppError } from '../../base/errors.ts';
import { roundHalfEven } from '../../base/round.ts';
import { readFloatsSync, scope } from '../../engine/scope.ts';
import { tf, type Tensor1D, type Tensor2D, type Tensor4D } from '../../engine/tf.ts';
import type { Clip, ClipPreprocessor } from '../../models/clip-vision.ts';
import { cropCentre, resizeBicubic, resizeShortSide } from '../resize.ts';
import type { Reward } from '../reward.ts';

/** Most prompts whose embedding is remembered. */
const MAX_REMEMBERED = 4096;
/** PIL's number for bicubic. */
const BICUBIC = 3;

/** (x - mean) / std for each colour. @param images [B,H,W,3] in [0,1] */
export function normalizePixels(images: Tensor4D, { mean, std }: Pick<ClipPreprocessor, 'mean' | 'std'>): Tensor4D {
  return scope(() => tf.div<Tensor4D>(tf.sub(images, tf.tensor1d([...mean])), tf.tensor1d([...std])));
}

/**
 * Pictures as CLIP sees them: bicubic resize, centre crop, (x - mean) / std. No resize where the size fits.
 * PIL rounds to bytes after the horizontal and again after the vertical pass; here nothing is rounded, values may leave [0,1].
 * @param images [B,H,W,3] in [0,1]
 * @returns [B,S,S,3]
 */
export function preprocess(images: Tensor4D, preprocessor: Omit<ClipPreprocessor, 'resample'>): Tensor4D {
  const { resize, crop, halfPixel } = preprocessor;
  return scope(() => {
    let x = images;
    if (resize && 'shortestEdge' in resize) x = resizeShortSide(x, resize.shortestEdge);
    else if (resize) x = resizeBicubic(x, resize.height, resize.width);
    if (crop) x = cropCentre(x, crop.height, crop.width, halfPixel === 'even' ? roundHalfEven : Math.floor);
    return normalizePixels(x, preprocessor);
  });
}

/** x / |x| over the last axis. [B,P] -> [B,P] */
export function unit(x: Tensor2D): Tensor2D {
  return tf.div(x, tf.sqrt(tf.sum(tf.square(x), -1, true)));
}

/** Unit embeddings [B,P] of prompts, each computed once. */
export function rememberedPrompts(clip: Clip): (prompts: readonly string[]) => Tensor2D {
  const remembered = new Map<string, Float32Array>();
  return (prompts) => {
    if (remembered.size > MAX_REMEMBERED) remembered.clear();
    const missing = [...new Set(prompts)].filter((prompt) => !remembered.has(prompt));
    for (const prompt of missing) remembered.set(prompt, scope(() => readFloatsSync(unit(clip.encodeText([prompt])))));
    return tf.stack(prompts.map((prompt) => tf.tensor1d(remembered.get(prompt)!))) as Tensor2D;
  };
}

/** @throws AppError('weights') where the model's own preprocessing is not bicubic; the model is disposed of then */
export function needBicubic(clip: Clip): void {
  const { resize, resample } = clip.preprocessor;
  if (!resize || resample === BICUBIC) return;
  clip.dispose();
  throw new AppError('weights', `${clip.path} resizes pictures by method ${resample}; only bicubic (3) is supported.`);
}

/**
 * factor * cosine of the picture's and the prompt's embedding.
 * @param see pictures [B,H,W,3] in [0,1] to normalised pixels [B,S,S,3]
 */
export function cosineReward(name: string, clip: Clip, see: (images: Tensor4D) => Tensor4D, factor = 1): Reward {
  const textEmbeds = rememberedPrompts(clip);
  return {
    name,
    score: (images, prompts) =>
      scope(() => {
        const picture = unit(clip.encodeImage(see(images)));
        return tf.mul(tf.sum(tf.mul(picture, textEmbeds(prompts)), -1), factor) as Tensor1D;
      }),
    dispose: () => clip.dispose(),
  };
}
