/** Who may talk to the served app: a random token, the right Host (against DNS rebinding), the right Origin, and a limit on guesses. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

export type Verdict = { ok: true } | { ok: false; status: 401 | 403 | 429; message: string };

/** Wrong tokens from one address before it is told to wait. */
const GUESSES = 10;
/** Before none is looked at any more, not even the right one: no tab asks so often, a guesser does. */
const FLOOD = 1000;
const WINDOW_MS = 60_000;
const MOST_GUESSERS = 10_000;

export class HttpGuard {
  readonly token: string;
  private readonly hosts: Set<string>;
  private readonly port: number | null;
  private readonly now: () => number;
  private readonly wrong = new Map<string, { count: number; since: number }>();

  /**
   * @param options.hosts the values of Host that are ours, e.g. "127.0.0.1:5180"
   * @param options.anyAddress port of a server bound to every address: any address (never a name, which could be rebound) is ours
   */
  constructor(options: { hosts: readonly string[]; anyAddress?: number | undefined; token?: string | undefined; now?: () => number }) {
    this.hosts = new Set(options.hosts.map((host) => host.toLowerCase()));
    this.port = options.anyAddress ?? null;
    this.token = options.token ?? randomBytes(32).toString('base64url');
    this.now = options.now ?? Date.now;
  }

  /** Host and, where the browser sends one, Origin must be ours. */
  checkPlace(request: IncomingMessage): Verdict {
    const host = request.headers.host?.toLowerCase() ?? '';
    if (!this.hosts.has(host) && !this.isOwnAddress(host)) return { ok: false, status: 403, message: 'Wrong Host: open the address that DRTune Studio printed.' };
    const origin = request.headers.origin?.toLowerCase();
    if (origin !== undefined && origin !== `http://${host}`) return { ok: false, status: 403, message: 'Wrong Origin: requests of other pages are refused.' };
    const site = request.headers['sec-fetch-site'];
    if (site === 'cross-site' && request.headers['sec-fetch-mode'] !== 'navigate') return { ok: false, status: 403, message: 'Requests of other pages are refused.' };
    return { ok: true };
  }

  private isOwnAddress(host: string): boolean {
    const address = /^(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\]):(\d+)$/.exec(host);
    return this.port !== null && Number(address?.[2]) === this.port;
  }

  /**
   * The token of the query or of `Authorization: Bearer`, compared in constant time. The first limit holds for wrong ones only: a tab
   * left open from before a restart, which keeps asking with the old token, must not lock out the new one.
   */
  checkToken(request: IncomingMessage, url: URL): Verdict {
    const from = request.socket.remoteAddress ?? '';
    const wait = { ok: false, status: 429, message: 'Too many wrong tokens: wait a minute.' } as const;
    this.forgetOld();
    const seen = this.wrong.get(from);
    const isRecent = seen && this.now() - seen.since < WINDOW_MS;
    if (isRecent && seen.count >= FLOOD) return wait;
    const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    if (sameText(url.searchParams.get('token') ?? bearer ?? '', this.token)) return { ok: true };
    if (!isRecent) {
      this.wrong.delete(from); // to the end of the row
      this.wrong.set(from, { count: 1, since: this.now() });
    } else if (++seen.count > GUESSES) return wait;
    return { ok: false, status: 401, message: 'Wrong or missing token: open the address that DRTune Studio printed.' };
  }

  /** Of many addresses that guess the oldest are forgotten: a guesser with a network of them must not fill the memory. */
  private forgetOld(): void {
    for (const [from, { since }] of this.wrong) {
      if (this.wrong.size < MOST_GUESSERS && this.now() - since < WINDOW_MS) break;
      this.wrong.delete(from);
    }
  }

  /** How many addresses are remembered for wrong tokens. */
  get guessers(): number {
    return this.wrong.size;
  }
}

function sameText(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
