/** CLIPScore: how well a picture fits its prompt, by a CLIP model. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { readFloatsSync, scope } from '../engine/scope.ts';
import { tf, type Tensor1D, type Tensor2D, type Tensor4D } from '../engine/tf.ts';
import { starterClip } from '../models/known.ts';
import { resizeAndCrop } from './resize.ts';
import type { Reward, RewardDefinition } from './reward.ts';

export interface Preprocessing {
  /** Pixels of the short side after resizing. */
  readonly shortSide: number;
  /** Pixels of the centre square. */
  readonly crop: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** Most prompts whose text embedding is remembered. */
const MAX_REMEMBERED = 4096;

/** Reads a CLIP folder's preprocessor_config.json. @throws AppError('weights') where it is missing or says something else */
export function readPreprocessing(folder: string): Preprocessing {
  const file = join(folder, 'preprocessor_config.json');
  if (!existsSync(file)) throw new AppError('weights', `${folder} has no preprocessor_config.json.`, { hint: 'Give a CLIP folder as transformers saves it.' });
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  const side = (value: unknown, key: string): number | undefined =>
    typeof value === 'number' ? value : (value as Record<string, number> | undefined)?.[key];
  const shortSide = side(config['size'], 'shortest_edge') ?? side(config['size'], 'height');
  const crop = side(config['crop_size'], 'height') ?? shortSide;
  const [mean, std] = [config['image_mean'], config['image_std']];
  if (shortSide === undefined || crop === undefined || !Array.isArray(mean) || !Array.isArray(std)) {
    throw new AppError('weights', `${file} lacks size, image_mean or image_std.`);
  }
  return { shortSide, crop, mean: mean as number[], std: std as number[] };
}

/**
 * Pictures as CLIP sees them: bicubic resize of the short side, centre crop, (x - mean) / std. No resize where the size fits.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B,crop,crop,3]
 */
export function preprocess(images: Tensor4D, { shortSide, crop, mean, std }: Preprocessing): Tensor4D {
  return scope(() => tf.div<Tensor4D>(tf.sub(resizeAndCrop(images, shortSide, crop), tf.tensor1d([...mean])), tf.tensor1d([...std])));
}

/** x / |x| over the last axis. [B,P] -> [B,P] */
function unit(x: Tensor2D): Tensor2D {
  return tf.div(x, tf.sqrt(tf.sum(tf.square(x), -1, true)));
}

/**
 * Opens CLIPScore: cosine of the projected picture and text embeddings, no logit scale.
 * @param folder a transformers CLIP folder
 * @throws AppError('weights')
 * Source: Hessel et al., arXiv 2104.08718, without its factor 2.5 and clipping.
 */
async function openClipScore(engine: Engine, folder: string): Promise<Reward> {
  const preprocessing = readPreprocessing(folder);
  const { loadClip } = await import('../models/clip-vision.ts');
  const clip = await loadClip(engine, folder);
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
        const picture = unit(clip.encodeImage(preprocess(images, preprocessing)));
        return tf.sum(tf.mul(picture, text), -1) as Tensor1D;
      }),
    dispose: () => clip.dispose(),
  };
}

export const clipScoreDefinition: RewardDefinition = {
  name: 'clipscore', title: 'CLIPScore', what: 'The picture fits its prompt, by CLIP (cosine of the two embeddings).',
  habit: 'Overstates the words: repeated objects, text-like marks.',
  needs: 'the starter\'s CLIP, or a transformers CLIP folder', licence: 'that of the CLIP model', range: '-1 to 1', color: '#10b981',
  open: (engine, { model }) => openClipScore(engine, model ?? starterClip()),
};
