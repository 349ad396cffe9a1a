/** Names of the contract, of the handlers and of the bridge are one list; the types are checked by the compiler. */
import { describe, expect, expectTypeOf, it, vi } from 'vitest';
import { makeHandlers } from '../../../src-main/app/handlers.ts';
import { EVENTS, REQUESTS, type EventName, type Handlers, type RequestName, type Transport } from '../../../src-main/contract/api.ts';

const invoked: unknown[][] = [];
let exposed: Transport | undefined;
const listeners: ((event: unknown, ...rest: unknown[]) => void)[] = [];
vi.mock('electron', () => ({
  contextBridge: { exposeInMainWorld: (_: string, api: Transport) => (exposed = api) },
  ipcRenderer: {
    invoke: async (...args: unknown[]) => {
      invoked.push(args);
      return { ok: true, value: 1 };
    },
    on: (_: string, listener: () => void) => listeners.push(listener),
  },
}));

describe('contract', () => {
  it('has a handler for every request and no other', () => {
    const handlers = makeHandlers({ service: { recorder: { history: { home: '' } } }, catalog: {}, system: {} } as never);
    expect(Object.keys(handlers).sort()).toEqual(Object.keys(REQUESTS).sort());
    expectTypeOf<keyof Handlers>().toEqualTypeOf<RequestName>();
    expectTypeOf(handlers).toEqualTypeOf<Handlers>();
    expectTypeOf<EventName>().toEqualTypeOf<'run.event' | 'run.summary' | 'work' | 'system' | 'models.downloads' | 'files.given' | 'go' | 'servers'>();
  });

  it('is all the preload script passes on', async () => {
    await import('../../../src-main/preload/index.ts');
    const bridge = exposed!;
    expect(bridge.kind).toBe('electron');
    expect(await bridge.request('shell.exec', {})).toMatchObject({ ok: false, error: { code: 'not-found' } });
    expect(await bridge.request('constructor', {})).toMatchObject({ ok: false });
    expect(invoked).toEqual([]);
    for (const name of Object.keys(REQUESTS)) await bridge.request(name, {});
    expect(invoked.map(([channel]) => channel)).toEqual(Object.keys(REQUESTS).map(() => 'drtune:request'));
    const seen: string[] = [];
    const stop = bridge.on((name) => seen.push(name));
    for (const name of [...Object.keys(EVENTS), 'other']) listeners.forEach((listener) => listener({}, name, {}));
    expect(seen).toEqual(Object.keys(EVENTS));
    stop();
    for (const listener of listeners) listener({}, 'system', {});
    expect(seen).toHaveLength(Object.keys(EVENTS).length);
    expect(bridge.fileUrl('image/7')).toBe('app://studio/image/7');
    expect(bridge.fileUrl('export/../a b')).toBe('app://studio/export/../a%20b');
    await bridge.request('runs.list', {}, '0123456789ab');
    expect(invoked.at(-1)).toEqual(['drtune:request', 'runs.list', {}, '0123456789ab']);
  });
});
