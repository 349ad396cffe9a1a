/** Which runs are looked for, and the list as a table for other programs. Pure. */
import type { LocationQuery } from 'vue-router';
import type { RunQuery, RunSort, RunState, RunSummary } from '#contract/api.ts';

export const SORTS: readonly RunSort[] = ['newest', 'oldest', 'gain', 'name', 'length', 'disk'];
export type { RunQuery, RunSort } from '#contract/api.ts';

export const emptyQuery = (deleted = false): RunQuery => ({ search: '', deleted, states: [], models: [], rewards: [], tags: [], favourite: false, from: null, to: null, sort: 'newest' });

/** Whether anything but the order is asked for. */
export const isFiltered = (query: RunQuery): boolean => JSON.stringify({ ...query, sort: 'newest' }) !== JSON.stringify(emptyQuery(query.deleted));

const STATES: readonly RunState[] = ['queued', 'running', 'finished', 'stopped', 'failed'];
const KEYS = { states: 'state', models: 'model', rewards: 'reward', tags: 'tag' } as const;

/** What a page's address asks for; what it says otherwise is passed over. */
export function readAddress(address: LocationQuery, sort: RunSort): RunQuery {
  const all = (key: string): string[] => [address[key]].flat().filter((one): one is string => typeof one === 'string' && one !== '').slice(0, 5);
  const from = Number(all('from')[0] ?? NaN);
  return {
    ...emptyQuery(address['view'] === 'trash'), search: (all('q')[0] ?? '').slice(0, 500), states: STATES.filter((state) => all(KEYS.states).includes(state)),
    models: all(KEYS.models), rewards: all(KEYS.rewards), tags: all(KEYS.tags), favourite: address['favourite'] !== undefined, from: Number.isFinite(from) ? from : null, sort,
  };
}

/** The other way round; the order is the reader's own. */
export function writeAddress(query: RunQuery): Record<string, string | string[]> {
  const lists = (Object.keys(KEYS) as (keyof typeof KEYS)[]).flatMap((key) => (query[key].length > 0 ? [[KEYS[key], [...query[key]]] as const] : []));
  return {
    ...(query.deleted && { view: 'trash' }), ...(query.search !== '' && { q: query.search }), ...Object.fromEntries(lists), ...(query.favourite && { favourite: '1' }), ...(query.from !== null && { from: String(query.from) }),
  };
}

export const gain = (run: RunSummary): number | null => (run.heldOutBase !== null && run.heldOutLast !== null ? run.heldOutLast - run.heldOutBase : null);

/** What the history's search finds, for summaries at hand; prompts are not in them. */
export function arrange(runs: readonly RunSummary[], query: RunQuery): RunSummary[] {
  const words = query.search.toLowerCase().split(/\s+/).filter(Boolean);
  const any = <T>(wanted: readonly T[], has: (value: T) => boolean): boolean => wanted.length === 0 || wanted.some(has);
  const matches = (run: RunSummary): boolean => {
    const text = [run.id, run.name, run.model, run.note, ...run.tags, ...run.rewards.map((reward) => reward.name)].join(' ').toLowerCase();
    return (run.deletedAt !== null) === query.deleted && words.every((word) => text.includes(word)) && any(query.states, (state) => state === run.state) && any(query.models, (model) => model === run.model)
      && any(query.rewards, (name) => run.rewards.some((reward) => reward.name === name)) && any(query.tags, (tag) => run.tags.includes(tag)) && (!query.favourite || run.favourite)
      && (query.from === null || run.createdAt >= query.from) && (query.to === null || run.createdAt < query.to);
  };
  const up = (run: RunSummary): number => gain(run) ?? -Infinity;
  const order: Record<RunSort, (a: RunSummary, b: RunSummary) => number> = {
    newest: (a, b) => b.createdAt - a.createdAt, oldest: (a, b) => a.createdAt - b.createdAt, gain: (a, b) => up(b) - up(a) || b.createdAt - a.createdAt,
    name: (a, b) => a.name.localeCompare(b.name), length: (a, b) => b.seconds - a.seconds, disk: (a, b) => b.diskBytes - a.diskBytes,
  };
  return runs.filter(matches).sort(order[query.sort]);
}

export const COLUMNS = ['curve', 'gain', 'reward', 'state', 'when', 'length', 'steps', 'disk', 'engine', 'tags', 'note'] as const;
export type Column = (typeof COLUMNS)[number];
export const USUAL_COLUMNS: readonly Column[] = ['curve', 'gain', 'state', 'when', 'tags'];

const quoted = (text: string): string => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
/** What a spreadsheet would run as a formula is kept from it. */
const harmless = (text: string): string => (/^[=+\-@\t]/.test(text) ? `'${text}` : text);

/** Runs as CSV (RFC 4180), a row each. */
export function runsCsv(runs: readonly RunSummary[]): string {
  const date = (at: number | null): string => (at === null ? '' : new Date(at).toISOString());
  const head = ['id', 'name', 'state', 'model', 'rewards', 'tags', 'step', 'iterations', 'created', 'started', 'finished', 'seconds', 'reward_first', 'reward_last', 'held_out_base', 'held_out_last', 'disk_bytes', 'engine', 'favourite', 'note'];
  const lines = runs.map((run) => [
    run.id, harmless(run.name), run.state, harmless(run.model), run.rewards.map((each) => `${each.name}*${each.weight}`).join(' + '), harmless(run.tags.join(' ')), run.step, run.iterations, date(run.createdAt), date(run.startedAt),
    date(run.finishedAt), run.seconds.toFixed(1), run.rewardFirst ?? '', run.rewardLast ?? '', run.heldOutBase ?? '', run.heldOutLast ?? '', run.diskBytes, run.engine ?? '', run.favourite, harmless(run.note),
  ]);
  return [head, ...lines].map((line) => line.map((each) => quoted(String(each))).join(',')).join('\r\n').concat('\r\n');
}
