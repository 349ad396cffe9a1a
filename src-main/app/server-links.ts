/**
 * The connections to other machines' apps. A page talks to its own app only (no CORS, connect-src 'self'); this passes its requests
 * on to a machine on the list, and that machine's events and files back. What comes from there is checked like a stranger's: replies
 * and events by the contract's schemas, pictures by type.
 */
import { z } from 'zod';
import { AppError, errorLine } from '../base/errors.ts';
import { EVENTS, HERE_ONLY, REQUESTS, type EventName, type Reply, type RequestName } from '../contract/api.ts';
import { describeIssues } from '../contract/run.ts';
import type { ServerInfo } from '../contract/servers.ts';
import type { ServerList } from './server-list.ts';

/** Where to connect and as whom. */
export interface Target { address: string; token: string }
export interface Line { send(text: string): void; close(): void }
export interface Hear {
  open(): void;
  message(text: string): void;
  /** @param status of the HTTP answer where the other side refused */
  end(words: string, status?: number): void;
}
/** What carries it; the composition roots give it, see ipc/server-wire.ts. */
export interface Wire {
  dial(target: Target, hear: Hear): Line;
  /** @throws Error where nothing answers */
  fetch(target: Target, path: string): Promise<Response>;
}

export type RemoteListener = (server: string, name: EventName, payload: unknown) => void;
export interface RemoteFile { type: string; bytes: number | null; name: string | null; cache: string; body: ReadableStream<Uint8Array> | null }

interface Link {
  line: Line | null;
  state: ServerInfo['state'];
  reason: string | null;
  mismatch: ServerInfo['mismatch'];
  retryAt: number | null;
  timer: NodeJS.Timeout | undefined;
  failures: number;
  lastId: number;
  pending: Map<number, (reply: Reply<unknown>) => void>;
  /** Settled when connecting ends one way or the other. */
  settled: Promise<void>;
  settle: () => void;
}

export interface ServerLinksOptions {
  list: ServerList;
  wire: Wire;
  version: string;
  publish: (servers: ServerInfo[]) => void;
  now?: () => number;
  backoffMs?: readonly number[];
}

/** Pauses before each new attempt; the last one repeats. */
const BACKOFF_MS = [1000, 2000, 5000, 10_000, 30_000];
/** After "too many wrong tokens" the other side wants a minute. */
const LIMITED_MS = 61_000;
/** Questions under way to one machine. */
const MOST_PENDING = 256;
const PICTURES = new Set(['image/png', 'image/jpeg', 'image/webp']);

const replySchema = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true), value: z.unknown() }),
  z.object({ ok: z.literal(false), error: z.object({ code: z.string().max(40), message: z.string().max(20_000), hint: z.string().max(20_000).optional() }) }),
]);
const messageSchema = z.union([
  // An event that is itself passed on from a third machine is not ours to show.
  z.object({ event: z.string(), payload: z.unknown(), server: z.undefined().optional() }),
  z.object({ id: z.number(), reply: replySchema }),
]);

export class ServerLinks {
  private readonly options: ServerLinksOptions;
  private readonly links = new Map<string, Link>();
  private readonly listeners = new Set<RemoteListener>();

  constructor(options: ServerLinksOptions) {
    this.options = options;
  }

  all(): ServerInfo[] {
    return this.options.list.all().map((known) => this.info(known.id));
  }

  info(id: string): ServerInfo {
    const { list } = this.options;
    const { state, reason, retryAt, mismatch } = this.links.get(id) ?? { state: 'idle' as const, reason: null, retryAt: null, mismatch: null };
    return { ...list.get(id), token: list.tokenState(id), state, reason, retryAt, mismatch };
  }

  add(name: string, address: string, token: string): ServerInfo {
    const { id } = this.options.list.add(name, address, token);
    this.changed();
    return this.info(id);
  }

  /** What was refused is tried again with what is new. */
  update(id: string, change: { name?: string | undefined; address?: string | undefined; token?: string | undefined }): ServerInfo {
    this.options.list.update(id, change);
    if (this.links.has(id) && (change.address !== undefined || change.token !== undefined)) {
      this.drop(id);
      this.connect(id);
    }
    this.changed();
    return this.info(id);
  }

  remove(id: string): void {
    this.options.list.remove(id);
    this.drop(id);
    this.changed();
  }

