/** Downloads of models: at work, paused, failed, done in this session. */
import { defineStore } from 'pinia';
import { computed, shallowRef } from 'vue';
import type { ModelDownload } from '#contract/api.ts';
import { api } from '../api/client.ts';
import { t } from '../i18n.ts';
import { useCatalogStore } from './catalog.ts';
import { useToastsStore } from './toasts.ts';

export const useDownloadsStore = defineStore('downloads', () => {
  const list = shallowRef<ModelDownload[]>([]);
  const active = computed(() => list.value.find((one) => one.state === 'running') ?? null);

  async function load(): Promise<void> {
    list.value = await api.request('models.downloads', {});
  }
  /** One that has just become whole is a model from now on. */
  function apply(next: ModelDownload[]): void {
    const before = new Map(list.value.map((one) => [one.id, one.state]));
    list.value = next;
    for (const { id, repo, state } of next) {
      if (before.get(id) !== 'running') continue;
      if (state === 'done') {
        void useCatalogStore().loadModels();
        useToastsStore().show(t('models.whole', { repo }));
      } else if (state === 'failed' && !window.location.hash.startsWith('#/models')) useToastsStore().show(t('models.downloadStopped', { repo }), { kind: 'bad', ms: 12_000 });
    }
  }
  return { list, active, load, apply };
});
