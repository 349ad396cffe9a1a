/** A sweep over settings of the run that is prepared: how many runs it makes, how long they take in all, and queueing them. */
import { useDebounceFn } from '@vueuse/core';
import { computed, ref, shallowRef, watch, type Ref } from 'vue';
import { describeIssues, runConfigSchema, type RunConfig } from '#contract/run.ts';
import { assign, MOST_RUNS, sweepCount, sweepRuns, sweepValues } from '#contract/sweep.ts';
import type { RunSummary } from '#contract/api.ts';
import { api } from '../api/client.ts';
import { fromMain, t } from '../i18n.ts';

export interface SweepRow { key: string; text: string }
export interface SweptRun { readonly name: string; readonly config: RunConfig }

/** The runs of a sweep, or what is wrong with it; null for none. Rows without a setting do not count. Pure but for its words. */
export function sweptRuns(config: RunConfig, rows: readonly SweepRow[], as: 'grid' | 'list'): { runs: SweptRun[] } | { problem: string } | null {
  const sweeps = rows.filter((row) => row.key.trim() !== '').map((row) => ({ key: row.key.trim(), values: sweepValues(row.text) }));
  if (sweeps.length === 0) return null;
  const empty = sweeps.find(({ values }) => values.length === 0);
  if (empty) return { problem: t('sweep.empty', { key: empty.key }) };
  const twice = sweeps.find(({ key }, i) => sweeps.findIndex((one) => one.key === key) < i);
  if (twice) return { problem: t('sweep.twice', { key: twice.key }) };
  const count = sweepCount(sweeps, as);
  if (Number.isNaN(count)) return { problem: t('sweep.uneven', { counts: sweeps.map(({ key, values }) => `${key} ${values.length}`).join(', ') }) };
  if (count > MOST_RUNS) return { problem: t('sweep.tooMany', { n: count, most: MOST_RUNS }) };
  const runs: SweptRun[] = [];
  for (const run of sweepRuns(sweeps, as)) {
    const name = run.map(({ key, value }) => `${key}=${value}`).join(' ');
    const raw = JSON.parse(JSON.stringify(config)) as Record<string, unknown>;
    const wrong = run.map((one) => assign(raw, one)).find((problem) => problem !== null);
    const parsed = runConfigSchema.safeParse(raw);
    if (wrong || !parsed.success) return { problem: `${name}: ${fromMain(wrong ?? describeIssues(parsed.error!))}.` };
    runs.push({ name, config: parsed.data });
  }
  return { runs };
}

export function useSweep(config: Ref<RunConfig | null>) {
  const rows = ref<SweepRow[]>([]);
  const as = ref<'grid' | 'list'>('grid');
  const found = computed(() => (config.value ? sweptRuns(config.value, rows.value, as.value) : null));
  const runs = computed(() => (found.value && 'runs' in found.value ? found.value.runs : []));
  const problem = computed(() => (found.value && 'problem' in found.value ? found.value.problem : undefined));
  /** Of all runs together; null where it is not known. */
  const seconds = shallowRef<number | null>(null);
  let asked = 0;
  const ask = useDebounceFn(async () => {
    const own = ++asked;
    seconds.value = null;
    const forecasts = await Promise.all(runs.value.map((run) => api.request('forecast', { config: run.config }).catch(() => null)));
    if (own !== asked || forecasts.length === 0) return;
    const times = forecasts.map((one) => one?.seconds ?? null);
    seconds.value = times.includes(null) ? null : times.reduce<number>((sum, one) => sum + one!, 0);
  }, 600);
  watch(runs, ask);

  /** Queues every run; one that is refused ends it, what is queued stays. */
  async function start(name: string): Promise<RunSummary[]> {
    const queued: RunSummary[] = [];
    for (const run of runs.value) queued.push(await api.request('runs.start', { name: [name.trim(), run.name].filter(Boolean).join(' ').slice(0, 200), config: run.config }));
    return queued;
  }
  return { rows, as, runs, problem, seconds, start };
}
