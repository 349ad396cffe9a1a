/** Machine, engines, settings: what the status bar and the settings page show. */
import { defineStore } from 'pinia';
import { computed, shallowRef } from 'vue';
import type { Settings, SystemInfo } from '#contract/api.ts';
import { api } from '../api/client.ts';

export const useSystemStore = defineStore('system', () => {
  const info = shallowRef<SystemInfo | null>(null);
  const settings = shallowRef<Settings>({ theme: 'system', language: 'system', engine: 'auto', notifications: true, updates: false, welcomed: false });
  const engine = computed(() => info.value?.engines.find((one) => one.active) ?? null);

  async function load(): Promise<void> {
    const [system, there, here] = await Promise.all([api.request('system.get', {}), api.request('settings.get', {}), api.requestHere('settings.get', {})]);
    info.value = system;
    settings.value = { ...here, engine: there.engine };
  }
  /** The engine is the machine's that is shown; all else is of this window. */
  async function change({ engine: chosen, ...rest }: Partial<Settings>): Promise<void> {
    const here = await api.requestHere('settings.set', rest);
    const there = chosen === undefined ? settings.value : await api.request('settings.set', { engine: chosen });
    settings.value = { ...here, engine: there.engine };
    info.value = await api.request('system.get', {});
  }
  function apply(system: SystemInfo): void {
    info.value = system;
  }
  return { info, settings, engine, load, change, apply };
});
