/** Other machines whose pages can be shown, and which one is. */
import { defineStore } from 'pinia';
import { computed, shallowRef } from 'vue';
import type { ServerInfo } from '#contract/servers.ts';
import { api } from '../api/client.ts';

export const useServersStore = defineStore('servers', () => {
  const list = shallowRef<ServerInfo[]>([]);
  /** The machine that is shown; null for this one. */
  const shown = computed(() => list.value.find((each) => each.id === api.server()) ?? null);

  /** One that was shown before the page was loaded again is connected again. */
  async function load(): Promise<void> {
    list.value = await api.request('servers.list', {});
    const id = api.server();
    if (id === null) return;
    if (shown.value) await api.request('servers.connect', { id });
    else api.showServer(null);
  }
  function apply(next: ServerInfo[]): void {
    const before = shown.value?.state;
    list.value = next;
    if (api.server() !== null && !shown.value) api.showServer(null);
    else if (shown.value?.state === 'connected' && before !== 'connected' && before !== undefined) api.cameBack();
  }
  async function show(id: string | null): Promise<void> {
    if (id !== null) await api.request('servers.connect', { id });
    if (id !== api.server()) api.showServer(id);
  }
  async function add(name: string, address: string, token: string): Promise<ServerInfo> {
    return api.request('servers.add', { name, address, token });
  }
  async function update(id: string, change: { name?: string; address?: string; token?: string }): Promise<void> {
    await api.request('servers.update', { id, ...change });
    await api.request('servers.connect', { id });
  }
  async function remove(id: string): Promise<void> {
    await api.request('servers.remove', { id });
  }
  const retry = (id: string): Promise<unknown> => api.request('servers.connect', { id });
  return { list, shown, load, apply, show, add, update, remove, retry };
});
