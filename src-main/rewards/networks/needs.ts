/** Small things that rewards with a network of their own have in common. */
import { roundHalfEven } from '../../base/round.ts';
import { AppError } from '../../base/errors.ts';
import { scope } from '../../engine/scope.ts';
import type { Tensor4D } from '../../engine/tf.ts';
import type { ClipPreprocessor } from '../../models/clip-vision.ts';
import { cropCentre, resizeShortSide } from '../resize.ts';
import type { RewardDefinition } from '../reward.ts';
import { normalizePixels } from './clip-embeddings.ts';

/** The model path of a reward that has none of its own. @throws AppError('config') saying what to download */
export function needModel({ name, needs }: Pick<RewardDefinition, 'name' | 'needs'>, model: string | undefined): string {
  if (model) return model;
  throw new AppError('config', `The reward ${name} needs a model of its own.`, { hint: `Download ${needs}, and give its path as the reward's model.` });
}

/** Mean and deviation of colours that CLIP, HPS, PickScore and BLIP all subtract and divide by. */
export const clipColors = { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] } as const;

/** CLIP's preprocessing in transformers: short side to `size` by bicubic, centre crop. */
export function standardSight(size: number): Omit<ClipPreprocessor, 'resample'> {
  return { resize: { shortestEdge: size }, crop: { height: size, width: size }, ...clipColors };
}

/**
 * The same in torchvision, as OpenAI's and BLIP's code has it: the crop may lie a pixel further right or down.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B,size,size,3]
 */
export function seeAsTorchvision(images: Tensor4D, size: number): Tensor4D {
  return scope(() => normalizePixels(cropCentre(resizeShortSide(images, size), size, size, roundHalfEven), clipColors));
}
