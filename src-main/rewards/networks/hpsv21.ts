/** HPS v2.1: people's preference between pictures of one prompt, by an OpenCLIP ViT-H-14 tuned on HPD v2. */
import { roundHalfEven } from '../../base/round.ts';
import { scope } from '../../engine/scope.ts';
import { tf, type Tensor4D } from '../../engine/tf.ts';
import { loadClip } from '../../models/clip-vision.ts';
import { resizeBicubic } from '../resize.ts';
import type { RewardDefinition } from '../reward.ts';
import { cosineReward, normalizePixels } from './clip-embeddings.ts';
import { clipColors, needModel } from './needs.ts';

/**
 * The long side to `size` by bicubic, then zeros (black) on both sides of the short one: the whole picture is judged, nothing is cropped.
 * @param images [B,H,W,3] in [0,1]
 * @returns [B,size,size,3]
 * Source: tgxs002/HPSv2 hpsv2/src/open_clip/transform.py ResizeMaxSize, which leaves out the padding where the long side has the size already.
 */
export function resizeAndPad(images: Tensor4D, size: number): Tensor4D {
  const [, H, W] = images.shape;
  const scale = size / Math.max(H, W);
  const [height, width] = [Math.max(1, roundHalfEven(H * scale)), Math.max(1, roundHalfEven(W * scale))];
  const [top, left] = [Math.floor((size - height) / 2), Math.floor((size - width) / 2)];
  return scope(() => tf.pad(resizeBicubic(images, height, width), [[0, 0], [top, size - height - top], [left, size - width - left], [0, 0]]));
}

/** Cosine, without logit scale. Source: Wu et al., arXiv 2306.09341; hpsv2/img_score.py. Values of v2.0 and v2.1 are not comparable. */
export const hpsv21Definition: RewardDefinition = {
  name: 'hpsv2.1', title: 'HPS v2.1', what: 'People\'s preference between pictures of the same prompt, learnt from HPD v2.',
  habit: 'One glossy look for everything.', needs: 'HPS_v2.1_compressed.pt of xswu/HPSv2, 2 GB, or model.safetensors of RE-N-Y/hpsv21, 3.9 GB', licence: 'Apache-2.0',
  range: 'about 0.2 to 0.4', color: '#14b8a6', memory: '2 GB from the .pt, 4 GB from float32, and 0.4 GB a picture', usesPrompt: true, needsModel: true,
  async open(engine, { model }) {
    const clip = loadClip(engine, needModel(hpsv21Definition, model), { activation: 'gelu' });
    const { imageSize } = clip.vision;
    return cosineReward('hpsv2.1', clip, (images) => scope(() => normalizePixels(resizeAndPad(images, imageSize), clipColors)));
  },
};
