import { mkdirSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src-main/base/errors.ts';
import { answerAppUrl } from '../../../src-main/ipc/app-protocol.ts';
import { contentPolicy, isShownResource, mimeOf } from '../../../src-main/ipc/content-policy.ts';
import { HttpGuard } from '../../../src-main/ipc/http-guard.ts';
import { tempHome } from '../../helpers/temp-home.ts';

const request = (headers: Record<string, string>, remoteAddress = '127.0.0.1'): IncomingMessage => ({ headers, socket: { remoteAddress } }) as unknown as IncomingMessage;
const url = (query = ''): URL => new URL(`http://x/ws${query}`);

describe('who may talk to the served app', () => {
  const guard = new HttpGuard({ hosts: ['127.0.0.1:5180', 'localhost:5180'], token: 'right' });
  it.each([
    ['our host', { host: '127.0.0.1:5180' }, true],
    ['our host by name', { host: 'LOCALHOST:5180' }, true],
    ['our page', { host: '127.0.0.1:5180', origin: 'http://127.0.0.1:5180' }, true],
    ['a rebound name', { host: 'evil.example:5180' }, false],
    ['another port', { host: '127.0.0.1:80' }, false],
    ['no host', {}, false],
    ['another page', { host: '127.0.0.1:5180', origin: 'http://evil.example' }, false],
    ['a sandboxed page', { host: '127.0.0.1:5180', origin: 'null' }, false],
    ['another local app', { host: '127.0.0.1:5180', origin: 'http://127.0.0.1:3000' }, false],
    ['a picture tag of another page', { host: '127.0.0.1:5180', 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }, false],
    ['a link from elsewhere', { host: '127.0.0.1:5180', 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }, true],
  ])('%s', (_, headers, ok) => {
    expect(guard.checkPlace(request(headers as Record<string, string>)).ok).toBe(ok);
  });

  it('on every address: addresses may, names may not', () => {
    const open = new HttpGuard({ hosts: ['127.0.0.1:5180'], anyAddress: 5180 });
    expect(open.checkPlace(request({ host: '192.168.1.7:5180' })).ok).toBe(true);
    expect(open.checkPlace(request({ host: '[fe80::1]:5180' })).ok).toBe(true);
    expect(open.checkPlace(request({ host: '192.168.1.7:80' })).ok).toBe(false);
    expect(open.checkPlace(request({ host: 'rebound.example:5180' })).ok).toBe(false);
  });

  it('makes a token of 32 random bytes', () => {
    const tokens = new Set(Array.from({ length: 50 }, () => new HttpGuard({ hosts: [] }).token));
    expect(tokens.size).toBe(50);
    for (const token of tokens) expect(Buffer.from(token, 'base64url')).toHaveLength(32);
  });

  it('takes the token by query or bearer and limits guesses by address', () => {
    let now = 0;
    const strict = new HttpGuard({ hosts: [], token: 'right', now: () => now });
    expect(strict.checkToken(request({}), url('?token=right')).ok).toBe(true);
    expect(strict.checkToken(request({ authorization: 'Bearer right' }), url()).ok).toBe(true);
    for (let i = 0; i < 10; i++) expect(strict.checkToken(request({}), url('?token=wrong'))).toMatchObject({ ok: false, status: 401 });
    expect(strict.checkToken(request({}), url('?token=wrong'))).toMatchObject({ ok: false, status: 429 });
    expect(strict.checkToken(request({}), url('?token=right')).ok).toBe(true);
    expect(strict.checkToken(request({}, '10.0.0.2'), url('?token=wrong'))).toMatchObject({ status: 401 });
    now = 61_000;
    expect(strict.checkToken(request({}), url('?token=wrong'))).toMatchObject({ status: 401 });
  });

  it('looks at no token of an address that has tried a thousand in a minute', () => {
    let now = 0;
    const strict = new HttpGuard({ hosts: [], token: 'right', now: () => now });
    const tries = (token: string, from?: string): boolean => strict.checkToken(request({}, from), url(`?token=${token}`)).ok;
    for (let i = 0; i < 999; i++) tries(`guess${i}`);
    expect(tries('right')).toBe(true);
    tries('the last guess');
    expect([tries('right'), tries('right', '10.0.0.2')]).toEqual([false, true]);
    now = 61_000;
    expect(tries('right')).toBe(true);
  });

  it('compares tokens by digests of one length, and forgets guessers', () => {
    let now = 0;
    const guard = new HttpGuard({ hosts: [], token: 'right', now: () => now });
    for (const token of ['', 'r', 'righ', 'rightt', 'RIGHT', 'right\0', 'x'.repeat(1e5)]) expect(guard.checkToken(request({}, `10.0.0.${token.length % 200}`), url(`?token=${encodeURIComponent(token)}`)).ok, token.slice(0, 9)).toBe(false);
    for (let i = 0; i < 12_000; i++) guard.checkToken(request({}, `fe80::${i.toString(16)}`), url('?token=wrong'));
    expect(guard.guessers).toBeLessThanOrEqual(10_000);
    now = 61_000;
    guard.checkToken(request({}, '10.9.9.9'), url('?token=wrong'));
    expect(guard.guessers).toBe(1);
  });
});

describe('what pages may do', () => {
  it('no inline script, no eval, no other origin, no frame', () => {
    const policy = contentPolicy();
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self';");
    expect(policy).not.toMatch(/unsafe-eval|http:|https:|\*/);
    expect(policy).toContain("frame-ancestors 'none'");
  });

  it('shows pictures of resources and nothing else', () => {
    expect(isShownResource('starter/sample.png')).toBe(true);
    for (const path of ['starter/pipeline/unet/model.safetensors', '../package.json', 'starter/../../secret.png', 'presets/quick.json', 'engine-packs.json', 'starter/.png/']) expect(isShownResource(path), path).toBe(false);
    expect(mimeOf('a/b.JS')).toMatch(/^text\/javascript/);
    expect(mimeOf('x.bin')).toBe('application/octet-stream');
  });
});

describe('app://studio', () => {
  function files() {
    const home = tempHome();
    mkdirSync(join(home, 'pages/assets'), { recursive: true });
    writeFileSync(join(home, 'pages/index.html'), '<p>page');
    writeFileSync(join(home, 'pages/assets/a.js'), 'let a');
    writeFileSync(join(home, 'secret.txt'), 'secret');
    writeFileSync(join(home, '5.png'), 'png');
    return { pages: join(home, 'pages'), resources: join(home, 'pages'), imageFile: (id: number) => {
      if (id !== 5) throw new AppError('not-found', 'none');
      return join(home, '5.png');
    }, remote: async (server: string, path: string) => {
      if (path !== 'image/7') throw new AppError(path === 'image/9' ? 'denied' : 'not-found', 'none');
      return { type: 'image/png', bytes: server.length, name: null, cache: 'no-store', body: new Response(server).body };
    } };
  }
  it.each([
    ['app://studio/index.html', 200, '<p>page'], ['app://studio/runs/abc', 200, '<p>page'], ['app://studio/assets/a.js', 200, 'let a'], ['app://studio/image/5', 200, 'png'],
    ['app://studio/image/6', 404, ''], ['app://studio/..%2fsecret.txt', 400, ''], ['app://studio/%2e%2e/secret.txt', 404, ''], ['app://studio/..%5csecret.txt', 404, ''],
    ['app://elsewhere/index.html', 404, ''], ['app://studio/%ff', 400, ''], ['app://studio/resource/package.json', 404, ''], ['app://studio/a%00.js', 400, ''],
    ['app://studio/server/0123456789ab/image/7', 200, '0123456789ab'], ['app://studio/server/0123456789ab/image/8', 404, ''], ['app://studio/server/0123456789ab/image/9', 400, ''], ['app://studio/server/0123456789AB/image/7', 200, '<p>page'],
  ])('%s', async (address, status, body) => {
    const response = await answerAppUrl(address, 'GET', files());
    expect(response.status).toBe(status);
    expect(await response.text()).toBe(body);
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
  });

  it('only gives', async () => {
    expect((await answerAppUrl('app://studio/index.html', 'POST', files())).status).toBe(405);
  });
});
