import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AnyAnswer, HelperPort } from '../../../src-main/app/helper.ts';
import { answerLibrary, type LibraryRequest } from '../../../src-main/app/library-jobs.ts';
import { ModelHub } from '../../../src-main/app/model-hub.ts';
import { TokenStore } from '../../../src-main/app/token-store.ts';
import type { SecretBox } from '../../../src-main/app/secret-file.ts';
import { REQUESTS, modelDownloadSchema, type ModelDownload } from '../../../src-main/contract/api.ts';
import { closeConnections } from '../../../src-main/hub/http.ts';
import { listModels } from '../../../src-main/models/known.ts';
import { FakeHub } from '../hub/fake-hub.ts';

const fixture = join(import.meta.dirname, '../../golden/models/fixtures/linear');
const UNET = 'unet/diffusion_pytorch_model.fp16.safetensors';
const ID = 'someone--tiny-xl';

let home: string;
let hub: FakeHub;
let published: ModelDownload[][];
const saved = Object.fromEntries(['HF_ENDPOINT', 'HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'NO_PROXY'].map((name) => [name, process.env[name]]));

/** The helper's work in this process; killing it only stops its messages. */
function launchHere(): HelperPort {
  const messages: ((message: AnyAnswer) => void)[] = [];
  const exits: ((words: string) => void)[] = [];
  let alive = true;
  const exit = (words: string): void => {
    if (!alive) return;
    alive = false;
    exits.forEach((listener) => listener(words));
  };
  return {
    send: (request) => void answerLibrary(request as LibraryRequest, async (message) => {
      if (alive) messages.forEach((listener) => listener(message));
    }).finally(() => exit('exit 0')),
    onMessage: (listener) => void messages.push(listener),
    onExit: (listener) => void exits.push(listener),
    kill: () => exit('SIGKILL'),
  };
}

function open(launchHelper = launchHere): ModelHub {
  return new ModelHub({ home, launchHelper, tokens: new TokenStore(home, null), publish: (downloads) => void published.push(downloads.map((each) => modelDownloadSchema.parse(each))) });
}

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'drtune-model-hub-'));
  hub = (await new FakeHub().open()).addFolder(fixture, /^(expected|lora)/);
  Object.assign(process.env, { HF_ENDPOINT: hub.endpoint, HF_TOKEN: '', HUGGING_FACE_HUB_TOKEN: '', NO_PROXY: '127.0.0.1' });
  published = [];
});
afterEach(async () => {
  await closeConnections();
  await hub.close();
  for (const [name, value] of Object.entries(saved)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
});

describe('downloads in the app', () => {
  it('go from the plan to a model on the list, which the catalogue then knows', async () => {
    hub.repo = 'stabilityai/sdxl-turbo';
    const models = open();
    const plan = REQUESTS['models.plan'].output.parse(await models.plan({ repo: 'stabilityai/sdxl-turbo' }));
    expect(plan).toMatchObject({ id: 'stabilityai--sdxl-turbo', tooLarge: null, page: `${hub.endpoint}/stabilityai/sdxl-turbo`, licence: { id: 'openrail++' } });
    expect((await models.catalog()).find(({ id }) => id === 'sdxl-turbo')?.present).toBeNull();
    await models.start(plan.id, plan.commit);
    await expect(models.start(plan.id, plan.commit)).rejects.toMatchObject({ code: 'busy' });
    await expect.poll(() => published.at(-1)?.[0]?.state, { timeout: 10_000 }).toBe('done');
    expect(published.at(-1)![0]).toMatchObject({ bytes: plan.bytes, total: plan.bytes });
    expect(listModels(home).map(({ name }) => name)).toEqual(['starter', 'sdxl-turbo']);
    expect(REQUESTS['models.catalog'].output.parse(await models.catalog()).find(({ id }) => id === 'sdxl-turbo')?.present).toBe('sdxl-turbo');
    await models.cancel(plan.id, true);
    expect(await models.list()).toEqual([]);
    expect(existsSync(join(home, 'models/stabilityai--sdxl-turbo/model_index.json'))).toBe(true);
    models.close();
  });

  it('fail with the reason, and go on in an app that was started later', async () => {
    hub.behaviours.set(UNET, [{ do: 'wrong bytes' }]);
    const first = open();
    const plan = await first.plan({ repo: 'someone/tiny-xl' });
    await first.start(ID, plan.commit);
    await expect.poll(() => published.at(-1)?.[0]?.state, { timeout: 10_000 }).toBe('failed');
    const failed = published.at(-1)![0]!;
    expect(failed).toMatchObject({ error: { message: expect.stringContaining('is damaged') } });
    expect(failed.bytes).toBeGreaterThan(0);
    expect(failed.bytes).toBeLessThan(plan.bytes);
    first.close();

    const later = open();
    expect(await later.list()).toMatchObject([{ id: ID, state: 'paused', repo: 'someone/tiny-xl', bytes: failed.bytes, total: plan.bytes }]);
    hub.asked.length = 0;
    await later.start(ID, plan.commit);
    await expect.poll(() => published.at(-1)?.[0]?.state, { timeout: 10_000 }).toBe('done');
    expect(hub.asked.some(({ path }) => path.startsWith('/api/'))).toBe(false);
    expect(statSync(join(home, `models/${ID}/${UNET}`)).size).toBe(hub.files.get(UNET)!.length);
    later.close();
  });

  it('can be given up whole', async () => {
    hub.behaviours.set(UNET, [{ do: 'wrong bytes' }]);
    const models = open();
    const { commit } = await models.plan({ repo: 'someone/tiny-xl' });
    await models.start(ID, commit);
    await expect.poll(() => published.at(-1)?.[0]?.state, { timeout: 10_000 }).toBe('failed');
    await models.cancel(ID, true);
    expect(await models.list()).toEqual([]);
    expect(existsSync(join(home, `models/${ID}.partial`))).toBe(false);
    await expect(models.start('nobody--nothing', commit)).rejects.toMatchObject({ code: 'not-found' });
    models.close();
  });

  it('of a gated model ask for a token before they begin', async () => {
    [hub.gated, hub.token] = ['auto', 'hf_right'];
    const tokens = new TokenStore(home, null);
    const models = new ModelHub({ home, launchHelper: launchHere, tokens, publish: (downloads) => void published.push(downloads) });
    const { commit, gated } = await models.plan({ repo: 'someone/tiny-xl' });
    expect(gated).toBe(true);
    await expect(models.start(ID, commit)).rejects.toMatchObject({ code: 'denied', message: expect.stringContaining('is gated') });
    expect(await models.list()).toEqual([]);
    tokens.set('hf_right');
    await models.start(ID, commit);
    await expect.poll(() => published.at(-1)?.[0]?.state, { timeout: 10_000 }).toBe('done');
    models.close();
  });

  it('whose helper dies say so', async () => {
    const plan = await open().plan({ repo: 'someone/tiny-xl' });
    let launched = 0;
    const models = open(() => (launched++ === 0 ? launchHere() : { send: () => undefined, onMessage: () => undefined, kill: () => undefined, onExit: (listener) => void setTimeout(() => listener('SIGSEGV'), 5) }));
    await models.plan({ repo: 'someone/tiny-xl' });
    await models.start(ID, plan.commit);
    await expect.poll(() => published.at(-1)?.[0], { timeout: 10_000 }).toMatchObject({ state: 'failed', error: { message: 'The download ended: SIGSEGV.' } });
    models.close();
  });
});

describe('the hub\'s token', () => {
  /** Stands for the system's keyring. */
  const box: SecretBox = { encrypt: (text) => Buffer.from(text).map((byte) => byte ^ 0x5a), decrypt: (bytes) => Buffer.from(bytes.map((byte) => byte ^ 0x5a)).toString() };

  it('is kept encrypted, for its owner alone, and forgotten on request', () => {
    const store = new TokenStore(home, box);
    expect(store.state()).toMatchObject({ source: 'none', keeps: true, endpoint: hub.endpoint });
    store.set(' hf_secret ');
    expect(store.state().source).toBe('kept');
    expect(statSync(join(home, 'hub-token')).mode & 0o777).toBe(0o600);
    expect(new TokenStore(home, box).get()).toBe('hf_secret');
    writeFileSync(join(home, 'hub-token'), 'of another machine, with blanks');
    expect(new TokenStore(home, { ...box, decrypt: () => { throw new Error('no key'); } }).get()).toBeUndefined();
    store.set('hf_next');
    expect(statSync(join(home, 'hub-token')).mode & 0o777).toBe(0o600);
    store.set('');
    expect(existsSync(join(home, 'hub-token'))).toBe(false);
    expect(store.state().source).toBe('none');
  });

  it('without a safe place lasts as long as the app, and never touches the disk', () => {
    const store = new TokenStore(home, null);
    store.set('hf_secret');
    expect([store.get(), store.state()]).toEqual(['hf_secret', { source: 'session', keeps: false, endpoint: hub.endpoint }]);
    expect(existsSync(join(home, 'hub-token'))).toBe(false);
    expect(new TokenStore(home, null).get()).toBeUndefined();
  });

  it('comes before that of the environment', () => {
    process.env['HF_TOKEN'] = 'hf_env';
    const store = new TokenStore(home, null);
    expect([store.get(), store.state().source]).toEqual(['hf_env', 'environment']);
    store.set('hf_own');
    expect(store.get()).toBe('hf_own');
    expect(() => store.set('two words')).toThrow(/no token of the hub/);
    expect(store.get()).toBe('hf_own');
  });
});
