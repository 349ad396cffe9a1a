/** The transport of `--serve`: one WebSocket beside the page, opened again with growing pauses whenever it closes. */
import type { Reply, Transport } from '#contract/api.ts';
import { t } from '../i18n.ts';

export type ConnectionState = 'connecting' | 'connected' | 'lost';

interface SocketLike {
  readyState: number;
  send(data: string): void;
  close(): void;
  addEventListener(type: string, listener: (event: { data?: unknown }) => void): void;
}
export interface WebSocketOptions {
  origin: string;
  token: string;
  open(url: string): SocketLike;
  onState(state: ConnectionState): void;
  /** Pauses before each new attempt, in ms; the last one repeats. */
  backoffMs?: readonly number[];
}

const lost = (): Reply<unknown> => ({ ok: false, error: { code: 'disconnected', message: t('frame.connectionLost'), hint: t('frame.connectionHint') } });

export function webSocketTransport(options: WebSocketOptions): Transport {
  const backoff = options.backoffMs ?? [250, 500, 1000, 2000, 5000];
  const query = `?token=${encodeURIComponent(options.token)}`;
  const listeners = new Set<Parameters<Transport['on']>[0]>();
  const pending = new Map<number, (reply: Reply<unknown>) => void>();
  const unsent: string[] = [];
  let socket: SocketLike | undefined;
  let nextId = 1;
  let failures = 0;

  const connect = () => {
    const current = options.open(`${options.origin.replace(/^http/, 'ws')}/ws${query}`);
    socket = current;
    current.addEventListener('open', () => {
      failures = 0;
      for (const line of unsent.splice(0)) current.send(line);
      options.onState('connected');
    });
    current.addEventListener('message', ({ data }) => {
      const message = JSON.parse(String(data)) as { id?: number; reply?: Reply<unknown>; event?: string; payload?: unknown; server?: string };
      if (message.event !== undefined) {
        for (const listener of listeners) listener(message.event, message.payload, message.server);
      } else if (message.id !== undefined && message.reply) {
        pending.get(message.id)?.(message.reply);
        pending.delete(message.id);
      }
    });
    current.addEventListener('close', () => {
      if (socket !== current) return;
      socket = undefined;
      unsent.length = 0;
      for (const answer of pending.values()) answer(lost());
      pending.clear();
      options.onState('lost');
      setTimeout(connect, backoff[Math.min(failures++, backoff.length - 1)]);
    });
  };
  options.onState('connecting');
  connect();

  return {
    kind: 'served',
    request(name, input, server) {
      return new Promise((resolve) => {
        if (!socket) return resolve(lost());
        const id = nextId++;
        pending.set(id, resolve);
        const line = JSON.stringify({ id, name, input, server });
        if (socket.readyState === 1) socket.send(line);
        else unsent.push(line);
      });
    },
    on(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    fileUrl: (path) => `${options.origin}/${path.split('/').map(encodeURIComponent).join('/')}${query}`,
  };
}
