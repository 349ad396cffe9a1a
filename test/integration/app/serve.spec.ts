/** The served app from outside: a process, its address, its refusals, its end. */
import { createServer } from 'node:http';
import { request as httpRequest } from 'node:http';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { REQUESTS, systemSchema, type RunSummary } from '../../../src-main/contract/api.ts';
import { newestCheckpoint } from '../../../src-main/app/run-folders.ts';
import { config, tempHome, until } from '../../helpers/temp-home.ts';
import { connect, startServed, type Client, type ServedApp } from '../../helpers/served-app.ts';

const apps: ServedApp[] = [];
const clients: Client[] = [];

async function serve(home = tempHome(), args?: string[], env?: Record<string, string>): Promise<ServedApp> {
  const app = await startServed(home, args, env);
  apps.push(app);
  return app;
}

async function client(app: ServedApp): Promise<Client> {
  const opened = await connect(app.port, app.token);
  clients.push(opened);
  return opened;
}

afterEach(async () => {
  for (const each of clients.splice(0)) each.close();
  for (const app of apps.splice(0)) {
    app.process.kill('SIGKILL');
    await app.exit;
  }
});

/** node:http rather than fetch: it lets Host and raw paths through. */
function get(port: number, path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<{ status: number; headers: Record<string, unknown>; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port, path, method, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }));
    });
    request.on('error', reject);
    request.end();
  });
}

const running = (runs: RunSummary[], id: string): RunSummary => runs.find((run) => run.id === id)!;

