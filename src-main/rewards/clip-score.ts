/** CLIPScore: how well a picture fits its prompt, by a CLIP model. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { readFloatsSync, scope } from '../engine/scope.ts';
import { tf, type Tensor1D, type Tensor2D, type Tensor4D } from '../engine/tf.ts';
import { loadClip, type Clip, type ClipPreprocessor } from '../models/clip-vision.ts';
import { starterClip } from '../models/known.ts';
import { convertOpenClip, isOpenClip } from './open-clip.ts';
import { cropCentre, resizeBicubic, resizeShortSide } from './resize.ts';
import type { Reward, RewardDefinition } from './reward.ts';

/** Most prompts whose text embedding is remembered. */
const MAX_REMEMBERED = 4096;
/** PIL's number for bicubic. */
const BICUBIC = 3;

/**
 * Pictures as CLIP sees them: bicubic resize, centre crop, (x - mean) / std. No resize where the size fits.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B,S,S,3]
 */
export function preprocess(images: Tensor4D, { resize, crop, mean, std }: Pick<ClipPreprocessor, 'resize' | 'crop' | 'mean' | 'std'>): Tensor4D {
  return scope(() => {
    let x = images;
    if (resize && 'shortestEdge' in resize) x = resizeShortSide(x, resize.shortestEdge);
    else if (resize) x = resizeBicubic(x, resize.height, resize.width);
    if (crop) x = cropCentre(x, crop.height, crop.width);
    return tf.div<Tensor4D>(tf.sub(x, tf.tensor1d([...mean])), tf.tensor1d([...std]));
  });
}

/** x / |x| over the last axis. [B,P] -> [B,P] */
function unit(x: Tensor2D): Tensor2D {
  return tf.div(x, tf.sqrt(tf.sum(tf.square(x), -1, true)));
}

/** Loads an OpenCLIP folder by way of a temporary copy under transformers' names. */
function loadOpenClip(engine: Engine, folder: string): Clip {
  const copy = mkdtempSync(join(tmpdir(), 'drtune-open-clip-'));
  try {
    convertOpenClip(folder, copy);
    return loadClip(engine, copy);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/**
 * Opens CLIPScore: cosine of the projected picture and text embeddings, no logit scale.
 * @param folder a transformers CLIP folder, or an OpenCLIP one
 * @throws AppError('weights')
 * Source: Hessel et al., arXiv 2104.08718, without its factor 2.5 and clipping.
 */
async function openClipScore(engine: Engine, folder: string): Promise<Reward> {
  const clip = isOpenClip(folder) ? loadOpenClip(engine, folder) : loadClip(engine, folder);
  if (clip.preprocessor.resize && clip.preprocessor.resample !== BICUBIC) {
    clip.dispose();
    throw new AppError('weights', `${folder} resizes pictures by method ${clip.preprocessor.resample}; only bicubic (3) is supported.`);
  }
  const remembered = new Map<string, Float32Array>();

  const textEmbeds = (prompts: readonly string[]): Tensor2D => {
    const missing = [...new Set(prompts)].filter((prompt) => !remembered.has(prompt));
    if (remembered.size > MAX_REMEMBERED) remembered.clear();
    for (const prompt of missing) remembered.set(prompt, scope(() => readFloatsSync(unit(clip.encodeText([prompt])))));
    return tf.stack(prompts.map((prompt) => tf.tensor1d(remembered.get(prompt)!))) as Tensor2D;
  };

  return {
    name: 'clipscore',
    score: (images, prompts) =>
      scope(() => {
        const text = textEmbeds(prompts);
        const picture = unit(clip.encodeImage(preprocess(images, clip.preprocessor)));
        return tf.sum(tf.mul(picture, text), -1) as Tensor1D;
      }),
    dispose: () => clip.dispose(),
  };
}

export const clipScoreDefinition: RewardDefinition = {
  name: 'clipscore', title: 'CLIPScore', what: 'The picture fits its prompt, by CLIP (cosine of the two embeddings).',
  habit: 'Overstates the words: repeated objects, text-like marks.',
  needs: 'the starter\'s CLIP, or a transformers or OpenCLIP folder', licence: 'that of the CLIP model', range: '-1 to 1', color: '#10b981',
  open: (engine, { model }) => openClipScore(engine, model ?? starterClip()),
};
