/** The registry of rewards. A new reward is one file, one line here and its golden test. */
import { AppError } from '../base/errors.ts';
import type { RewardInfo } from '../contract/api.ts';
import { nearestKey, type RewardTerm } from '../contract/run.ts';
import type { Engine } from '../engine/engine.ts';
import { clipScoreDefinition } from './clip-score.ts';
import { brightnessDefinition, colorfulnessDefinition } from './color.ts';
import { compressibilityDefinition, incompressibilityDefinition } from './compressibility.ts';
import { detailDefinition } from './detail.ts';
import type { Reward, RewardDefinition } from './reward.ts';
import { relativeSymmetryDefinition, symmetryDefinition } from './symmetry.ts';

export const REWARDS: readonly RewardDefinition[] = [
  symmetryDefinition,
  relativeSymmetryDefinition,
  compressibilityDefinition,
  incompressibilityDefinition,
  brightnessDefinition,
  colorfulnessDefinition,
  detailDefinition,
  clipScoreDefinition,
];

type LaterReward = Omit<RewardDefinition, 'open'>;

/** Known in the field, not in this version: they need large models of their own. */
export const LATER_REWARDS: readonly LaterReward[] = [
  {
    name: 'pickscore', title: 'PickScore', what: 'People\'s preference between pictures, learnt from Pick-a-Pic.',
    habit: 'Saturated, busy pictures.', needs: 'yuvalkirstain/PickScore_v1 (CLIP ViT-H)', licence: 'none stated on its card', range: 'about 20 to 23', color: '#f97316',
  },
  {
    name: 'hpsv2.1', title: 'HPS v2.1', what: 'People\'s preference between pictures, learnt from HPD v2.',
    habit: 'One glossy look for everything.', needs: 'xswu/HPSv2 (OpenCLIP ViT-H-14)', licence: 'Apache-2.0', range: 'about 0.2 to 0.4', color: '#14b8a6',
  },
  {
    name: 'aesthetic', title: 'LAION aesthetic', what: 'Mean rating of beauty by a linear head on CLIP.',
    habit: 'Painterly, dark, the prompt forgotten.', needs: 'CLIP ViT-L/14 and its head', licence: 'Apache-2.0', range: '1 to 10', color: '#d946ef',
  },
  {
    name: 'imagereward', title: 'ImageReward', what: 'People\'s preference by a BLIP model.',
    habit: 'Repeats the prompt\'s nouns.', needs: 'THUDM/ImageReward (BLIP ViT-L)', licence: 'Apache-2.0', range: 'about -2 to 2', color: '#84cc16',
  },
  {
    name: 'objectness', title: 'Objectness', what: 'An object detector is sure to see the named thing.',
    habit: 'Many copies of the object.', needs: 'hustvl/yolos-tiny', licence: 'Apache-2.0', range: '0 to 1', color: '#64748b',
  },
];

/** The reward of that name. @throws AppError('config') naming the nearest one, or saying that it comes later */
export function rewardDefinition(name: string): RewardDefinition {
  const found = REWARDS.find((each) => each.name === name);
  if (found) return found;
  const names = REWARDS.map((each) => each.name);
  if (LATER_REWARDS.some((each) => each.name === name)) {
    throw new AppError('config', `The reward "${name}" is not in this version.`, { hint: `This version has: ${names.join(', ')}.` });
  }
  const near = nearestKey(name, names);
  throw new AppError('config', `There is no reward "${name}".`, { hint: near ? `Did you mean "${near}"?` : `There are: ${names.join(', ')}.` });
}

/** Opens one term's reward. @throws AppError('config' | 'weights') */
export function openReward(engine: Engine, term: Pick<RewardTerm, 'name' | 'model'>): Promise<Reward> {
  return rewardDefinition(term.name).open(engine, { model: term.model });
}

/** What the pages and `score --help` list. */
export function rewardInfos(): RewardInfo[] {
  const describe = ({ name, title, what, habit, needs, licence, range, color }: LaterReward, problem: string | null): RewardInfo => ({
    name, title, what, habit, needs, licence, range, color, usable: problem === null, problem,
  });
  return [
    ...REWARDS.map((each) => describe(each, null)),
    ...LATER_REWARDS.map((each) => describe(each, 'Not in this version.')),
  ];
}
