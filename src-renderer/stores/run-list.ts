/** Which runs are shown and in what order. Pure. */
import type { RunState, RunSummary } from '#contract/api.ts';

export const SORTS = { newest: 'Newest first', oldest: 'Oldest first', gain: 'Most gained (held-out)', name: 'Name', length: 'Longest' } as const;
export type Sort = keyof typeof SORTS;
export type Filter = RunState | 'favourite';

const gain = (run: RunSummary) => (run.heldOutBase !== null && run.heldOutLast !== null ? run.heldOutLast - run.heldOutBase : -Infinity);

export function arrange(runs: readonly RunSummary[], search: string, filters: ReadonlySet<Filter>, sort: Sort): RunSummary[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (run: RunSummary) => {
    const text = [run.name, run.model, run.note, run.state, ...run.rewards.map((reward) => reward.name)].join(' ').toLowerCase();
    const states = [...filters].filter((filter) => filter !== 'favourite');
    return words.every((word) => text.includes(word)) && (states.length === 0 || states.includes(run.state)) && (!filters.has('favourite') || run.favourite);
  };
  const order: Record<Sort, (a: RunSummary, b: RunSummary) => number> = {
    newest: (a, b) => b.createdAt - a.createdAt, oldest: (a, b) => a.createdAt - b.createdAt, gain: (a, b) => gain(b) - gain(a) || b.createdAt - a.createdAt,
    name: (a, b) => a.name.localeCompare(b.name), length: (a, b) => b.seconds - a.seconds,
  };
  return runs.filter(matches).sort(order[sort]);
}
