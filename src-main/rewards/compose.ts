/** Several rewards as one: their weighted sum, with hinges. */
import { AppError } from '../base/errors.ts';
import type { RewardTerm } from '../contract/run.ts';
import type { Engine } from '../engine/engine.ts';
import { scope } from '../engine/scope.ts';
import { tf, type Tensor1D, type Tensor4D } from '../engine/tf.ts';
import { openReward } from './index.ts';
import type { Reward } from './reward.ts';

export interface OpenTerm {
  /** The reward's name; a second term of the same reward is "name#2". */
  readonly key: string;
  readonly weight: number;
  readonly target: number | undefined;
  readonly reward: Reward;
}

export interface Scores {
  /** [B] sum of weight * min(value, target) */
  readonly total: Tensor1D;
  /** [B] of each term's own value: no weight, no hinge. */
  readonly terms: Readonly<Record<string, Tensor1D>>;
}

export interface RewardSum {
  readonly terms: readonly OpenTerm[];
  /** Pictures [B,H,W,3] in [0,1]. Differentiable with respect to them. */
  score(images: Tensor4D, prompts: readonly string[]): Scores;
  dispose(): void;
}

/** Opens every term. @throws AppError if one cannot be opened; those already open are closed again. */
export async function openRewards(engine: Engine, terms: readonly RewardTerm[]): Promise<RewardSum> {
  const open: OpenTerm[] = [];
  try {
    for (const term of terms) {
      const again = open.filter((each) => each.reward.name === term.name).length;
      const key = again === 0 ? term.name : `${term.name}#${again + 1}`;
      open.push({ key, weight: term.weight, target: term.target, reward: await openReward(engine, term) });
    }
  } catch (error) {
    for (const each of open) each.reward.dispose();
    throw error;
  }
  return sumRewards(open);
}

/** total = sum over terms of weight * min(value, target), for each picture. */
export function sumRewards(terms: readonly OpenTerm[]): RewardSum {
  const score = (images: Tensor4D, prompts: readonly string[]): Scores => {
    if (prompts.length !== images.shape[0]) throw new AppError('internal', `${prompts.length} prompts for ${images.shape[0]} pictures`);
    return scope(() => {
      const values: Record<string, Tensor1D> = {};
      let total = tf.zeros([images.shape[0]]) as Tensor1D;
      for (const { key, weight, target, reward } of terms) {
        const value = reward.score(images, prompts);
        values[key] = value;
        total = tf.add(total, tf.mul(target === undefined ? value : tf.minimum(value, target), weight));
      }
      return { total, terms: values };
    });
  };
  return { terms, score, dispose: () => terms.forEach((each) => each.reward.dispose()) };
}
