import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { findLibraries, packFolder, packName } from '../../../src-main/engine/engine-folder.ts';
import { libraryNames } from '../../../src-main/engine/library-names.ts';
import { probeRemembered, probeWebGpu } from '../../../src-main/engine/probe.ts';
import { engineOrder, openEngine, probeEngines } from '../../../src-main/engine/select.ts';
import { tf } from '../../../src-main/engine/tf.ts';

/** What the webgpu engine would have here. */
const gpu = await probeWebGpu();

let home: string;
const saved = { ...process.env };
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'drtune-select-'));
  delete process.env['DRTUNE_TF_LIB_DIR'];
  delete process.env['DRTUNE_ENGINES'];
});
afterEach(() => {
  process.env = { ...saved };
  rmSync(home, { recursive: true, force: true });
});

/** A folder that looks like a pack but holds no libraries. */
function fakePack(folder: string, whole = true): string {
  mkdirSync(folder, { recursive: true });
  for (const name of libraryNames()) writeFileSync(join(folder, name), 'not a library');
  if (whole) writeFileSync(join(folder, 'pack.json'), '{}');
  return folder;
}

describe('findLibraries', () => {
  it('finds nothing in a new home, and nothing half unpacked', () => {
    expect(findLibraries(home, {})).toEqual({ folder: undefined, why: 'the engine pack is not installed' });
    fakePack(packFolder(home), false);
    expect(findLibraries(home, {}).folder).toBeUndefined();
  });

  it("takes a developer's folder first, then the home's pack, then the machine's", () => {
    const shared = fakePack(join(home, 'shared', packName()));
    const env = { DRTUNE_ENGINES: join(home, 'shared') };
    expect(findLibraries(home, env).folder).toBe(shared);
    const own = fakePack(packFolder(home));
    expect(findLibraries(home, env).folder).toBe(own);
    const developer = fakePack(join(home, 'developer'), false);
    expect(findLibraries(home, { ...env, DRTUNE_TF_LIB_DIR: developer }).folder).toBe(developer);
    expect(findLibraries(home, { DRTUNE_TF_LIB_DIR: join(home, 'empty') }).why).toContain('which has no libtensorflow_framework');
  });
});

describe('probeEngines', () => {
  it('reports every engine, with why', async () => {
    expect(await probeEngines(home)).toEqual([
      { name: 'tensorflow', usable: false, version: '', device: '', why: expect.stringMatching(/^the engine pack is not installed/) },
      { name: 'webgpu', ...gpu, why: gpu.why || 'a GPU offers itself' },
      expect.objectContaining({ name: 'wasm', usable: true, version: '4.22.0' }),
    ]);
  });

  it('says what is wrong with libraries that cannot be loaded', async () => {
    fakePack(packFolder(home));
    const [tensorflow] = await probeEngines(home);
    expect(tensorflow).toMatchObject({ usable: false, why: expect.stringMatching(/Failed to load|invalid ELF|file too short|not a mach-o/i) });
  });

  it.skipIf(findLibraries(drtuneHome(saved), saved).folder === undefined)('finds the real libraries usable', async () => {
    process.env = { ...saved };
    expect((await probeEngines(drtuneHome()))[0]).toMatchObject({ name: 'tensorflow', usable: true, version: '2.21.0' });
    expect(tf.findBackend('tensorflow')).toBeNull(); // nothing was loaded here
  });
});

describe('the order of engines', () => {
  it('prefers a GPU where TensorFlow has no libraries for any, and TensorFlow on Linux', () => {
    expect([engineOrder('win32')[0], engineOrder('darwin')[0], engineOrder('linux')[0]]).toEqual(['webgpu', 'webgpu', 'tensorflow']);
    for (const platform of ['win32', 'darwin', 'linux']) expect([...engineOrder(platform)].sort()).toEqual(['tensorflow', 'wasm', 'webgpu']);
    expect(engineOrder('win32').at(-1)).toBe('wasm');
  });
});

describe('probeRemembered', () => {
  const real = findLibraries(drtuneHome(saved), saved).folder;

  it.skipIf(real === undefined)('tries once, and again when the libraries changed or the note is damaged', async () => {
    const note = join(home, 'probed.json');
    const first = await probeRemembered(real!, note);
    expect(first.usable).toBe(true);
    const known = JSON.parse(readFileSync(note, 'utf8')) as { key: string; result: object };
    writeFileSync(note, JSON.stringify({ ...known, result: { ...known.result, version: 'remembered' } }));
    expect((await probeRemembered(real!, note)).version).toBe('remembered');
    writeFileSync(note, JSON.stringify({ ...known, key: 'another machine' }));
    expect(await probeRemembered(real!, note)).toEqual(first);
    writeFileSync(note, '{');
    expect(await probeRemembered(real!, note)).toEqual(first);
  });

  it('does not remember a failure', async () => {
    const note = join(home, 'probed.json');
    expect((await probeRemembered(fakePack(packFolder(home)), note)).usable).toBe(false);
    expect(existsSync(note)).toBe(false);
  });
});

describe('openEngine', () => {
  it.each([
    { prefer: 'tensorflow', code: 'engine', message: 'the engine pack is not installed' },
    { prefer: 'cuda', code: 'config', message: 'Unknown engine "cuda"' },
  ])('says why $prefer cannot be used', async ({ prefer, code, message }) => {
    await expect(openEngine({ prefer: prefer as 'wasm', home })).rejects.toMatchObject({ code, message: expect.stringContaining(message), hint: expect.any(String) });
  });

  it.skipIf(gpu.why !== 'no GPU adapter')('says why webgpu cannot be used', async () => {
    await expect(openEngine({ prefer: 'webgpu', home })).rejects.toMatchObject({ code: 'engine', message: expect.stringContaining('no GPU adapter was offered'), hint: expect.stringContaining('Vulkan') });
  });

  it.skipIf(gpu.usable)('takes wasm when tensorflow does not work, and says so', async () => {
    fakePack(packFolder(home));
    const notices: string[] = [];
    const engine = await openEngine({ home, onNotice: (line) => notices.push(line) });
    expect(engine).toMatchObject({ name: 'wasm', version: '4.22.0', why: expect.stringContaining('TensorFlow does not work here') });
    expect(notices).toEqual([expect.stringMatching(/^Computing with the wasm engine, which is slower: TensorFlow does not work here/)]);
    expect(tf.getBackend()).toBe('wasm');
    expect(engine.memory()).toEqual({ tensors: 0, bytes: 0 });
  });
});
