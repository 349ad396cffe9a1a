/** What the pages show of a reward's example pictures: those it chose itself on this machine, else those that come with the app. */
import type { RewardInfo } from '#contract/api.ts';
import { api } from '../api/client.ts';
import { value } from '../format.ts';
import { t } from '../i18n.ts';

export interface ShownExamples {
  readonly low: { url: string; words: string };
  readonly high: { url: string; words: string };
  /** Where they come from, where that is not plain. */
  readonly note: string;
}

export function shownExamples({ own, examples, usesPrompt }: RewardInfo): ShownExamples | null {
  if (own) {
    const { low, high, model, object } = own;
    const by = object === undefined ? own.by : `${own.by}, ${object}`;
    const shown = (key: 'reward.ownLow' | 'reward.ownHigh', each: typeof low) => ({ url: each.url, words: t(key, { value: value(each.value) }) + (usesPrompt ? `: ${each.prompt}` : '') });
    return { low: shown('reward.ownLow', low), high: shown('reward.ownHigh', high), note: t('reward.own', { model, by }) };
  }
  if (!examples) return null;
  const { low, high, byHand, prompt } = examples;
  return {
    low: { url: api.resourceUrl(low), words: t(byHand ? 'reward.expectedLow' : 'reward.low') }, high: { url: api.resourceUrl(high), words: t(byHand ? 'reward.expectedHigh' : 'reward.high') },
    note: byHand ? t('reward.byHand') : prompt === undefined ? '' : t('reward.forPrompt', { prompt }),
  };
}