describe('the served app', () => {
  it('prints its address first, answers every kind of request, and ends with 0 on SIGTERM', async () => {
    const app = await serve();
    expect(app.stdout().split('\n')[0]).toBe(`DRTune Studio: ${app.url}`);
    const page = await client(app);
    for (const name of ['runs.list', 'models.list', 'presets.list', 'settings.get', 'rewards.list', 'prompts.sets', 'system.get'] as const) {
      REQUESTS[name].output.parse(await page.ask(name, {}));
    }
    expect(await page.raw({ name: 'shell.exec', input: {} })).toMatchObject({ ok: false, error: { code: 'not-found' } });
    expect(await page.raw({ name: 'runs.get', input: { id: 'nope' } })).toMatchObject({ ok: false, error: { code: 'not-found' } });
    const data = Buffer.alloc(9e6, 7).toString('base64');
    const scored = await page.ask('rewards.score', { rewards: [{ name: 'brightness' }], pictures: [{ name: 'large.png', data }] });
    expect(REQUESTS['rewards.score'].output.parse(scored)).toMatchObject([{ name: 'large.png', problem: null }]);
    const two = { rewards: [{ name: 'brightness' }], pictures: [{ name: 'a.png', data }, { name: 'b.png', data }] };
    expect(await page.raw({ name: 'rewards.score', input: two })).toMatchObject({ ok: false, error: { code: 'config', message: 'The pictures have 18.0 MB, at most 16 MB are scored at once.' } });
    expect(await page.raw({ name: 'rewards.score', input: { ...two, rewards: [{ name: 'britness' }] } })).toMatchObject({ ok: false });
    app.process.kill('SIGTERM');
    expect(await app.exit).toBe(0);
  });

  it('trains a run end to end: events to every page, pictures by id, a forecast from it', async () => {
    const app = await serve();
    const [one, two] = [await client(app), await client(app)];
    const run = await one.ask('runs.start', { config: config({ iterations: 6, sampleEvery: 3, checkpointEvery: 3 }) });
    await until(() => two.events.some((e) => e.event === 'run.summary' && (e.payload as RunSummary).state === 'finished'), 'the end, on the other page');
    const detail = await two.ask('runs.get', { id: run.id });
    REQUESTS['runs.get'].output.parse(detail);
    const seqs = two.events.flatMap((e) => (e.event === 'run.event' ? [(e.payload as { seq: number }).seq] : []));
    expect(seqs).toEqual([...Array(detail.lastSeq).keys()].map((i) => i + 1));
    const picture = await get(app.port, `/image/${detail.images[0]!.id}?token=${app.token}`);
    expect(picture).toMatchObject({ status: 200, headers: { 'content-type': 'image/png' } });
    expect(picture.body.subarray(1, 4).toString()).toBe('PNG');
    const tagged = await get(app.port, `/image/${detail.images[0]!.id}?token=${app.token}`, { 'if-none-match': String(picture.headers['etag']) });
    expect(tagged.status).toBe(304);
    const forecast = await one.ask('forecast', { config: config({ engine: 'tensorflow', iterations: 60 }) });
    expect(forecast.seconds!).toBeGreaterThan(1);
    const exported = await one.ask('runs.export', { id: run.id, format: 'diffusers' });
    expect(exported).toMatchObject({ path: expect.stringMatching(/exports.*-step-6\.safetensors$/) as string, bytes: 16, checked: expect.stringContaining('read back') as string });
    expect(await one.ask('runs.diff', { a: run.id, b: run.id })).toEqual([]);
    await one.ask('runs.delete', { id: run.id });
    expect(await one.ask('runs.list', {})).toEqual([]);
    expect(await one.ask('runs.list', { deleted: true })).toHaveLength(1);
    await one.ask('runs.purge', { id: run.id });
    expect(readdirSync(join(detail.folder, '..'))).toEqual([]);
    expect((await get(app.port, `/image/${detail.images[0]!.id}?token=${app.token}`)).status).toBe(404);
  });

  it('stops a running training with a checkpoint on Ctrl-C; the next start can resume it', async () => {
    const home = tempHome();
    const first = await serve(home);
    const page = await client(first);
    const { id } = await page.ask('runs.start', { config: config({ iterations: 10_000 }) });
    await until(() => page.events.some((e) => e.event === 'run.event' && (e.payload as { event: { type: string } }).event.type === 'step'), 'a step');
    // As a terminal does: to every process of the group, and once more by a parent that passes it on.
    process.kill(-first.process.pid!, 'SIGINT');
    setTimeout(() => first.process.kill('SIGINT'), 20);
    expect(await first.exit).toBe(0);
    const second = await serve(home);
    const run = running(await (await client(second)).ask('runs.list', {}), id);
    expect(run).toMatchObject({ state: 'stopped', reason: null });
    expect(run.step).toBeGreaterThan(0);
    expect(newestCheckpoint(join(home, 'runs', id))).toBe(run.step);
  });

  it('killed with -9: its trainer ends too, the run is found as failed and resumes', async () => {
    const home = tempHome();
    const first = await serve(home);
    const page = await client(first);
    const { id } = await page.ask('runs.start', { config: config({ iterations: 10_000, checkpointEvery: 2 }) });
    await until(() => page.events.some((e) => e.event === 'run.event' && (e.payload as { event: { type: string } }).event.type === 'checkpoint'), 'a checkpoint');
    first.process.kill('SIGKILL');
    await first.exit;
    const second = await serve(home);
    const again = await client(second);
    const run = running(await again.ask('runs.list', {}), id);
    expect(run).toMatchObject({ state: 'failed', reason: expect.stringMatching(/^The app was closed while it ran\. Resume goes on from step \d+\.$/) });
    await again.ask('runs.resume', { id, iterations: run.step + 4 });
    await until(() => again.events.some((e) => e.event === 'run.summary' && (e.payload as RunSummary).state === 'finished'), 'the resumed run');
    const detail = await again.ask('runs.get', { id });
    // The trainer may have written a checkpoint that the killed app never heard of: no step is counted twice, a few may be unseen.
    const steps = detail.steps.map((row) => row.step);
    expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b));
    expect(steps.at(-1)).toBe(run.step + 4);
  });

  it('reports the queue to the status bar', async () => {
    const app = await serve();
    const page = await client(app);
    await page.ask('runs.start', { config: config({ iterations: 50 }) });
    await page.ask('runs.start', { config: config({ iterations: 1 }) });
    const queues = () => page.events.flatMap((e) => (e.event === 'system' ? [systemSchema.parse(e.payload).queue] : []));
    await until(() => queues().some((queue) => queue.running !== null && queue.waiting === 1), 'the queue in a system event');
    await until(() => queues().at(-1)?.running === null, 'the queue to be empty again');
  });
});

