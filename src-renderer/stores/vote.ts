/** Counting a blind vote. Pure. */

export type Choice = 'a' | 'b' | 'tie';
export interface Ballot { key: string; prompt: string; choice: Choice }
export interface VoteResult { a: number; b: number; ties: number; votes: number; rate: number; low: number; high: number }

/** Share of votes for b with Wilson's 95 % interval; a tie counts half for each side. */
export function countVotes(ballots: readonly Ballot[]): VoteResult {
  const tally = { a: 0, b: 0, tie: 0 };
  for (const { choice } of ballots) tally[choice]++;
  const votes = ballots.length;
  if (votes === 0) return { a: 0, b: 0, ties: 0, votes, rate: 0.5, low: 0, high: 1 };
  const z = 1.959964;
  const rate = (tally.b + tally.tie / 2) / votes;
  const middle = (rate + z ** 2 / (2 * votes)) / (1 + z ** 2 / votes);
  const half = (z / (1 + z ** 2 / votes)) * Math.sqrt((rate * (1 - rate)) / votes + z ** 2 / (4 * votes ** 2));
  return { a: tally.a, b: tally.b, ties: tally.tie, votes, rate, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** The result as a sentence about b. */
export function voteSentence(result: VoteResult, a: string, b: string): string {
  const percent = (x: number) => Math.round(100 * x);
  const ties = result.ties > 0 ? `, ${result.ties} undecided` : '';
  const verdict = result.low > 0.5 ? `${b} is better` : result.high < 0.5 ? `${a} is better` : 'too close to say';
  return `${b} preferred ${result.b} of ${result.votes}${ties}; 95 % interval ${percent(result.low)}–${percent(result.high)} %: ${verdict}.`;
}
