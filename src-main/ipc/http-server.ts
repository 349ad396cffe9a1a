/** The served app: pages, pictures and one WebSocket over node:http. Pages need no token (they hold nothing); all else does. */
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type WebSocket, WebSocketServer } from 'ws';
import { AppError } from '../base/errors.ts';
import { exportFile } from '../app/export-file.ts';
import type { App } from '../app/open-app.ts';
import { fileInside } from '../app/run-folders.ts';
import type { RemoteFile } from '../app/server-links.ts';
import { fileHeaders, isShownResource, mimeOf, securityHeaders } from './content-policy.ts';
import { createDispatcher } from './dispatcher.ts';
import { HttpGuard, type Verdict } from './http-guard.ts';

export interface ServeOptions {
  app: App;
  /** The built renderer. */
  pages: string;
  resources: string;
  host: string;
  /** 0 = any free one. */
  port: number;
  /** Further ports to try when `port` is taken. */
  otherPorts?: number;
  /** Another token than a random one, for tests. */
  token?: string;
  onDefect?: (name: string, error: unknown) => void;
}

export interface Served { url: string; port: number; token: string; close(): Promise<void> }

/** Requests are configs, prompts, and pictures to score, which are the largest: 16 MB as base64. */
const MAX_MESSAGE = 24 * 2 ** 20;
/** A page that does not read is cut off rather than buffered for ever. */
const MAX_BACKLOG = 64 * 2 ** 20;

/** @throws AppError('busy') where the port is taken */
export async function serveApp(options: ServeOptions): Promise<Served> {
  const { app, host } = options;
  const server = createServer({ requestTimeout: 30_000 });
  const port = await listen(server, host, options.port, options.otherPorts ?? 0);
  const names = ['127.0.0.1', 'localhost', '[::1]', host.includes(':') ? `[${host}]` : host];
  const everywhere = host === '0.0.0.0' || host === '::';
  const guard = new HttpGuard({ hosts: names.map((name) => `${name}:${port}`), anyAddress: everywhere ? port : undefined, token: options.token });
  server.on('request', (request, response) => void answer(options, guard, request, response));
  const sockets = serveSocket(server, guard, options);
  const shown = everywhere ? '127.0.0.1' : host;
  const url = `http://${shown.includes(':') ? `[${shown}]` : shown}:${port}/?token=${guard.token}`;
  app.announce(url);
  return {
    url, port, token: guard.token,
    close: async () => {
      for (const socket of sockets.clients) socket.close(1001, 'DRTune Studio is closing');
      sockets.close();
      server.closeIdleConnections();
      await new Promise<void>((closed) => {
        server.close(() => closed());
        setTimeout(() => server.closeAllConnections(), 500).unref();
      });
    },
  };
}

async function listen(server: Server, host: string, port: number, otherPorts: number): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    try {
      await new Promise<void>((listening, failed) => {
        server.once('error', failed);
        server.listen(port + attempt, host, () => {
          server.off('error', failed);
          listening();
        });
      });
      const address = server.address();
      return typeof address === 'object' && address ? address.port : port;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EADDRINUSE' && attempt < otherPorts) continue;
      if (code === 'EADDRINUSE') throw new AppError('busy', `Port ${port + attempt} on ${host} is in use.`, { hint: 'Choose another with --port, or --port 0 for any free one.' });
      if (code === 'EACCES') throw new AppError('denied', `Port ${port} may not be used.`, { hint: 'Choose one above 1023 with --port.' });
      if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') throw new AppError('config', `This machine has no address ${host}.`, { hint: 'Leave --host out to serve on 127.0.0.1.' });
      throw error;
    }
  }
}

async function answer(options: ServeOptions, guard: HttpGuard, request: IncomingMessage, response: ServerResponse): Promise<void> {
  for (const [name, value] of Object.entries(securityHeaders())) response.setHeader(name, value);
  try {
    if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(response, 405, 'Only GET.');
    const place = guard.checkPlace(request);
    if (!place.ok) return refuse(response, place.status, place.message);
    const url = addressOf(request);
    if (!url) return refuse(response, 400, 'Bad address.');
    const path = decodeURIComponent(url.pathname);
    const image = /^\/image\/(\d{1,15})$/.exec(path);
    const resource = /^\/resource\/(.+)$/.exec(path);
    const exported = /^\/export\/([^/]+)$/.exec(path);
    const other = /^\/server\/([0-9a-f]{12})\/(.+)$/.exec(path);
    if (image || resource || exported || other) {
      const verdict = guard.checkToken(request, url);
      if (!verdict.ok) return refuse(response, verdict.status, verdict.message);
      if (image) return sendFile(request, response, options.app.imageFile(Number(image[1])), 'private, max-age=31536000, immutable');
      if (other) return await pass(response, request.method, await options.app.servers.file(other[1]!, other[2]!));
      if (exported) {
        const { stream, ...file } = exportFile(options.app.home, exported[1]!);
        return await pass(response, request.method, { ...file, cache: 'no-store', body: stream() });
      }
      if (!isShownResource(resource![1]!)) return refuse(response, 404, 'Not found.');
      return sendFile(request, response, fileInside(options.resources, resource![1]!), 'private, max-age=3600');
    }
    return sendPage(options, request, response, path);
  } catch (error) {
    if (error instanceof URIError || (error instanceof AppError && error.code === 'denied')) return refuse(response, 400, 'Bad address.');
    if (error instanceof AppError && error.code === 'not-found') return refuse(response, 404, 'Not found.');
    if (error instanceof AppError && error.code === 'network') return refuse(response, 502, error.message);
    options.onDefect?.(`GET ${request.url?.split('?')[0]}`, error);
    return refuse(response, 500, 'Internal error.');
  }
}