it('a run that could only fail is refused with what to change', async () => {
  const page = await client(await serve());
  await expect(page.ask('runs.start', { config: config({ rewards: [{ name: 'symetry' }] }) })).rejects.toThrow('config: There is no reward "symetry".');
  await expect(page.ask('runs.start', { config: config({ rewards: [{ name: 'pickscore' }] }) })).rejects.toThrow(/"pickscore" needs a model of its own/);
  await expect(page.ask('runs.start', { config: config({ model: 'nowhere' }) })).rejects.toThrow(/weights: There is no model "nowhere"/);
  expect(await page.ask('runs.list', {})).toEqual([]);
});

describe('who is refused', () => {
  it('wrong or missing token, foreign Origin, foreign Host; guesses are limited', async () => {
    const app = await serve();
    await expect(connect(app.port, app.token, { origin: 'http://evil.example' })).rejects.toThrow('403');
    await expect(connect(app.port, app.token, { host: `evil.example:${app.port}` })).rejects.toThrow('403');
    await expect(connect(app.port, '')).rejects.toThrow('401');
    expect((await get(app.port, '/image/1')).status).toBe(401);
    expect((await get(app.port, '/', { host: 'evil.example' })).status).toBe(403);
    expect((await get(app.port, '/', { origin: 'https://evil.example' })).status).toBe(403);
    expect((await get(app.port, '/', {}, 'POST')).status).toBe(405);
    for (let i = 0; i < 8; i++) expect((await get(app.port, `/image/1?token=guess${i}`)).status).toBe(401);
    expect((await get(app.port, '/image/1?token=guess')).status).toBe(429);
    await client(app); // the right one is let in all the same
  });

  it('paths that lead out', async () => {
    const app = await serve();
    for (const path of ['/../package.json', '/..%2f..%2fpackage.json', '/%2e%2e/%2e%2e/package.json', '/assets/../../main/main.js', '/..%5c..%5cpackage.json', '/%00.html', '/%ff', '/image/../../x.png']) {
      const { status, body } = await get(app.port, path);
      expect([400, 401, 404, 503], path).toContain(status);
      expect(body.toString(), path).not.toContain('better-sqlite3');
    }
    for (const path of ['starter/pipeline/model_index.json', '../package.json', '..%2fpackage.json', 'engine-packs.json']) {
      expect((await get(app.port, `/resource/${path}?token=${app.token}`)).status, path).toBeGreaterThanOrEqual(400);
    }
    expect((await get(app.port, `/image/999?token=${app.token}`)).status).toBe(404);
  });

  it('addresses that are none: refused without an internal error, for a WebSocket too, and the app lives', async () => {
    const app = await serve();
    const key = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
    for (const path of ['//', '///', 'http://[', '//:0', 'http://a:b/', '/\\', '?', '/ws?token=%ff', '/%']) {
      expect([200, 400, 401, 404, 503], path).toContain((await get(app.port, path)).status);
      expect([400, 401, 404], path).toContain((await get(app.port, path, key)).status);
    }
    expect((await get(app.port, '//', {})).status).toBe(400);
    expect(app.stderr()).toBe('');
    await client(app);
  });

  it('exports and other machines\' files: not without the token, not from elsewhere, not of a machine that nobody added', async () => {
    const home = tempHome();
    mkdirSync(join(home, 'exports/peft'), { recursive: true });
    writeFileSync(join(home, 'exports/lora.safetensors'), 'weights');
    writeFileSync(join(home, 'exports/peft/a.json'), '{}');
    mkdirSync(join(home, 'exports/linked'));
    mkdirSync(join(home, 'private'));
    writeFileSync(join(home, 'private/secret.txt'), 'secret');
    symlinkSync(join(home, 'private'), join(home, 'exports/linked/out'), 'junction');
    const app = await serve(home);
    for (const path of ['/export/lora.safetensors', '/server/0123456789ab/image/1', '/server/0123456789ab/export/x']) {
      expect((await get(app.port, path)).status, path).toBe(401);
      expect((await get(app.port, `${path}?token=${app.token}`, { origin: 'http://evil.example' })).status, path).toBe(403);
      expect((await get(app.port, `${path}?token=${app.token}`, { host: 'evil.example' })).status, path).toBe(403);
      expect((await get(app.port, `${path}?token=${app.token}`, {}, 'POST')).status, path).toBe(405);
    }
    const file = await get(app.port, '/export/lora.safetensors', { authorization: `Bearer ${app.token}` });
    expect([file.status, file.body.toString(), file.headers['content-disposition'], file.headers['content-type']]).toEqual([200, 'weights', "attachment; filename*=UTF-8''lora.safetensors", 'application/octet-stream']);
    const folder = await get(app.port, `/export/peft?token=${app.token}`);
    expect([folder.status, folder.body.length, folder.headers['content-length'], folder.headers['content-type']]).toEqual([200, 2048, '2048', 'application/x-tar']);
    expect((await get(app.port, `/export/peft?token=${app.token}`, {}, 'HEAD')).body.length).toBe(0);
    for (const path of ['/export/..%2fhistory.sqlite', '/export/..', '/export/%2e%2e', '/export/nothing', '/export/peft%2fa.json', '/export/linked', '/server/0123456789ab/image/1', '/server/0123456789ab/ws', '/server/0123456789ab/export/..%2f..%2fx', '/server/http:%2f%2fevil.example/image/1']) {
      const { status, body } = await get(app.port, `${path}?token=${app.token}`);
      expect([400, 404, 503], path).toContain(status === 200 && body.toString().startsWith('<!') ? 404 : status);
      expect(body.toString().slice(0, 15), path).not.toContain('SQLite');
    }
  });

  it('asked for another machine, passes nothing on but to machines on the list, and what they cannot know stays here', async () => {
    const [near, far] = [await serve(), await serve()];
    const page = await client(near);
    expect(await page.raw({ name: 'runs.list', input: {}, server: `127.0.0.1:${far.port}` })).toMatchObject({ ok: false, error: { code: 'not-found' } });
    const { id } = await page.ask('servers.add', { name: 'Far', address: far.url });
    expect(JSON.stringify(await page.ask('servers.list', {}))).not.toContain(far.token);
    expect(await page.raw({ name: 'runs.list', input: {}, server: id })).toEqual({ ok: true, value: [] });
    const there = await page.raw({ name: 'system.get', input: {}, server: id });
    expect(there).toMatchObject({ ok: true });
    expect((there as { value: { home: string } }).value.home).not.toBe((await page.ask('system.get', {})).home);
    expect(await page.raw({ name: 'servers.list', input: {}, server: id })).toMatchObject({ ok: false, error: { code: 'denied' } });
    // Path confinement is the far side's own.
    expect(await page.raw({ name: 'models.add', input: { path: '/etc/passwd' }, server: id })).toMatchObject({ ok: false, error: { code: 'denied', message: expect.stringContaining('outside of what a page may read') as string } });
    // A second hop is no hop: near asks far, far asks nobody.
    expect(await (await client(far)).ask('servers.list', {})).toEqual([]);
    const events = page.events.filter(({ event }) => event === 'servers').map(({ payload }) => (payload as { state: string }[])[0]?.state);
    expect(events).toContain('connected');
    expect(near.stderr() + far.stderr()).toBe('');
  });

  it('a wrong token for another machine is tried once, so that its guard does not lock this one out', async () => {
    const [near, far] = [await serve(), await serve()];
    const page = await client(near);
    const { id } = await page.ask('servers.add', { name: 'Far', address: `http://127.0.0.1:${far.port}`, token: 'wrong-one' });
    for (let i = 0; i < 15; i++) expect(await page.raw({ name: 'runs.list', input: {}, server: id })).toMatchObject({ ok: false, error: { code: 'denied' } });
    expect((await get(far.port, '/image/1?token=another')).status).toBe(401); // not 429
    await page.ask('servers.update', { id, token: far.token });
    expect(await page.raw({ name: 'runs.list', input: {}, server: id })).toEqual({ ok: true, value: [] });
  });

  it('messages that are no messages close the connection, and the app lives', async () => {
    const app = await serve();
    const page = await client(app);
    expect(await page.raw({ name: 'runs.list', input: { limit: -1 } })).toMatchObject({ ok: false, error: { code: 'config' } });
    const { WebSocket } = await import('ws');
    for (const text of ['not json', '[]', '"x"', 'null', '{"name":"runs.list"}', '{"id":"1"}']) {
      const socket = new WebSocket(`ws://127.0.0.1:${app.port}/ws?token=${app.token}`);
      const code = await new Promise<number>((resolve) => {
        socket.on('open', () => socket.send(text));
        socket.on('close', resolve);
      });
      expect([1007, 1008], text).toContain(code);
    }
    expect(await page.ask('runs.list', {})).toEqual([]);
  });

  it('every answer carries the security headers and none allows another origin', async () => {
    const app = await serve();
    for (const path of ['/', '/image/1', '/nothing.js']) {
      const { headers } = await get(app.port, path);
      expect(headers['content-security-policy'], path).toContain("script-src 'self'");
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['access-control-allow-origin']).toBeUndefined();
    }
  });
});

