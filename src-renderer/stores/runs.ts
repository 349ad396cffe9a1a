/** The list of runs (history or trash), kept fresh by `run.summary`. */
import { defineStore } from 'pinia';
import { computed, shallowRef } from 'vue';
import type { RunSummary } from '#contract/api.ts';
import { api, words } from '../api/client.ts';
import { applySummary } from './apply-run-event.ts';

export const useRunsStore = defineStore('runs', () => {
  const list = shallowRef<RunSummary[]>([]);
  const trash = shallowRef<RunSummary[]>([]);
  const loaded = shallowRef(false);
  const trashLoaded = shallowRef(false);
  const error = shallowRef<{ message: string; hint: string | undefined } | null>(null);
  const active = computed(() => list.value.find((run) => run.state === 'running') ?? list.value.find((run) => run.state === 'queued') ?? null);

  async function load(): Promise<void> {
    try {
      list.value = await api.request('runs.list', {});
      error.value = null;
      loaded.value = true;
    } catch (cause) {
      error.value = words(cause);
    }
  }
  async function loadTrash(): Promise<void> {
    try {
      trash.value = await api.request('runs.list', { deleted: true });
      error.value = null;
      trashLoaded.value = true;
    } catch (cause) {
      error.value = words(cause);
    }
  }
  function apply(summary: RunSummary): void {
    list.value = applySummary(list.value, summary, false);
    if (trashLoaded.value) trash.value = applySummary(trash.value, summary, true);
  }
  async function remove(ids: readonly string[]): Promise<void> {
    for (const id of ids) await api.request('runs.delete', { id });
    await Promise.all([load(), trashLoaded.value ? loadTrash() : undefined]);
  }
  async function restore(ids: readonly string[]): Promise<void> {
    for (const id of ids) await api.request('runs.restore', { id });
    await Promise.all([load(), trashLoaded.value ? loadTrash() : undefined]);
  }
  async function purge(ids: readonly string[]): Promise<void> {
    for (const id of ids) await api.request('runs.purge', { id });
    await loadTrash();
  }
  return { list, trash, loaded, trashLoaded, error, active, load, loadTrash, apply, remove, restore, purge };
});
