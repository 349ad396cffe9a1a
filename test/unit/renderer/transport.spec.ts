/** The WebSocket transport and the client over it: replies by id, events, loss and return. */
import { createPinia, setActivePinia } from 'pinia';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { api, ApiError, connection, useTransport, words } from '../../../src-renderer/api/client.ts';
import { webSocketTransport, type ConnectionState } from '../../../src-renderer/api/websocket.ts';
import { mockTransport } from '../../../src-renderer/dev/mock-transport.ts';
import { useDetailsStore } from '../../../src-renderer/stores/details.ts';
import { useRunsStore } from '../../../src-renderer/stores/runs.ts';

class FakeSocket {
  readyState = 0;
  sent: string[] = [];
  url: string;
  private listeners = new Map<string, ((event: { data?: unknown }) => void)[]>();
  constructor(url: string) {
    this.url = url;
  }
  send(line: string) {
    this.sent.push(line);
  }
  close() {
    this.fire('close');
  }
  addEventListener(type: string, listener: (event: { data?: unknown }) => void) {
    this.listeners.set(type, [...(this.listeners.get(type) ?? []), listener]);
  }
  fire(type: string, data?: unknown) {
    if (type === 'open') this.readyState = 1;
    for (const listener of this.listeners.get(type) ?? []) listener({ data: data === undefined ? undefined : JSON.stringify(data) });
  }
}

function setUp() {
  const sockets: FakeSocket[] = [];
  const states: ConnectionState[] = [];
  const transport = webSocketTransport({
    origin: 'http://127.0.0.1:1', token: 'a b', backoffMs: [10, 20], onState: (state) => states.push(state),
    open: (url) => sockets[sockets.push(new FakeSocket(url)) - 1]!,
  });
  return { sockets, states, transport };
}

describe('the WebSocket transport', () => {
  beforeEach(() => void vi.useFakeTimers());

  it('carries the token in its address and in pictures', () => {
    const { sockets, transport } = setUp();
    expect(sockets[0]!.url).toBe('ws://127.0.0.1:1/ws?token=a%20b');
    expect(transport.fileUrl('image/7')).toBe('http://127.0.0.1:1/image/7?token=a%20b');
    expect(transport.fileUrl('resource/starter/a b.png')).toBe('http://127.0.0.1:1/resource/starter/a%20b.png?token=a%20b');
  });

  it('keeps early requests until the socket opens and matches replies by id', async () => {
    const { sockets, transport } = setUp();
    const [first, second] = [transport.request('a', 1), transport.request('b', 2)];
    expect(sockets[0]!.sent).toEqual([]);
    sockets[0]!.fire('open');
    expect(sockets[0]!.sent.map((line) => JSON.parse(line))).toEqual([{ id: 1, name: 'a', input: 1 }, { id: 2, name: 'b', input: 2 }]);
    sockets[0]!.fire('message', { id: 2, reply: { ok: true, value: 'B' } });
    sockets[0]!.fire('message', { id: 1, reply: { ok: true, value: 'A' } });
    expect([await first, await second]).toEqual([{ ok: true, value: 'A' }, { ok: true, value: 'B' }]);
  });

  it('passes events on until the listener is taken off', () => {
    const { sockets, transport } = setUp();
    const seen: unknown[] = [];
    const off = transport.on((name, payload) => seen.push([name, payload]));
    sockets[0]!.fire('message', { event: 'system', payload: 1 });
    off();
    sockets[0]!.fire('message', { event: 'system', payload: 2 });
    expect(seen).toEqual([['system', 1]]);
  });

  it('answers what was under way when the connection is lost, and comes back with growing pauses', async () => {
    const { sockets, states, transport } = setUp();
    sockets[0]!.fire('open');
    const lost = transport.request('a', 1);
    sockets[0]!.fire('close');
    expect(await lost).toMatchObject({ ok: false, error: { code: 'disconnected' } });
    await vi.advanceTimersByTimeAsync(10);
    expect(sockets).toHaveLength(2);
    sockets[1]!.fire('close');
    await vi.advanceTimersByTimeAsync(10);
    expect(sockets).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(10);
    expect(sockets).toHaveLength(3);
    sockets[2]!.fire('open');
    expect(states).toEqual(['connecting', 'connected', 'lost', 'lost', 'connected']);
  });
});

describe('client and stores over the mock', () => {
  beforeEach(() => {
    vi.useRealTimers();
    setActivePinia(createPinia());
    useTransport(mockTransport('full', 0));
  });

  it('returns values and throws errors that say what to do', async () => {
    expect(connection.value).toBe('connected');
    expect((await api.request('runs.list', {})).length).toBeGreaterThan(2);
    const error = await api.request('runs.get', { id: 'nope' }).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ApiError);
    expect(words(error)).toEqual({ message: 'There is no run nope.', hint: 'It may have been deleted for good.' });
  });

  it('deletes to the trash and undoes', async () => {
    const runs = useRunsStore();
    await runs.load();
    const count = runs.list.length;
    await runs.remove(['r1']);
    expect(runs.list).toHaveLength(count - 1);
    const trash = async () => (await api.request('runs.search', { deleted: true })).runs.map((run) => run.id);
    expect(await trash()).toEqual(['r1']);
    await runs.restore(['r1']);
    expect(runs.list).toHaveLength(count);
    expect(await trash()).toEqual([]);
  });

  it('loses no event that comes while a run is being fetched', async () => {
    const details = useDetailsStore();
    const loading = details.load('r1');
    details.apply({ runId: 'r1', seq: 5, imageId: null, event: { type: 'phase', phase: 'painting' } });
    await loading;
    expect(details.byId.get('r1')?.phase).toBe('painting');
    expect(details.byId.get('r1')?.lastSeq).toBe(5);
  });

  it('shows a failing list as an error, not as an empty one', async () => {
    useTransport(mockTransport('failing', 0));
    const runs = useRunsStore();
    await runs.load();
    expect(runs.loaded).toBe(false);
    expect(runs.error?.message).toMatch(/could not be read/);
  });
});
