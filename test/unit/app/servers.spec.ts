/** Other machines: which addresses are taken, where their tokens are, what is passed on and what is believed. */
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { execFileSync } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import { exportFile } from '../../../src-main/app/export-file.ts';
import type { SecretBox } from '../../../src-main/app/secret-file.ts';
import { ServerLinks, type Hear, type Target } from '../../../src-main/app/server-links.ts';
import { readAddress, ServerList } from '../../../src-main/app/server-list.ts';
import { HERE_ONLY } from '../../../src-main/contract/api.ts';
import { serverSchema, type ServerInfo } from '../../../src-main/contract/servers.ts';
import { tempHome, until } from '../../helpers/temp-home.ts';

const box: SecretBox = { encrypt: (text) => Buffer.from(text).map((byte) => byte ^ 0x5a), decrypt: (bytes) => Buffer.from(bytes.map((byte) => byte ^ 0x5a)).toString() };

describe('an address', () => {
  it.each([
    ['http://127.0.0.1:5181/?token=abcd-efgh', 'http://127.0.0.1:5181', 'abcd-efgh'],
    ['DRTune Studio: http://10.0.0.7:5180/?token=abcd', 'http://10.0.0.7:5180', 'abcd'],
    ['box:5180', 'http://box:5180', 'given'], ['https://box.example/', 'https://box.example', 'given'], ['http://[fe80::1]:5180', 'http://[fe80::1]:5180', 'given'],
  ])('%s', (text, address, token) => {
    expect(readAddress(text, 'given')).toEqual({ address, token });
  });
  it.each(['', 'file:///etc/passwd', 'ftp://box:21', 'http://me:secret@box:5180', 'http://box:5180/other', 'http://', 'javascript:alert(1)', 'ws://box:5180', 'http://box:99999'])('%s is none', (text) => {
    expect(() => readAddress(text, '')).toThrow(/^This is not the address of a DRTune Studio/);
  });
  it('never repeats a token that is wrong', () => {
    expect(() => readAddress('http://box:1/?token=a%20secret%0d%0aHost:x', '')).toThrow(/^(?!.*secret).*no token/);
  });
});

describe('the list', () => {
  it('keeps tokens encrypted, apart from names and addresses, for this user only', () => {
    const home = tempHome();
    const list = new ServerList(home, box);
    const { id } = list.add('Box', 'http://box:5180/?token=sesame-open', '');
    expect(list.token(id)).toBe('sesame-open');
    for (const name of ['servers.json', 'server-tokens']) {
      expect(readFileSync(join(home, name), 'latin1')).not.toContain('sesame');
      expect(statSync(join(home, name)).mode & 0o077).toBe(0);
    }
    expect(new ServerList(home, box).token(id)).toBe('sesame-open');
    expect(new ServerList(home, { ...box, decrypt: () => { throw new Error('no key'); } }).tokenState(id)).toBe('none');
    list.remove(id);
    expect(existsSync(join(home, 'server-tokens'))).toBe(false);
    expect(list.all()).toEqual([]);
  });

  it('without a safe place a token lasts until the app closes and is in no file', () => {
    const home = tempHome();
    const list = new ServerList(home, null);
    const { id } = list.add('Box', 'http://box:5180', 'sesame-open');
    expect(list.tokenState(id)).toBe('session');
    expect(existsSync(join(home, 'server-tokens'))).toBe(false);
    expect(new ServerList(home, null).all()).toEqual([{ id, name: 'Box', address: 'http://box:5180' }]);
    expect(new ServerList(home, null).tokenState(id)).toBe('none');
  });

  it('a token does not follow to another address', () => {
    const list = new ServerList(tempHome(), box);
    const { id } = list.add('Box', 'http://box:5180', 'sesame-open');
    list.update(id, { name: 'Box 2' });
    expect(list.token(id)).toBe('sesame-open');
    list.update(id, { address: 'http://other:5180' });
    expect(list.token(id)).toBeUndefined();
    expect(() => list.add('Again', 'http://other:5180/', 'abcd')).toThrow(/on the list already, as "Box 2"/);
    expect(() => list.update('0123456789ab', {})).toThrow('no such machine');
  });
});

