/** Long work besides training, here and in the main process: how far each piece is, and its end on request. */
import { defineStore } from 'pinia';
import { computed, shallowRef } from 'vue';
import type { WorkInfo, WorkKind } from '#contract/work.ts';
import { api } from '../api/client.ts';

type Tell = (what: string, done: number, total: number) => void;

export const useWorkStore = defineStore('work', () => {
  const there = shallowRef<WorkInfo[]>([]);
  const here = shallowRef<{ info: WorkInfo; stop: AbortController }[]>([]);
  const list = computed(() => [...there.value, ...here.value.map(({ info }) => info)]);
  let count = 0;

  async function load(): Promise<void> {
    there.value = await api.request('work.list', {});
  }
  const apply = (next: WorkInfo[]): void => void (there.value = next);
  /** What is at work of a kind, about a run or model. */
  const of = (kind: WorkKind, about = ''): WorkInfo | null => list.value.find((one) => one.kind === kind && one.about === about) ?? null;

  async function cancel(id: string): Promise<void> {
    const own = here.value.find(({ info }) => info.id === id);
    if (own) own.stop.abort();
    else await api.request('work.cancel', { id });
  }
  /** Work of the page itself, on the same list. The job looks at the signal. */
  async function watch<T>(kind: WorkKind, job: (tell: Tell, signal: AbortSignal) => Promise<T>): Promise<T> {
    const [id, stop, begun] = [`here-${++count}`, new AbortController(), performance.now()];
    const show = (what: string, done: number, total: number): void => {
      const info: WorkInfo = { id, kind, about: '', what, done, total, etaSeconds: done > 0 ? ((total - done) / done) * ((performance.now() - begun) / 1000) : null };
      here.value = [...here.value.filter((one) => one.info.id !== id), { info, stop }];
    };
    show('', 0, 0);
    try {
      return await job(show, stop.signal);
    } finally {
      here.value = here.value.filter((one) => one.info.id !== id);
    }
  }
  return { list, load, apply, of, cancel, watch };
});