  /** Events of machines that are connected; returns how to stop. */
  on(listener: RemoteListener): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** Connects, at once also where it waits for its next attempt. @throws AppError('not-found') */
  connect(id: string): void {
    this.options.list.get(id);
    const link = this.links.get(id) ?? newLink();
    this.links.set(id, link);
    if (link.state === 'connected' || link.state === 'connecting') return;
    this.dial(id, link);
  }

  /** Passes a request on. Never throws: the answer is a reply of the contract. */
  async ask(id: unknown, name: unknown, input: unknown): Promise<Reply<unknown>> {
    try {
      if (typeof name !== 'string' || !Object.hasOwn(REQUESTS, name)) throw new AppError('not-found', 'There is no such request.');
      if (HERE_ONLY.has(name)) throw new AppError('denied', `"${name}" is not passed on to another machine.`);
      const request = REQUESTS[name as RequestName];
      const checked = request.input.safeParse(input ?? {});
      if (!checked.success) throw new AppError('config', describeIssues(checked.error));
      const known = this.options.list.get(id);
      const link = await this.open(known.id);
      const reply = await this.send(known.name, link, name, input ?? {});
      if (!reply.ok) return reply;
      const value = request.output.safeParse(reply.value);
      if (value.success) return { ok: true, value: value.data };
      throw new AppError('network', `${known.name} answered "${name}" in a way this version does not understand.`, { hint: 'Run the same version of DRTune Studio on both machines.' });
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      return { ok: false, error: { code: error.code, message: error.message, ...(error.hint === undefined ? {} : { hint: error.hint }) } };
    }
  }

  /** A picture, a resource or an export of that machine. @throws AppError('not-found' | 'network' | 'denied') */
  async file(id: string, path: string): Promise<RemoteFile> {
    const { list, wire } = this.options;
    const known = list.get(id);
    const way = /^(image\/\d{1,15}|resource\/[\w./-]{1,300}|export\/[^/\\\0]{1,300})$/.exec(path)?.[1];
    if (!way || way.split('/').some((part) => part === '..' || part === '.')) throw new AppError('denied', 'Only pictures and exports come from another machine.');
    await this.open(id); // a token that was refused is not tried again for each picture: the other side counts
    const token = list.token(id) ?? '';
    let response: Response;
    try {
      response = await wire.fetch({ address: known.address, token }, `/${way.split('/').map(encodeURIComponent).join('/')}`);
    } catch (error) {
      throw new AppError('network', `Nothing answers at ${known.address}: ${errorLine(error)}.`, { cause: error });
    }
    const exported = way.startsWith('export/');
    const type = response.headers.get('content-type')?.split(';')[0]?.trim() ?? '';
    if (response.status !== 200 || (!exported && !PICTURES.has(type))) {
      await response.body?.cancel();
      throw new AppError('not-found', `${known.name} has no such file.`);
    }
    const bytes = Number(response.headers.get('content-length') ?? NaN);
    // A folder comes as an archive: the other side says how it is called, by an ending we know.
    const name = exported ? `${way.slice('export/'.length)}${type === 'application/x-tar' ? '.tar' : ''}` : null;
    return { type: exported ? 'application/octet-stream' : type, bytes: Number.isSafeInteger(bytes) ? bytes : null, name, cache: exported ? 'no-store' : 'private, max-age=3600', body: response.body };
  }

  close(): void {
    for (const id of [...this.links.keys()]) this.drop(id);
    this.listeners.clear();
  }

  private changed(): void {
    this.options.publish(this.all());
  }

  private drop(id: string): void {
    const link = this.links.get(id);
    if (!link) return;
    this.links.delete(id);
    clearTimeout(link.timer);
    link.state = 'idle';
    fail(link, 'The connection to that machine was closed.');
    link.settle();
    link.line?.close();
    link.line = null;
  }

  /** A link that is connected; waits while it is connecting. @throws AppError('network' | 'denied') */
  private async open(id: string): Promise<Link> {
    // The first request connects; later ones do not hurry a link that is lost or refused.
    if (!this.links.has(id)) this.connect(id);
    const link = this.links.get(id)!;
    await link.settled;
    if (link.state === 'connected') return link;
    const { name } = this.options.list.get(id);
    const hint = sentence(link.reason ?? '');
    if (link.state === 'refused') throw new AppError('denied', `${name} refuses.`, { hint });
    throw new AppError('network', `${name} cannot be reached.`, { hint: `${hint} It is tried again by itself.`.trim() });
  }