/** A machine that does as it is told. */
function setUp(options: { answer?: (message: { id: number; name: string; input: unknown }, hear: Hear) => unknown; backoffMs?: number[]; there?: string } = {}) {
  const list = new ServerList(tempHome(), box);
  const dialled: { target: Target; hear: Hear; sent: { id: number; name: string; input: unknown }[]; closed: boolean }[] = [];
  const published: ServerInfo[][] = [];
  const files: string[] = [];
  let response = (): Response => new Response('PNG', { headers: { 'content-type': 'image/png', 'content-length': '3' } });
  const links = new ServerLinks({
    list, version: '1.0.0', publish: (servers) => void published.push(servers.map((each) => serverSchema.parse(each))), backoffMs: options.backoffMs ?? [20],
    wire: {
      dial: (target, hear) => {
        const call = { target, hear, sent: [] as { id: number; name: string; input: unknown }[], closed: false };
        dialled.push(call);
        return { close: () => (call.closed = true), send: (text) => {
          const message = JSON.parse(text) as { id: number; name: string; input: unknown };
          call.sent.push(message);
          const value = message.name === 'system.get' ? { appVersion: options.there ?? '1.0.0' } : options.answer?.(message, hear);
          if (value !== undefined) hear.message(JSON.stringify({ id: message.id, reply: { ok: true, value } }));
        } };
      },
      fetch: async (_, path) => {
        files.push(path);
        return response();
      },
    },
  });
  const { id } = links.add('Box', 'http://box:5180', 'sesame-open');
  open.push(links);
  return { links, id, list, dialled, published, files, now: () => links.info(id), give: (next: () => Response) => (response = next) };
}
const open: ServerLinks[] = [];
afterEach(() => open.splice(0).forEach((links) => links.close()));

describe('the connection', () => {
  it('is made when it is first asked for, to the address the user added and with its token, and tells how it is', async () => {
    const { links, id, dialled, published, now } = setUp({ answer: () => [] });
    expect(now()).toMatchObject({ state: 'idle', token: 'kept' });
    expect(JSON.stringify(now())).not.toContain('sesame');
    const asked = links.ask(id, 'runs.list', { search: 'x' });
    expect(now().state).toBe('connecting');
    expect(dialled.map(({ target }) => target)).toEqual([{ address: 'http://box:5180', token: 'sesame-open' }]);
    dialled[0]!.hear.open();
    expect(await asked).toEqual({ ok: true, value: [] });
    expect(dialled[0]!.sent).toContainEqual({ id: expect.any(Number) as number, name: 'runs.list', input: { search: 'x' } });
    expect(published.map((each) => each[0]!.state)).toEqual(expect.arrayContaining(['connecting', 'connected']));
  });

  it('lost: what was asked is answered, it is tried again by itself, and sooner when told to', async () => {
    const { links, id, dialled, now } = setUp({ backoffMs: [30, 60_000] });
    links.connect(id);
    dialled[0]!.hear.open();
    const asked = links.ask(id, 'runs.list', {});
    await until(() => dialled[0]!.sent.length === 2, 'the question');
    dialled[0]!.hear.end('the connection ended');
    expect(await asked).toMatchObject({ ok: false, error: { code: 'disconnected' } });
    expect(now()).toMatchObject({ state: 'lost', reason: 'the connection ended.', retryAt: expect.any(Number) as number });
    expect(await links.ask(id, 'runs.list', {})).toMatchObject({ ok: false, error: { code: 'network', message: 'Box cannot be reached.' } });
    await until(() => dialled.length === 2, 'the next attempt');
    dialled[1]!.hear.end('nothing answers');
    links.connect(id); // the next one would be in a minute
    expect(dialled.length).toBe(3);
    dialled[2]!.hear.open();
    expect(now()).toMatchObject({ state: 'connected', reason: null, retryAt: null });
    dialled[0]!.hear.end('late news of the first'); // no longer of interest
    expect(now().state).toBe('connected');
  });

  it.each([[401, /token is wrong/], [403, /same port number at both ends/], [404, /no DRTune Studio/], [200, /no DRTune Studio/]])('refused with %i: says why, and does not insist', async (status, why) => {
    const { links, id, dialled, now } = setUp({ backoffMs: [1] });
    links.connect(id);
    dialled[0]!.hear.end('refused', status);
    expect(now()).toMatchObject({ state: 'refused', reason: expect.stringMatching(why) as string, retryAt: null });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(dialled.length).toBe(1);
    expect(await links.ask(id, 'runs.list', {})).toMatchObject({ ok: false, error: { code: 'denied' } });
    links.update(id, { token: 'another-one' });
    expect(dialled[1]!.target.token).toBe('another-one');
  });

  it('where the other side limits guesses it waits out the minute', () => {
    const { links, id, dialled, now } = setUp();
    links.connect(id);
    dialled[0]!.hear.end('slow down', 429);
    expect(now()).toMatchObject({ state: 'lost', reason: expect.stringMatching(/too many wrong tokens/) as string });
    expect(now().retryAt! - Date.now()).toBeGreaterThan(60_000);
  });

  it.each([['1.0.0', null], ['0.9.0', { here: '1.0.0', there: '0.9.0' }]])('another version is said, both of them: %s', async (there, mismatch) => {
    const { links, id, dialled, published } = setUp({ there });
    links.connect(id);
    dialled[0]!.hear.open();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(links.info(id).mismatch).toEqual(mismatch);
    expect(published.at(-1)![0]!.mismatch).toEqual(mismatch);
  });

  it('removed: closed, forgotten, its questions answered', async () => {
    const { links, id, dialled } = setUp();
    links.connect(id);
    dialled[0]!.hear.open();
    const asked = links.ask(id, 'runs.list', {});
    await until(() => dialled[0]!.sent.length === 2, 'the question');
    links.remove(id);
    expect(await asked).toMatchObject({ ok: false, error: { code: 'disconnected' } });
    expect(dialled[0]!.closed).toBe(true);
    expect(await links.ask(id, 'runs.list', {})).toMatchObject({ ok: false, error: { code: 'not-found' } });
    dialled[0]!.hear.open(); // too late
    expect(links.all()).toEqual([]);
  });
});

