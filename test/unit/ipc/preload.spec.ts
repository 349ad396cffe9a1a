/** The bridge into the page, with Electron replaced: what the page gets. What passes is in contract.spec.ts. */
import { expect, it, vi } from 'vitest';
import type { Transport } from '../../../src-main/contract/api.ts';

const state = vi.hoisted(() => ({ world: {} as Record<string, unknown>, heard: [] as ((...args: unknown[]) => void)[], sent: [] as unknown[], path: '/m/a.safetensors' }));
vi.mock('electron', () => ({
  contextBridge: { exposeInMainWorld: (name: string, value: unknown) => (state.world[name] = value) },
  ipcRenderer: {
    on: (_: string, listener: (...args: unknown[]) => void) => state.heard.push(listener), send: (...args: unknown[]) => state.sent.push(args),
  },
  webUtils: { getPathForFile: () => state.path },
}));
await import('../../../src-main/preload/index.ts');
const bridge = state.world['drtune'] as Transport;

it('gives the page one object, without ipcRenderer or Node', () => {
  expect(Object.keys(state.world)).toEqual(['drtune']);
  expect(Object.keys(bridge).sort()).toEqual(['fileUrl', 'kind', 'on', 'pathOf', 'request']);
});

it('has one listener for all who listen: Electron warns above ten', () => {
  const told: unknown[] = [];
  const stops = Array.from({ length: 20 }, (_, i) => bridge.on((name, payload, server) => told.push([i, name, payload, server])));
  expect(state.heard).toHaveLength(1);
  state.heard[0]!({ sender: 'not told' }, 'secret', {});
  expect(told).toEqual([]);
  stops.slice(1).forEach((stop) => stop());
  state.heard[0]!({}, 'system', { b: 2 }, 'box');
  expect(told).toEqual([[0, 'system', { b: 2 }, 'box']]);
});

it('tells the main process of a file that the user gave, not of what a page makes up', () => {
  expect(bridge.pathOf!(new File([], 'a'))).toBe('/m/a.safetensors');
  state.path = '';
  expect(bridge.pathOf!(new File([], 'a'))).toBe('');
  expect(state.sent).toEqual([['drtune:dropped', '/m/a.safetensors']]);
  expect(bridge.fileUrl('image/7 a')).toBe('app://studio/image/7%20a');
});
