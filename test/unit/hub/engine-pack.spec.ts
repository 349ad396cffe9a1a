import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findCudaLibraries, findLibraries, packFolder } from '../../../src-main/engine/engine-folder.ts';
import { installPack, packStatus, type InstallOptions, type PackProgress } from '../../../src-main/hub/engine-pack.ts';
import { packFor, wheelsOf } from '../../../src-main/hub/manifest.ts';
import { cudaFiles, cudaPack, FakeRegistry, libraries, pack, wheel, type Behaviour } from './fake-registry.ts';

let home: string;
let registry: FakeRegistry;
let notices: string[];
const part = (): string => join(home, 'engines', 'downloads', `${pack.file}.part`);

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'drtune-hub-'));
  registry = new FakeRegistry();
  registry.kept = () => statSync(part(), { throwIfNoEntry: false })?.size ?? 0;
  notices = [];
  process.env['DRTUNE_PACKAGE_INDEX'] = await registry.open();
});
afterEach(async () => {
  delete process.env['DRTUNE_PACKAGE_INDEX'];
  await registry.close();
  rmSync(home, { recursive: true, force: true });
});

const works = async () => ({ usable: true, version: '2.21.0', device: 'test', why: '' });
function install(options: Partial<InstallOptions> = {}) {
  return installPack({ home, pack, probe: works, stallMs: 1000, backoffMs: 5, onNotice: (line) => notices.push(line), ...options });
}
function expectInstalled(): void {
  const dir = packFolder(home);
  for (const [name, data] of Object.entries(libraries)) expect(readFileSync(join(dir, name)).equals(data), name).toBe(true);
  expect(JSON.parse(readFileSync(join(dir, 'pack.json'), 'utf8'))).toMatchObject({ version: '2.21.0', sha256: pack.sha256 });
  expect(readdirSync(join(home, 'engines')).sort()).toEqual(['downloads', dir.split('/').at(-1)].sort());
  expect(readdirSync(join(home, 'engines', 'downloads'))).toEqual([]);
}