describe('what is passed on', () => {
  it('only requests of the contract, only with right input, only to machines on the list, and nothing that concerns this machine', async () => {
    const { links, id, dialled } = setUp({ answer: () => ({}) });
    links.connect(id);
    dialled[0]!.hear.open();
    for (const name of [...HERE_ONLY, 'shell.exec', '__proto__', 'constructor', '', 5, null, { toString: 1 }]) {
      expect(await links.ask(id, name, {}), String(typeof name)).toMatchObject({ ok: false, error: { code: expect.stringMatching(/denied|not-found/) as string } });
    }
    expect(await links.ask(id, 'runs.get', { id: 5 })).toMatchObject({ ok: false, error: { code: 'config' } });
    for (const server of ['http://elsewhere:1', '../x', null, 7, '0123456789ab', { id }]) expect(await links.ask(server, 'runs.list', {})).toMatchObject({ ok: false, error: { code: 'not-found' } });
    expect(dialled[0]!.sent.map(({ name }) => name)).toEqual(['system.get']);
    expect(dialled.length).toBe(1);
  });

  it('at most so many questions at once', async () => {
    const { links, id, dialled } = setUp();
    links.connect(id);
    dialled[0]!.hear.open();
    void Promise.all(Array.from({ length: 256 }, () => links.ask(id, 'runs.list', {})));
    await until(() => dialled[0]!.sent.length >= 256, 'the questions');
    expect(await links.ask(id, 'runs.list', {})).toMatchObject({ ok: false, error: { code: 'busy' } });
  });
});

