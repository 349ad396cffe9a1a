/** CLIPScore: how well a picture fits its prompt, by a CLIP model. */
import { loadClip } from '../../models/clip-vision.ts';
import { starterClip } from '../../models/known.ts';
import type { RewardDefinition } from '../reward.ts';
import { cosineReward, needBicubic, preprocess } from './clip-embeddings.ts';

/** Cosine of the projected picture and text embeddings. Source: Hessel et al., arXiv 2104.08718, without its factor 2.5 and clipping. */
export const clipScoreDefinition: RewardDefinition = {
  name: 'clipscore', title: 'CLIPScore', what: 'The picture fits its prompt, by CLIP (cosine of the two embeddings).',
  habit: 'Overstates the words: repeated objects, text-like marks.',
  needs: 'the starter\'s CLIP, built in; or openai/clip-vit-large-patch14, 1.7 GB, or any other CLIP folder or file', licence: 'that of the CLIP model', range: '-1 to 1', color: '#10b981', memory: 'next to nothing; with CLIP L/14 1.7 GB, and 0.2 GB a picture', usesPrompt: true, examplePrompt: 'a flat icon of a sunflower on a pink background',
  async open(engine, { model }) {
    const clip = loadClip(engine, model ?? starterClip());
    needBicubic(clip);
    return cosineReward('clipscore', clip, (images) => preprocess(images, clip.preprocessor));
  },
};