describe('installPack', () => {
  it('downloads, verifies, unpacks and tries the pack, telling its progress', async () => {
    const phases = new Map<string, PackProgress>();
    expect(await packStatus(home, pack)).toMatchObject({ supported: true, installed: false, bytesToDownload: pack.size, bytesDownloaded: 0 });
    expect(await install({ onProgress: (p) => phases.set(p.phase, p) })).toEqual({ dir: packFolder(home), installed: true });
    expectInstalled();
    expect([...phases.keys()]).toEqual(['download', 'verify', 'unpack', 'probe']);
    for (const { bytes, total } of phases.values()) expect(bytes).toBe(total);
    expect(await packStatus(home, pack)).toMatchObject({ installed: true });
    expect(await install()).toMatchObject({ installed: false });
    expect(registry.requests.length).toBe(1);
  });

  it('reads a mirror that answers in HTML', async () => {
    registry.html = true;
    await install();
    expectInstalled();
  });

  it.each<{ what: string; behaviours: Behaviour[]; ranges: (number | undefined)[] }>([
    { what: 'a dropped connection', behaviours: [{ do: 'drop', after: 100_000 }], ranges: [undefined, 100_000] },
    { what: 'three drops', behaviours: [{ do: 'drop', after: 50_000 }, { do: 'drop', after: 60_000 }, { do: 'drop', after: 70_000 }], ranges: [undefined, 50_000, 110_000, 180_000] },
    { what: 'a stall', behaviours: [{ do: 'stall', after: 90_000 }], ranges: [undefined, 90_000] },
    { what: 'a server that is busy', behaviours: [{ do: 'status', status: 503 }], ranges: [undefined, undefined] },
    { what: 'a server that ignores ranges', behaviours: [{ do: 'drop', after: 80_000 }, { do: 'ignore range' }], ranges: [undefined, 80_000] },
    { what: 'a range that is not the one asked for', behaviours: [{ do: 'drop', after: 80_000 }, { do: 'wrong range' }], ranges: [undefined, 80_000, 80_000] },
    { what: 'a file that was replaced meanwhile', behaviours: [{ do: 'drop', after: 80_000 }, { do: 'new version' }], ranges: [undefined, 80_000] },
    { what: 'more bytes than the file has', behaviours: [{ do: 'too many bytes' }], ranges: [undefined] },
  ])('gets over $what', async ({ behaviours, ranges }) => {
    registry.behaviours = [...behaviours];
    await install();
    expectInstalled();
    const asked = registry.requests.map(({ range }) => range).slice(0, ranges.length);
    expect(asked).toEqual(ranges.map((start) => (start === undefined ? undefined : `bytes=${start}-`)));
  });

  it('tells of a stall', async () => {
    registry.behaviours = [{ do: 'stall', after: 90_000 }];
    await install({ stallMs: 200 });
    expect(notices).toEqual([expect.stringContaining('No data for 0.2 s')]);
  });

  it('gives up after six attempts that brought nothing', async () => {
    registry.behaviours = Array.from({ length: 20 }, () => ({ do: 'status', status: 500 }) as const);
    await expect(install({ backoffMs: 1 })).rejects.toMatchObject({ code: 'network', message: expect.stringContaining('answered 500') });
    expect(registry.requests.length).toBe(6);
  });

  it('does not insist on what is refused', async () => {
    registry.behaviours = [{ do: 'status', status: 403 }];
    await expect(install()).rejects.toMatchObject({ code: 'network', message: expect.stringContaining('403') });
    expect(registry.requests.length).toBe(1);
  });

  it('deletes a damaged download, says so once, and succeeds the next time', async () => {
    registry.behaviours = [{ do: 'wrong bytes' }];
    await expect(install()).rejects.toMatchObject({ code: 'network', message: expect.stringMatching(/damaged: sha256 .* expected/) });
    expect(existsSync(part())).toBe(false);
    expect(existsSync(packFolder(home))).toBe(false);
    await install();
    expectInstalled();
  });

  it('says which file a mirror lacks', async () => {
    await expect(install({ pack: { ...pack, file: 'absent.whl' } })).rejects.toMatchObject({ message: expect.stringContaining('has no absent.whl'), hint: expect.stringContaining('DRTUNE_PACKAGE_INDEX') });
  });

  it('gives a private mirror its name and password, and never prints them', async () => {
    registry.authorization = `Basic ${Buffer.from('ann:s3cret/x').toString('base64')}`;
    process.env['DRTUNE_PACKAGE_INDEX'] = process.env['DRTUNE_PACKAGE_INDEX']!.replace('//', '//ann:s3cret%2Fx@');
    await expect(install({ pack: { ...pack, file: 'absent.whl' } })).rejects.toMatchObject({ message: expect.not.stringContaining('s3cret') });
    await install();
    expectInstalled();
    process.env['DRTUNE_PACKAGE_INDEX'] = process.env['DRTUNE_PACKAGE_INDEX'].replace('ann:', 'bob:');
    await expect(install({ force: true })).rejects.toMatchObject({ message: expect.stringMatching(/^(?!.*s3cret).*answered 401/) });
  });

  it('says what to do without a network', async () => {
    process.env['DRTUNE_PACKAGE_INDEX'] = 'http://127.0.0.1:9/simple';
    await expect(install({ backoffMs: 1 })).rejects.toMatchObject({ code: 'network', message: expect.stringContaining('Cannot reach 127.0.0.1:9'), hint: expect.stringContaining('HTTPS_PROXY') });
  });

  it('keeps the pack that was there when the new one does not work', async () => {
    await install();
    const broken = async () => ({ usable: false, version: '', device: '', why: 'it crashed when tried (SIGILL)' });
    await expect(install({ force: true, probe: broken })).rejects.toMatchObject({ code: 'engine', message: expect.stringContaining('SIGILL') });
    expect(await packStatus(home, pack)).toMatchObject({ installed: true });
    await install({ force: true });
    expectInstalled();
  });

  it('gives back the old pack if it was killed while swapping folders', async () => {
    await install();
    const dir = packFolder(home);
    const { renameSync } = await import('node:fs');
    renameSync(dir, `${dir}.old`);
    registry.behaviours = [{ do: 'status', status: 403 }];
    await expect(install()).rejects.toMatchObject({ code: 'network' });
    expectInstalled();
  });

  it('takes the file that was brought along, only if it is the very one, and asks nobody', async () => {
    const [brought, other] = [join(home, 'brought.whl'), join(home, 'other.whl')];
    writeFileSync(brought, wheel);
    writeFileSync(other, Buffer.from(wheel).fill(0, 100, 200));
    const phases = new Set<string>();
    await expect(install({ file: other })).rejects.toMatchObject({ code: 'config', message: expect.stringMatching(/is another file, or damaged/) as string, hint: expect.stringContaining(pack.file) as string });
    await expect(install({ file: join(home, 'none.whl') })).rejects.toMatchObject({ code: 'config', message: expect.stringMatching(/^There is no file/) as string });
    await expect(install({ file: home })).rejects.toMatchObject({ code: 'config' });
    await expect(install({ file: brought, pack: cudaPack })).rejects.toMatchObject({ code: 'config', message: expect.stringContaining('more than one file') as string });
    await install({ file: brought, onProgress: ({ phase }) => phases.add(phase) });
    expect([...phases]).toEqual(['verify', 'unpack', 'probe']);
    expect(readFileSync(brought).equals(wheel)).toBe(true);
    expect(await packStatus(home, pack)).toMatchObject({ installed: true });
    expect(registry.requests).toEqual([]);
  });

  it('does not take a folder without pack.json for a pack', async () => {
    await install();
    rmSync(join(packFolder(home), 'pack.json'));
    expect((await install()).installed).toBe(true);
    expectInstalled();
  });

  it('refuses a disk that is too small before it downloads', async () => {
    const huge = { ...pack, entries: [{ path: 'tensorflow/x', size: 2 ** 52 }] };
    await expect(install({ pack: huge })).rejects.toMatchObject({ code: 'disk', message: expect.stringContaining('MB are free') });
    expect(registry.requests.length).toBe(0);
  });

  it('stops when told, and goes on where it stopped', async () => {
    registry.behaviours = [{ do: 'stall', after: 120_000 }];
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 100);
    await expect(install({ signal: stop.signal, stallMs: 10_000 })).rejects.toMatchObject({ message: expect.stringContaining('stopped') });
    expect(await packStatus(home, pack)).toMatchObject({ bytesDownloaded: 120_000 });
    await install();
    expect(registry.requests.at(-1)?.range).toBe('bytes=120000-');
    expectInstalled();
  });

  it('takes over the lock of a process that is gone, and waits for one that lives', async () => {
    const lock = join(home, 'engines', '.install.lock');
    mkdirSync(join(home, 'engines'), { recursive: true });
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 600)']);
    writeFileSync(lock, String(child.pid));
    await install();
    expectInstalled();
    expect(notices).toEqual([`Waiting for another installation (process ${child.pid}).`]);
  });

  it('installs once when two processes start together', async () => {
    const results = await Promise.all([install(), install()]);
    expect(results.map(({ installed }) => installed).sort()).toEqual([false, true]);
    expect(registry.requests.length).toBe(1);
    expectInstalled();
  });

  it('goes on after a SIGKILL in the middle of the download', async () => {
    registry.behaviours = [{ do: 'stall', after: 200_000 }];
    const source = (path: string): string => JSON.stringify(fileURLToPath(new URL(path, import.meta.url)));
    const program = `
      const { installPack } = await import(${source('../../../src-main/hub/engine-pack.ts')});
      const { pack } = await import(${source('./fake-registry.ts')});
      await installPack({ home: ${JSON.stringify(home)}, pack });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { env: process.env, stdio: 'inherit' });
    for (let waited = 0; waited < 200 && (await packStatus(home, pack)).bytesDownloaded < 200_000; waited++) await new Promise((done) => setTimeout(done, 50));
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(existsSync(join(home, 'engines', '.install.lock'))).toBe(true);
    await install();
    expect(registry.requests.at(-1)?.range).toBe('bytes=200000-');
    expectInstalled();
  });

  it('verifies at once when everything is already there', async () => {
    mkdirSync(join(home, 'engines', 'downloads'), { recursive: true });
    writeFileSync(part(), wheel);
    await install();
    expect(registry.requests.length).toBe(0);
    expectInstalled();
  });
});

describe('the pack with CUDA', () => {
  const paths = (folder: string): string[] => (readdirSync(folder, { recursive: true, encoding: 'utf8' })).filter((path) => statSync(join(folder, path)).isFile()).sort();

  it('is laid out as in site-packages: TensorFlow beside the folder nvidia, and is tried where it will be loaded', async () => {
    const tried: string[][] = [];
    const progress: PackProgress[] = [];
    const probe = async (folder: string) => (tried.push(readdirSync(folder)), works());
    const { dir } = await install({ pack: cudaPack, probe, onProgress: (each) => progress.push(each) });
    expect(dir).toBe(packFolder(home, 'cuda'));
    expect(paths(dir)).toEqual([...Object.keys(cudaFiles), 'tensorflow/pack.json'].sort());
    for (const [path, data] of Object.entries(cudaFiles)) expect(readFileSync(join(dir, path)).equals(data), path).toBe(true);
    expect(statSync(join(dir, 'nvidia/cuda_nvcc/bin/ptxas')).mode & 0o111).toBe(0o111);
    expect(tried).toEqual([Object.keys(libraries).sort()]);
    expect(findCudaLibraries(home, {})).toBe(join(dir, 'tensorflow'));
    expect(findLibraries(home, {}).folder).toBeUndefined(); // the pack for the processor is another
    expect(await packStatus(home, cudaPack)).toMatchObject({ installed: true, bytesToDownload: wheelsOf(cudaPack).reduce((sum, { size }) => sum + size, 0) });
    const download = progress.filter(({ phase }) => phase === 'download').map(({ bytes }) => bytes);
    expect(download).toEqual([...download].sort((a, b) => a - b));
    expect(progress.at(-1)).toMatchObject({ phase: 'probe' });
    expect(await install({ pack: cudaPack })).toMatchObject({ installed: false });
  });

  it('goes on with the wheel at which it was interrupted', async () => {
    await install();
    const broken = { ...cudaPack, with: [cudaPack.with![0]!, { ...cudaPack.with![1]!, file: 'absent.whl' }] };
    await expect(install({ pack: broken })).rejects.toMatchObject({ message: expect.stringContaining('has no absent.whl') });
    expect(existsSync(packFolder(home, 'cuda'))).toBe(false);
    registry.requests.length = 0;
    await install({ pack: cudaPack });
    expect(registry.requests.map(({ path }) => path)).toEqual(['/simple/nvidia-cuda-nvcc-cu12/', '/files/nvidia_cuda_nvcc_cu12-12.8-test.whl']);
    expect(await packStatus(home, pack)).toMatchObject({ installed: true });
  });

  it('is offered for Linux on x64 alone, with everything that TensorFlow names', () => {
    expect(packFor('cuda', 'win32', 'x64')).toBeUndefined();
    expect(packFor('cuda', 'linux', 'arm64')).toBeUndefined();
    const wheels = wheelsOf(packFor('cuda', 'linux', 'x64')!);
    expect(wheels.map((each) => each.package)).toEqual(['tensorflow', ...[
      'cublas', 'cuda-cupti', 'cuda-nvcc', 'cuda-nvrtc', 'cuda-runtime', 'cudnn', 'cufft', 'curand', 'cusolver', 'cusparse', 'nccl', 'nvjitlink',
    ].map((name) => `nvidia-${name}-cu12`)]);
    const all = wheels.flatMap(({ entries }) => entries.map(({ path }) => path));
    for (const path of all) expect(path).toMatch(/^(tensorflow\/lib|nvidia\/\w+\/(lib\/lib|bin\/ptxas|nvvm\/libdevice\/))/);
    expect(new Set(all).size).toBe(all.length);
  });
});
