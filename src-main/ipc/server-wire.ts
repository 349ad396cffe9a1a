/** The way to another machine's served app: a WebSocket with its token in a header, and fetch for its files. Redirects are never followed. */
import { WebSocket } from 'ws';
import type { Wire } from '../app/server-links.ts';

/** Base64 of a comparison's file is the largest reply. */
const MAX_MESSAGE = 128 * 2 ** 20;
const HANDSHAKE_MS = 10_000;
/** A machine that is silent for two beats is lost: a cable that was cut closes nothing. */
const BEAT_MS = 15_000;

export function serverWire({ beatMs = BEAT_MS, handshakeMs = HANDSHAKE_MS }: { beatMs?: number; handshakeMs?: number } = {}): Wire {
  return {
    dial({ address, token }, hear) {
      const socket = new WebSocket(`${address.replace(/^http/, 'ws')}/ws`, {
        headers: { authorization: `Bearer ${token}` }, handshakeTimeout: handshakeMs, maxPayload: MAX_MESSAGE, followRedirects: false, perMessageDeflate: false,
      });
      let over = false;
      let alive = true;
      const beat = setInterval(() => {
        if (socket.readyState !== WebSocket.OPEN) return;
        if (!alive) return socket.terminate();
        alive = false;
        socket.ping();
      }, beatMs);
      beat.unref();
      const end = (words: string, status?: number): void => {
        if (over) return;
        over = true;
        clearInterval(beat);
        socket.terminate();
        hear.end(words, status);
      };
      socket.on('open', () => hear.open());
      socket.on('pong', () => (alive = true));
      socket.on('message', (data, binary) => {
        alive = true;
        if (!binary) hear.message(String(data));
      });
      socket.on('unexpected-response', (request, response) => {
        request.destroy();
        end(`it answered ${response.statusCode}`, response.statusCode ?? 400);
      });
      socket.on('error', (error: NodeJS.ErrnoException) => end(wordsOf(error, address)));
      socket.on('close', (_, reason) => end(String(reason) === '' ? 'the connection ended' : `the connection ended (${String(reason).slice(0, 100)})`));
      return { send: (text) => socket.readyState === WebSocket.OPEN && socket.send(text), close: () => socket.close() };
    },
    async fetch({ address, token }, path) {
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(), handshakeMs);
      try {
        return await fetch(`${address}${path}`, { headers: { authorization: `Bearer ${token}` }, redirect: 'error', signal: late.signal });
      } finally {
        clearTimeout(timer); // what follows may take as long as it is large
      }
    },
  };
}

function wordsOf(error: NodeJS.ErrnoException, address: string): string {
  if (error.code === 'ECONNREFUSED') return `nothing answers at ${address}`;
  if (error.code === 'ENOTFOUND' || error.code === 'EAI_AGAIN') return `there is no machine of the name in ${address}`;
  if (/handshake has timed out/i.test(error.message)) return `${address} does not answer`;
  return error.message.split('\n')[0] || (error.code ?? 'the connection failed');
}
