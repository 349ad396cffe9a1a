/** The other machines the user added: names and addresses in servers.json, tokens as secrets. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { writeWhole } from '../base/atomic.ts';
import { AppError } from '../base/errors.ts';
import { serverId, type ServerInfo } from '../contract/servers.ts';
import { SecretFile, type SecretBox } from './secret-file.ts';

export interface KnownServer { id: string; name: string; address: string }

const MOST = 50;
const listSchema = z.array(z.object({ id: serverId, name: z.string(), address: z.string() }));
const tokensSchema = z.record(serverId, z.string());

export class ServerList {
  private readonly file: string;
  private readonly secret: SecretFile;

  constructor(home: string, box: SecretBox | null) {
    this.file = join(home, 'servers.json');
    this.secret = new SecretFile(join(home, 'server-tokens'), box);
  }

  /** A damaged file counts as none. */
  all(): KnownServer[] {
    if (!existsSync(this.file)) return [];
    try {
      return listSchema.parse(JSON.parse(readFileSync(this.file, 'utf8')));
    } catch {
      return [];
    }
  }

  /** @throws AppError('not-found') */
  get(id: unknown): KnownServer {
    const known = this.all().find((each) => each.id === id);
    if (!known) throw new AppError('not-found', 'There is no such machine on the list.', { hint: 'It may have been removed; add it again.' });
    return known;
  }

  token(id: string): string | undefined {
    return this.tokens()[id];
  }

  tokenState(id: string): ServerInfo['token'] {
    return this.token(id) === undefined ? 'none' : this.secret.keeps ? 'kept' : 'session';
  }

  /** @throws AppError('config') for what is no address or no token */
  add(name: string, address: string, token: string): KnownServer {
    const list = this.all();
    if (list.length >= MOST) throw new AppError('config', `There are ${MOST} machines on the list.`, { hint: 'Remove one first.' });
    const read = readAddress(address, token);
    const taken = list.find((each) => each.address === read.address);
    if (taken) throw new AppError('config', `${read.address} is on the list already, as "${taken.name}".`, { hint: 'Change its token there.' });
    const known = { id: randomBytes(6).toString('hex'), name, address: read.address };
    this.write([...list, known]);
    this.setToken(known.id, read.token);
    return known;
  }

  /** @throws AppError('not-found' | 'config') */
  update(id: string, change: { name?: string | undefined; address?: string | undefined; token?: string | undefined }): KnownServer {
    const before = this.get(id);
    const read = change.address === undefined ? { address: before.address, token: checkedToken(change.token ?? '') } : readAddress(change.address, change.token ?? '');
    const known = { ...before, name: change.name ?? before.name, address: read.address };
    this.write(this.all().map((each) => (each.id === id ? known : each)));
    // A token is for the address it was given for: it does not follow to another.
    if (read.token !== '' || read.address !== before.address) this.setToken(id, read.token);
    return known;
  }

  remove(id: string): void {
    this.get(id);
    this.setToken(id, '');
    this.write(this.all().filter((each) => each.id !== id));
  }

  private write(list: KnownServer[]): void {
    writeWhole(this.file, `${JSON.stringify(list, null, 2)}\n`, 0o600);
  }

  private tokens(): Record<string, string> {
    try {
      return tokensSchema.parse(JSON.parse(this.secret.get() ?? '{}'));
    } catch {
      return {};
    }
  }

  private setToken(id: string, token: string): void {
    const { [id]: _, ...others } = this.tokens();
    const tokens = token === '' ? others : { ...others, [id]: token };
    this.secret.set(Object.keys(tokens).length === 0 ? '' : JSON.stringify(tokens));
  }
}

/**
 * The origin to connect to, and the token where it came with the address.
 * @throws AppError('config') for anything but http(s)://HOST[:PORT]/[?token=...]; the message never repeats a token
 */
export function readAddress(text: string, token: string): { address: string; token: string } {
  const line = /https?:\/\/\S+/.exec(text)?.[0] ?? text; // "DRTune Studio: http://..." as it is printed
  const address = line.includes('://') ? line : `http://${line}`;
  const url = URL.canParse(address) ? new URL(address) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.hostname === '' || url.pathname !== '/' || url.username !== '' || url.password !== '') {
    throw new AppError('config', 'This is not the address of a DRTune Studio: expected http://HOST:PORT.', { hint: 'Copy the line that "npm start -- --serve" prints there.' });
  }
  return { address: url.origin, token: checkedToken(url.searchParams.get('token') ?? token) };
}

function checkedToken(token: string): string {
  if (token === '' || /^[\x21-\x7e]{4,512}$/.test(token)) return token;
  throw new AppError('config', 'This is no token: it must be one word of plain letters, digits and signs.', { hint: 'Copy it again from the address that the other machine printed.' });
}
