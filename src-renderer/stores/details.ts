/** Whole runs as fetched by `runs.get`, kept fresh by `run.event`. Newest few are kept for going back and forth. */
import { defineStore } from 'pinia';
import { shallowReactive } from 'vue';
import type { EventPayload, ImageRow, RunDetail, RunSummary } from '#contract/api.ts';
import { api } from '../api/client.ts';
import { applyRunEvent } from './apply-run-event.ts';

const KEPT = 8;

export const useDetailsStore = defineStore('details', () => {
  const byId = shallowReactive(new Map<string, RunDetail>());
  /** Events that come while the snapshot is under way. */
  const waiting = new Map<string, EventPayload<'run.event'>[]>();

  async function load(id: string): Promise<RunDetail> {
    waiting.set(id, waiting.get(id) ?? []);
    try {
      let detail = await api.request('runs.get', { id });
      for (const event of waiting.get(id) ?? []) detail = applyRunEvent(detail, event);
      byId.delete(id);
      byId.set(id, detail);
      for (const key of byId.keys()) {
        if (byId.size <= KEPT) break;
        byId.delete(key);
      }
      return detail;
    } finally {
      waiting.delete(id);
    }
  }
  function apply(payload: EventPayload<'run.event'>): void {
    waiting.get(payload.runId)?.push(payload);
    const detail = byId.get(payload.runId);
    if (!detail) return;
    const next = applyRunEvent(detail, payload);
    if (next !== detail) byId.set(payload.runId, next);
  }
  function applySummary(summary: RunSummary): void {
    const detail = byId.get(summary.id);
    if (detail) byId.set(summary.id, { ...detail, summary });
  }
  function addImages(id: string, images: readonly ImageRow[]): void {
    const detail = byId.get(id);
    if (!detail) return;
    const fresh = new Set(images.map((image) => image.id));
    byId.set(id, { ...detail, images: [...detail.images.filter((image) => !fresh.has(image.id)), ...images] });
  }
  async function reloadAll(): Promise<void> {
    await Promise.allSettled([...byId.keys()].map(load));
  }
  return { byId, load, apply, applySummary, addImages, reloadAll };
});
