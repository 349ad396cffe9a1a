/** The best checkpoint of a run, and a run that goes on from it. Pure. */
import type { RunDetail } from '#contract/api.ts';
import { bestStep, watchedNames } from '#contract/best.ts';
import type { RunConfig } from '#contract/run.ts';

type Checkpoint = RunDetail['checkpoints'][number];

/** The checkpoint the trainer calls the best by what is held out, of those that are there; null before one can be told. */
export function bestCheckpoint(detail: RunDetail): Checkpoint | null {
  const heldOut = detail.samples.some((row) => row.heldOut);
  const rows = detail.samples.filter((row) => row.heldOut === heldOut);
  const base = rows.find((row) => row.role === 'base')?.measures ?? null;
  const there = new Set(detail.checkpoints.map((each) => each.step));
  const points = rows.filter((row) => row.role === 'tuned' && there.has(row.step)).sort((a, b) => a.step - b.step);
  const step = bestStep(points, base, watchedNames(detail.config));
  return detail.checkpoints.find((each) => each.step === step) ?? null;
}

/** What each normalised term of the run is divided by, by its key. */
export function spreadsOf(detail: RunDetail): Readonly<Record<string, number>> {
  return detail.samples.find((row) => row.measures.spread)?.measures.spread ?? {};
}

/**
 * Settings that do what a run's alarms advise: half the learning rate, more pull to the base, a random crop where the pictures filled with
 * texture, held-out rewards that fell trained too; from a checkpoint's weights where its file is named. The file knows its scale: an alpha of
 * the settings would undo a rank-stabilised one.
 */
export function gentler({ config, alarms }: Pick<RunDetail, 'config' | 'alarms'>, loraFile?: string): RunConfig {
  const { alpha: _, ...lora } = config.lora;
  const raised = new Set(alarms.map((alarm) => alarm.kind));
  const fell = config.heldOutRewards.filter((term) => raised.has(`held-out:${term.name}`));
  return {
    ...config, lora: loraFile === undefined ? config.lora : { ...lora, initFile: loraFile }, optimizer: { ...config.optimizer, lr: config.optimizer.lr / 2 }, kl: config.kl > 0 ? 2 * config.kl : 0.1,
    augment: raised.has('noise') ? { crop: Math.max(8, config.augment.crop) } : config.augment,
    rewards: [...config.rewards, ...fell], heldOutRewards: config.heldOutRewards.filter((term) => !fell.includes(term)),
  };
}
