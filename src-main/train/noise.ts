/** Noise of pictures whose seeds are not one after the other. */
import { scope } from '../engine/scope.ts';
import { tf, type Tensor4D } from '../engine/tf.ts';
import type { PipelineInfo } from '../pipeline/pipeline.ts';
import { initialNoise } from '../pipeline/sample.ts';

/** Unit noise [B,h,w,C], picture i from seeds[i] as one [1,C,h,w] draw. Sizes in pixels. */
export function noiseOfSeeds(info: PipelineInfo, seeds: readonly number[], width: number, height: number): Tensor4D {
  const { vaeFactor, latentChannels } = info;
  return scope(() => tf.concat(seeds.map((seed) => initialNoise(seed, 1, height / vaeFactor, width / vaeFactor, latentChannels)), 0));
}