describe('a second one', () => {
  it('on the same folder is refused with the address of the first', async () => {
    const home = tempHome();
    const first = await serve(home);
    await expect(startServed(home)).rejects.toMatchObject({ code: 1, message: expect.stringMatching(/^DRTune Studio is already running on .* \(process \d+\)\. Open http:\/\/127\.0\.0\.1:\d+\/\?token=\S+, or stop that one first\.\n$/) });
    first.process.kill('SIGKILL');
    await first.exit;
    await serve(home); // a killed one leaves no lock
  });

  it('on a port that is taken is one clear line', async () => {
    const blocker = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => blocker.once('listening', resolve));
    const { port } = blocker.address() as { port: number };
    await expect(startServed(tempHome(), ['--port', String(port)])).rejects.toMatchObject({
      code: 1, message: `Port ${port} on 127.0.0.1 is in use. Choose another with --port, or --port 0 for any free one.\n`,
    });
    blocker.close();
  });

  it('options that are wrong are one clear line', async () => {
    await expect(startServed(tempHome(), ['--port', 'abc'])).rejects.toMatchObject({ code: 1, message: '--port must be 0 to 65535, not "abc".\n' });
    await expect(startServed(tempHome(), ['--frobnicate'])).rejects.toMatchObject({ code: 1, message: expect.stringMatching(/^Unknown option '--frobnicate'.*--port N.*\n$/) });
    await expect(startServed(tempHome(), ['--host', '203.0.113.7', '--port', '0'])).rejects.toMatchObject({ message: expect.stringMatching(/^This machine has no address 203\.0\.113\.7\..*\n$/) });
  });

  it('a damaged history is told on the page', async () => {
    const home = tempHome();
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, 'history.sqlite'), 'garbage '.repeat(1000));
    const page = await client(await serve(home));
    expect((await page.ask('system.get', {})).notices).toEqual([expect.stringMatching(/damaged/)]);
  });
});