describe('what is believed', () => {
  it('no reply that is not one, and no value that the contract does not know', async () => {
    const answers: unknown[] = [[{ id: 5 }], 'text', { __proto__: 1 }, [{ id: 'r', name: '<img onerror=1>' }]];
    const { links, id, dialled } = setUp({ answer: () => answers.shift() });
    links.connect(id);
    dialled[0]!.hear.open();
    for (let i = 0; i < 4; i++) expect(await links.ask(id, 'runs.list', {})).toMatchObject({ ok: false, error: { code: 'network', message: expect.stringContaining('does not understand') as string } });
  });

  it('no message that is none, no reply nobody asked for, no event but those of runs, models and the machine; an answer that is wrong first may be right later', async () => {
    const { links, id, dialled } = setUp({ answer: ({ id: number }, hear) => {
      for (const text of ['', 'x', 'null', '[]', '5', '{"id":"1","reply":{"ok":true}}', `{"id":${number}}`, `{"id":${number},"reply":{"ok":"yes"}}`, `{"id":${number + 7},"reply":{"ok":true,"value":[1]}}`]) hear.message(text);
      return [];
    } });
    const events: string[] = [];
    links.on((server, name) => events.push(`${server === id} ${name}`));
    links.connect(id);
    const { hear } = dialled[0]!;
    hear.open();
    expect(await links.ask(id, 'runs.list', {})).toEqual({ ok: true, value: [] });
    const none: unknown[] = [];
    for (const event of [{ event: 'go', payload: { page: '/settings' } }, { event: 'servers', payload: [] }, { event: 'files.given', payload: { count: 1 } }, { event: '__proto__', payload: {} }, { event: 'models.downloads', payload: [5] }, { event: 'models.downloads', payload: none, server: '0123456789ab' }]) hear.message(JSON.stringify(event));
    expect(events).toEqual([]);
    hear.message(JSON.stringify({ event: 'models.downloads', payload: none }));
    expect(events).toEqual(['true models.downloads']);
  });

  it('files: pictures by type, exports as downloads, nothing else', async () => {
    const { links, id, files, give, dialled } = setUp();
    const asked = links.file(id, 'image/5');
    dialled[0]!.hear.end('refused', 401);
    await expect(asked).rejects.toMatchObject({ code: 'denied' });
    await expect(links.file(id, 'image/5')).rejects.toMatchObject({ code: 'denied' });
    expect([files, dialled.length]).toEqual([[], 1]);
    links.update(id, { token: 'another-one' });
    dialled[1]!.hear.open();
    expect(await links.file(id, 'image/5')).toMatchObject({ type: 'image/png', bytes: 3, name: null });
    expect(files).toEqual(['/image/5']);
    for (const type of ['text/html', 'image/svg+xml', 'application/javascript', '']) {
      give(() => new Response('<script>', { headers: { 'content-type': type } }));
      await expect(links.file(id, 'image/5'), type).rejects.toMatchObject({ code: 'not-found' });
    }
    give(() => new Response('<script>', { headers: { 'content-type': 'text/html' } }));
    expect(await links.file(id, 'export/a b.safetensors')).toMatchObject({ type: 'application/octet-stream', name: 'a b.safetensors', cache: 'no-store' });
    expect(files.at(-1)).toBe('/export/a%20b.safetensors');
    give(() => new Response('', { status: 404 }));
    await expect(links.file(id, 'export/x')).rejects.toMatchObject({ code: 'not-found' });
    files.length = 0;
    for (const path of ['', 'ws', 'index.html', 'image/x', 'image/5/../../ws', 'resource/../package.json', 'resource/./x.png', 'export/..', 'export/a/b', 'export/..\\x', 'server/0123456789ab/image/1', '/image/5', 'image/5?token=x', 'image/5\n']) {
      await expect(links.file(id, path), path).rejects.toMatchObject({ code: 'denied' });
    }
    expect(files).toEqual([]);
    await expect(links.file('0123456789ab', 'image/5')).rejects.toMatchObject({ code: 'not-found' });
  });
});

describe('an export for another machine', () => {
  function exported(): string {
    const home = tempHome();
    mkdirSync(join(home, 'exports/lora-peft/deep'), { recursive: true });
    writeFileSync(join(home, 'exports/lora.safetensors'), 'weights');
    writeFileSync(join(home, 'exports/lora-peft/adapter_config.json'), '{}');
    writeFileSync(join(home, 'exports/lora-peft/deep/model.bin'), Buffer.alloc(1500, 7));
    writeFileSync(join(home, 'history.sqlite'), 'secret');
    symlinkSync(join(home, 'history.sqlite'), join(home, 'exports/link'));
    symlinkSync(join(home, 'history.sqlite'), join(home, 'exports/lora-peft/link'));
    return home;
  }

  it('a file comes as it is, a folder as an archive that tar reads, of the size it says', async () => {
    const home = exported();
    const file = exportFile(home, 'lora.safetensors');
    expect([file.bytes, (await buffer(file.stream())).toString()]).toEqual([7, 'weights']);
    const folder = exportFile(home, 'lora-peft');
    expect(folder).toMatchObject({ name: 'lora-peft.tar', type: 'application/x-tar' });
    const archive = await buffer(folder.stream());
    expect(archive.length).toBe(folder.bytes);
    writeFileSync(join(home, 'a.tar'), archive);
    expect(execFileSync('tar', ['-tf', join(home, 'a.tar')], { encoding: 'utf8' }).trim().split('\n').sort()).toEqual(['lora-peft/adapter_config.json', 'lora-peft/deep/model.bin']);
    mkdirSync(join(home, 'out'));
    execFileSync('tar', ['-xf', join(home, 'a.tar'), '-C', join(home, 'out')]);
    expect(readFileSync(join(home, 'out/lora-peft/deep/model.bin')).equals(Buffer.alloc(1500, 7))).toBe(true);
  });

  it.each(['', '.', '..', '../history.sqlite', '..\\history.sqlite', '/etc/passwd', 'lora-peft/adapter_config.json', 'link', '.hidden', 'x.1.tmp', 'nothing', 'a\0b'])('not %j', (name) => {
    expect(() => exportFile(exported(), name)).toThrow(expect.objectContaining({ code: expect.stringMatching(/denied|not-found/) as string }) as Error);
  });
});
