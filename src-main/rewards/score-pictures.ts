/** The value of a reward for one picture, as plain numbers. */
import { AppError } from '../base/errors.ts';
import { scope } from '../engine/scope.ts';
import type { Tensor4D } from '../engine/tf.ts';
import type { Reward } from './reward.ts';

export interface PictureScore {
  readonly reward: string;
  readonly value: number;
  /** What the reward stands for, where that can be counted: true JPEG bits per pixel. */
  readonly exact?: number;
}

/**
 * @param picture [1,H,W,3] in [0,1]
 * @param name how an error calls the picture
 * @throws AppError('run') where the value is not a number
 */
export async function scorePicture(reward: Reward, picture: Tensor4D, prompt: string, name: string): Promise<PictureScore> {
  const value = scope(() => reward.score(picture, [prompt]).dataSync()[0]!);
  if (!Number.isFinite(value)) throw new AppError('run', `The reward ${reward.name} of ${name} is not a number.`, { hint: 'Check the weights of its model: a value in them is no number, or too large.' });
  const exact = (await reward.exact?.(picture))?.[0];
  return { reward: reward.name, value, ...(exact !== undefined && { exact }) };
}
