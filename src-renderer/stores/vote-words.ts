/** The result of a blind vote as sentences about b, in the language shown; in English the words of contract/vote.ts. */
import { votesNeeded, winner, type VoteResult } from '#contract/vote.ts';
import { t } from '../i18n.ts';

export function voteWords(result: VoteResult, a: string, b: string): string {
  if (result.votes === 0) return t('vote.none');
  const better = winner(result);
  const needed = votesNeeded(result.rate);
  const verdict = better !== null ? t('vote.isPreferred', { label: better === 'b' ? b : a }) : needed === null ? t('vote.even') : t('vote.tooFew', { n: needed });
  const percent = (x: number): number => Math.round(100 * x);
  return t(result.ties > 0 ? 'vote.preferredTies' : 'vote.preferred', { label: b, wins: result.b, votes: result.votes, ties: result.ties, low: percent(result.low), high: percent(result.high), verdict });
}
