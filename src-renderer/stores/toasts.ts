/** Short messages at the lower edge, some with one action ("Undo"). */
import { defineStore } from 'pinia';
import { ref } from 'vue';
import { wasCancelled, words } from '../api/client.ts';
import { t } from '../i18n.ts';

export interface Toast { id: number; message: string; hint?: string | undefined; kind: 'plain' | 'bad'; action?: { label: string; run: () => void } | undefined }

export const useToastsStore = defineStore('toasts', () => {
  const list = ref<Toast[]>([]);
  let nextId = 1;
  function dismiss(id: number): void {
    list.value = list.value.filter((toast) => toast.id !== id);
  }
  function show(message: string, options: Partial<Omit<Toast, 'id' | 'message'>> & { ms?: number } = {}): void {
    const id = nextId++;
    const { ms = options.action ? 10_000 : 5000, ...rest } = options;
    list.value = [...list.value.slice(-2), { id, message, kind: 'plain', ...rest }];
    setTimeout(() => dismiss(id), ms);
  }
  function fail(error: unknown): void {
    if (wasCancelled(error)) return show(t('work.cancelled'));
    const { message, hint } = words(error);
    show(message, { hint, kind: 'bad', ms: 12_000 });
  }
  return { list, show, fail, dismiss };
});
