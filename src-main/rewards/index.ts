/** The registry of rewards. A new reward is one file, one line here and its golden test. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { RewardInfo } from '../contract/api.ts';
import { nearestKey, type RewardTerm } from '../contract/run.ts';
import type { Engine } from '../engine/engine.ts';
import { resourcesFolder } from '../models/known.ts';
import { brightnessDefinition, colorfulnessDefinition } from './color.ts';
import { commandDefinition } from './command.ts';
import { compressibilityDefinition, incompressibilityDefinition } from './compressibility.ts';
import { contrastDefinition, sharpnessDefinition } from './contrast.ts';
import { detailDefinition } from './detail.ts';
import { aestheticDefinition } from './networks/aesthetic.ts';
import { clipScoreDefinition } from './networks/clip-score.ts';
import { hpsv21Definition } from './networks/hpsv21.ts';
import { imageRewardDefinition } from './networks/imagereward.ts';
import { needModel } from './networks/needs.ts';
import { objectnessDefinition } from './networks/objectness.ts';
import { pickScoreDefinition } from './networks/pickscore.ts';
import { jpegSizeDefinition } from './jpeg-size.ts';
import { paletteDefinition } from './palette.ts';
import { referenceDefinition } from './reference.ts';
import type { Reward, RewardDefinition, RewardSetting, RewardSettings } from './reward.ts';
import { relativeSymmetryDefinition, rotationalSymmetryDefinition, symmetryDefinition, verticalSymmetryDefinition } from './symmetry.ts';

export const REWARDS: readonly RewardDefinition[] = [
  symmetryDefinition,
  relativeSymmetryDefinition,
  verticalSymmetryDefinition,
  rotationalSymmetryDefinition,
  compressibilityDefinition,
  incompressibilityDefinition,
  jpegSizeDefinition,
  brightnessDefinition,
  colorfulnessDefinition,
  contrastDefinition,
  sharpnessDefinition,
  detailDefinition,
  paletteDefinition,
  referenceDefinition,
  clipScoreDefinition,
  hpsv21Definition,
  pickScoreDefinition,
  aestheticDefinition,
  imageRewardDefinition,
  objectnessDefinition,
  commandDefinition,
];

/** The reward of that name. @throws AppError('config') naming the nearest one */
export function rewardDefinition(name: string): RewardDefinition {
  const found = REWARDS.find((each) => each.name === name);
  if (found) return found;
  const names = REWARDS.map((each) => each.name);
  const near = nearestKey(name, names);
  throw new AppError('config', `There is no reward "${name}".`, { hint: near ? `Did you mean "${near}"?` : `There are: ${names.join(', ')}.` });
}

const SETTINGS = ['palette', 'reference', 'head', 'object', 'command'] as const satisfies readonly RewardSetting[];

/** Checks all of a term that can be checked before its reward is opened. @throws AppError('config') */
export function checkTerm(term: Pick<RewardTerm, 'name'> & RewardSettings): RewardDefinition {
  const definition = rewardDefinition(term.name);
  const { takes = [], mayTake = [] } = definition;
  if (definition.needsModel) needModel(definition, term.model);
  for (const setting of SETTINGS) {
    if (term[setting] === undefined) {
      if (takes.includes(setting)) throw new AppError('config', `The reward "${term.name}" needs "${setting}".`, { hint: NEEDS[setting] });
      continue;
    }
    if (takes.includes(setting) || mayTake.includes(setting)) continue;
    const able = REWARDS.filter((each) => each.takes?.includes(setting) || each.mayTake?.includes(setting)).map((each) => each.name);
    throw new AppError('config', `The reward "${term.name}" takes no "${setting}".`, { hint: `Leave it out, or use ${able.join(' or ')}.` });
  }
  return definition;
}

const NEEDS: Readonly<Record<(typeof SETTINGS)[number], string>> = {
  palette: 'Give it colours, e.g. "palette": ["#1b4332", "#ffb703"].',
  reference: 'Name a picture file, e.g. "reference": "sunset.jpg".',
  head: 'Name the file of its head, e.g. "head": "sac+logos+ava1-l14-linearMSE.pth".',
  object: 'Name a thing, e.g. "object": "cat".',
  command: 'Give it a program and its arguments, e.g. "command": ["python3", "score.py"].',
};

/** Opens one term's reward. @throws AppError('config' | 'weights' | 'disk') */
export async function openReward(engine: Engine, term: Pick<RewardTerm, 'name'> & RewardSettings): Promise<Reward> {
  const { model, palette, reference, head, object, command } = term;
  return checkTerm(term).open(engine, { model, palette, reference, head, object, command });
}

/** The pictures that resources/rewards/make-examples.ts made, where it made some; it cannot score for a model that is a download. */
function examplesOf({ name, examplePrompt: prompt, needsModel }: RewardDefinition): RewardInfo['examples'] {
  const [low, high] = [`rewards/${name}-low.webp`, `rewards/${name}-high.webp`];
  return existsSync(join(resourcesFolder(), high)) ? { low, high, ...(prompt !== undefined && { prompt }), ...(needsModel && { byHand: true }) } : null;
}

/** What the pages and `score --help` list. */
export function rewardInfos(): RewardInfo[] {
  return REWARDS.map((definition) => {
    const { name, title, what, habit, needs, licence, range, color, needsModel = false, usesPrompt = false, gradientFree = false, takes = [], mayTake = [], memory = 'next to nothing' } = definition;
    return {
      name, title, what, habit, needs, licence, range, color, needsModel, usesPrompt, gradientFree, takes: [...takes], mayTake: [...mayTake], memory, usable: true, problem: null,
      examples: examplesOf(definition),
    };
  });
}
