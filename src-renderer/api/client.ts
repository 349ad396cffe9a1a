/** The only file that touches the transport: typed requests that throw ApiError, typed events, picture addresses. */
import { shallowRef } from 'vue';
import { HERE_ONLY, type EventName, type EventPayload, type RequestInput, type RequestName, type RequestOutput, type Transport } from '#contract/api.ts';
import { fromMain, t, translation } from '../i18n.ts';
import { KINDS } from '../sentences.ts';
import { webSocketTransport, type ConnectionState } from './websocket.ts';

export class ApiError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  constructor(code: string, message: string, hint?: string) {
    super(message);
    this.name = 'ApiError';
    this.code = code;
    this.hint = hint;
  }
}

/** Whether the main process can be reached; the banner shows anything but "connected". */
export const connection = shallowRef<ConnectionState>('connecting');

/** The machine that is shown, by its id on the list of servers; null is this one. Kept for this tab. */
const SERVER = 'drtune.server';
let server: string | null = globalThis.sessionStorage?.getItem(SERVER) ?? null;

let transport: Transport | undefined;
const reconnected = new Set<() => void>();
let startAnew = (change: () => void): void => change();

function setConnection(state: ConnectionState): void {
  const before = connection.value;
  connection.value = state;
  if (state === 'connected' && before === 'lost') for (const listener of reconnected) listener();
}

/** Uses this transport from now on: tests, the dev mock, Electron's bridge. */
export function useTransport(value: Transport): void {
  transport = value;
  connection.value = 'connected';
}

/** Connects over Electron's bridge where there is one, otherwise over the WebSocket of the server that sent the page. */
export function connect(): void {
  if (window.drtune) return useTransport(window.drtune);
  transport = webSocketTransport({
    origin: window.location.origin, token: takeToken(), open: (url) => new WebSocket(url) as never, onState: setConnection,
  });
}

/** The token comes in the address once; it is kept for this tab only and taken out of the address and the history. */
function takeToken(): string {
  const url = new URL(window.location.href);
  const given = url.searchParams.get('token');
  if (given !== null) {
    sessionStorage.setItem('drtune.token', given);
    url.searchParams.delete('token');
    window.history.replaceState(window.history.state, '', url);
  }
  return given ?? sessionStorage.getItem('drtune.token') ?? '';
}

function current(): Transport {
  if (!transport) throw new ApiError('disconnected', t('frame.notConnected'));
  return transport;
}

async function ask<N extends RequestName>(name: N, input: RequestInput<N>, of: string | null): Promise<RequestOutput<N>> {
  // Vue proxies cannot be cloned by Electron's bridge; every input is plain JSON anyway.
  const reply = await current().request(name, JSON.parse(JSON.stringify(input)), of ?? undefined);
  if (!reply.ok) throw new ApiError(reply.error.code, reply.error.message, reply.error.hint);
  return reply.value as RequestOutput<N>;
}

/** Requests and events are of the machine that is shown, but for what concerns this one only. */
const machineOf = (name: string): string | null => (HERE_ONLY.has(name) ? null : server);
const file = (path: string): string => current().fileUrl(server === null ? path : `server/${server}/${path}`);

export const api = {
  request: <N extends RequestName>(name: N, input: RequestInput<N>): Promise<RequestOutput<N>> => ask(name, input, machineOf(name)),
  /** Of this machine, whichever is shown. */
  requestHere: <N extends RequestName>(name: N, input: RequestInput<N>): Promise<RequestOutput<N>> => ask(name, input, null),
  on<N extends EventName>(name: N, listener: (payload: EventPayload<N>) => void): () => void {
    return current().on((event, payload, from) => {
      if (event === name && (from ?? null) === machineOf(name)) listener(payload as EventPayload<N>);
    });
  },
  /** The machine that is shown, null for this one. */
  server: (): string | null => server,
  /** Shows another machine from now on: the pages, which hold the data of the one before, are started anew. */
  showServer(id: string | null): void {
    if (id === server) return;
    startAnew(() => {
      server = id;
      if (id === null) sessionStorage.removeItem(SERVER);
      else sessionStorage.setItem(SERVER, id);
    });
  },
  /** Who starts the pages anew: those that are there end before the change. */
  onServer(listener: (change: () => void) => void): void {
    startAnew = listener;
  },
  /** The machine that is shown can be asked again. */
  cameBack(): void {
    for (const listener of reconnected) listener();
  },
  /** Called each time a lost connection is back: what was shown may be old. */
  onReconnect(listener: () => void): () => void {
    reconnected.add(listener);
    return () => reconnected.delete(listener);
  },
  imageUrl: (id: number): string => file(`image/${id}`),
  resourceUrl: (path: string): string => file(`resource/${path}`),
  /** Where an export can be had, by the path it was written to. */
  exportUrl: (path: string): string => file(`export/${path.split(/[\\/]/).at(-1)}`),
  /** Path of a dropped file or folder; undefined in a browser, which keeps it to itself, and of no use to another machine. */
  pathOf: (dropped: File): string | undefined => (server === null ? current().pathOf?.(dropped) || undefined : undefined),
  /** What the machine that is shown can do: one with a window has the system's dialogs. */
  kind: (): Transport['kind'] => (server === null ? current().kind : 'served'),
};

/** Whether the user ended it: nothing went wrong. */
export const wasCancelled = (error: unknown): boolean => (error instanceof ApiError && error.code === 'cancelled') || (error instanceof DOMException && error.name === 'AbortError');

/** An error in the words to show: what happened, and what to do. One that the language has no words for is named by its kind, with the English below. */
export function words(error: unknown): { message: string; hint: string | undefined } {
  if (!(error instanceof ApiError)) return { message: error instanceof Error ? error.message : String(error), hint: undefined };
  const message = translation(error.message);
  const hint = error.hint && fromMain(error.hint);
  const kind = Object.hasOwn(KINDS, error.code) ? KINDS[error.code as keyof typeof KINDS] : undefined;
  if (message !== null || kind === undefined) return { message: message ?? error.message, hint };
  return { message: t(kind), hint: [error.message, hint].filter(Boolean).join(' ') };
}