/** Null for what is no address, such as "//": anybody may send it. */
function addressOf(request: IncomingMessage): URL | null {
  return URL.parse(request.url ?? '/', 'http://localhost');
}

/** Files with a hash in their name are kept by the browser; index.html is asked for each time. Pages' own routes get index.html. */
function sendPage(options: ServeOptions, request: IncomingMessage, response: ServerResponse, path: string): void {
  const wanted = path === '/' ? 'index.html' : path.slice(1);
  if (!existsSync(join(options.pages, 'index.html'))) return refuse(response, 503, 'The pages are not built: start with "npm start -- --serve", which builds them.');
  const isFile = /\.\w+$/.test(wanted);
  const file = fileInside(options.pages, isFile ? wanted : 'index.html');
  const hashed = wanted.startsWith('assets/');
  sendFile(request, response, file, hashed ? 'public, max-age=31536000, immutable' : 'no-cache');
}

function sendFile(request: IncomingMessage, response: ServerResponse, file: string, cache: string): void {
  const { size, mtimeMs } = statSync(file);
  const tag = `"${size.toString(36)}-${Math.trunc(mtimeMs).toString(36)}"`;
  response.setHeader('cache-control', cache);
  response.setHeader('etag', tag);
  if (request.headers['if-none-match'] === tag) {
    response.writeHead(304).end();
    return;
  }
  response.writeHead(200, { 'content-type': mimeOf(file), 'content-length': size });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  createReadStream(file).on('error', () => response.destroy()).pipe(response);
}

/** Sends what comes from elsewhere; a body that breaks off breaks off here too. */
async function pass(response: ServerResponse, method: string, { body, ...file }: Omit<RemoteFile, 'body'> & { body: Readable | RemoteFile['body'] }): Promise<void> {
  const stream = body === null ? null : body instanceof Readable ? body : Readable.fromWeb(body as never);
  response.writeHead(200, fileHeaders(file));
  if (method === 'HEAD' || !stream) {
    stream?.destroy();
    response.end();
  } else await pipeline(stream, response).catch(() => response.destroy());
}

function refuse(response: ServerResponse, status: number, message: string): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' }).end(`${message}\n`);
}

function serveSocket(server: Server, guard: HttpGuard, options: ServeOptions): WebSocketServer {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE, perMessageDeflate: false });
  const dispatch = createDispatcher(options.app.handlers, options.onDefect, (server, name, input) => options.app.servers.ask(server, name, input));
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    const url = addressOf(request);
    const place = guard.checkPlace(request);
    const verdict: Verdict = place.ok && url ? guard.checkToken(request, url) : place;
    if (url?.pathname !== '/ws' || !verdict.ok) {
      const status = verdict.ok ? 404 : verdict.status;
      socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (client) => serveClient(client, options.app, dispatch));
  });
  return sockets;
}

function serveClient(client: WebSocket, app: App, dispatch: ReturnType<typeof createDispatcher>): void {
  const send = (message: unknown): void => {
    if (client.readyState !== client.OPEN) return;
    if (client.bufferedAmount > MAX_BACKLOG) return client.terminate();
    client.send(JSON.stringify(message));
  };
  const unlisten = [app.on((event, payload) => send({ event, payload })), app.servers.on((server, event, payload) => send({ event, payload, server }))];
  client.on('close', () => unlisten.forEach((stop) => stop()));
  client.on('error', () => client.terminate());
  client.on('message', (data, binary) => {
    let message: { id?: unknown; name?: unknown; input?: unknown; server?: unknown } | null;
    try {
      if (binary) throw new SyntaxError('text only');
      message = JSON.parse(String(data)) as typeof message;
    } catch {
      return client.close(1007, 'JSON text only');
    }
    if (typeof message !== 'object' || message === null || !Number.isSafeInteger(message.id)) return client.close(1008, 'A message needs an id');
    const { id, name, input, server } = message;
    void dispatch(name, input, server).then((reply) => send({ id, reply }));
  });
}