  private dial(id: string, link: Link): void {
    const { list, wire } = this.options;
    clearTimeout(link.timer);
    const known = list.get(id);
    const token = list.token(id);
    link.retryAt = null;
    if (token === undefined) return this.ended(id, link, 'there is no token for it; open "Machines" and paste the address it printed, token and all.', 401);
    link.state = 'connecting';
    ({ promise: link.settled, resolve: link.settle } = Promise.withResolvers<void>());
    let ended = false;
    const mine = (): boolean => !ended && this.links.get(id) === link;
    this.changed();
    link.line = wire.dial({ address: known.address, token }, {
      open: () => {
        if (!mine()) return;
        Object.assign(link, { state: 'connected', reason: null, failures: 0 });
        link.settle();
        this.changed();
        void this.compare(id, link);
      },
      message: (text) => mine() && this.hear(id, link, text),
      end: (words, status) => {
        if (!mine()) return;
        ended = true;
        this.ended(id, link, reasonOf(words, status), status);
      },
    });
  }

  private ended(id: string, link: Link, reason: string, status?: number): void {
    const { now = Date.now, backoffMs = BACKOFF_MS } = this.options;
    link.line = null;
    link.reason = reason;
    const again = status === undefined || status === 429 || status >= 500;
    link.state = again ? 'lost' : 'refused';
    if (again) {
      const wait = status === 429 ? LIMITED_MS : backoffMs[Math.min(link.failures++, backoffMs.length - 1)]!;
      link.retryAt = now() + wait;
      link.timer = setTimeout(() => this.links.get(id) === link && this.dial(id, link), wait);
      link.timer.unref();
    }
    fail(link, `The connection to ${this.options.list.all().find((each) => each.id === id)?.name ?? 'that machine'} was lost.`);
    link.settle();
    this.changed();
  }

  /** Asks which version that machine runs. */
  private async compare(id: string, link: Link): Promise<void> {
    const { version } = this.options;
    const reply = await this.send('', link, 'system.get', {}).catch(() => null);
    const there = z.object({ appVersion: z.string().max(40) }).safeParse(reply?.ok ? reply.value : null).data?.appVersion;
    if (there === undefined || this.links.get(id) !== link) return;
    link.mismatch = there === version ? null : { here: version, there };
    this.changed();
  }

  private send(server: string, link: Link, name: string, input: unknown): Promise<Reply<unknown>> {
    if (link.pending.size >= MOST_PENDING) throw new AppError('busy', `${server} has ${MOST_PENDING} requests to answer.`, { hint: 'Try again in a moment.' });
    const id = ++link.lastId;
    return new Promise((resolve) => {
      link.pending.set(id, resolve);
      link.line?.send(JSON.stringify({ id, name, input }));
    });
  }

  /** What is neither a reply to a question of ours nor an event of the contract is dropped. */
  private hear(id: string, link: Link, text: string): void {
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      return;
    }
    const message = messageSchema.safeParse(json).data;
    if (!message) return;
    if ('reply' in message) {
      link.pending.get(message.id)?.(message.reply as Reply<unknown>);
      link.pending.delete(message.id);
      return;
    }
    if (!Object.hasOwn(EVENTS, message.event) || HERE_ONLY.has(message.event)) return;
    const name = message.event as EventName;
    const payload = EVENTS[name].safeParse(message.payload);
    if (payload.success) for (const listener of this.listeners) listener(id, name, payload.data);
  }
}

function newLink(): Link {
  return { line: null, state: 'idle', reason: null, mismatch: null, retryAt: null, timer: undefined, failures: 0, lastId: 0, pending: new Map(), settled: Promise.resolve(), settle: () => {} };
}

/** Nothing that was asked is left without an answer. */
function fail(link: Link, message: string): void {
  for (const answer of link.pending.values()) answer({ ok: false, error: { code: 'disconnected', message, hint: 'What was asked may have been done there; look once it is back.' } });
  link.pending.clear();
}

/** A reason by itself. */
function sentence(reason: string): string {
  return reason.charAt(0).toUpperCase() + reason.slice(1);
}

/** Why it ended, in words that say what to do. */
function reasonOf(words: string, status: number | undefined): string {
  switch (status) {
    case undefined: return `${words}.`;
    case 401: return 'the token is wrong. It changes whenever that app is started; copy it again from the line it printed.';
    case 403: return 'it answers to its own address only. Through a tunnel use the same port number at both ends.';
    case 429: return 'too many wrong tokens came from this machine. It is tried again in a minute.';
    default: return status >= 500 ? `it answered ${status}.` : `what answers there is no DRTune Studio (${status}).`;
  }
}
