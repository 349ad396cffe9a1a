/** What the installers take, by electron-builder's own rules for `files`, and how Electron is locked down in them. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { builtinModules, createRequire } from 'node:module';
import { extname, join, matchesGlob, relative, sep } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseYaml } from '../../helpers/yaml.ts';

const root = join(import.meta.dirname, '../../..');
const text = readFileSync(join(root, 'electron-builder.yml'), 'utf8');
const config = parseYaml(text) as Record<string, never> & { files: string[]; asarUnpack: string[]; electronFuses: Record<string, boolean>; fileAssociations: { ext: string }[] };
const fill = (pattern: string): string => pattern.replaceAll('${platform}', process.platform).replaceAll('${arch}', process.arch);

/** electron-builder takes the last pattern that fits; node_modules of production are in from the start. */
function isTaken(file: string): boolean {
  let taken = file.startsWith('node_modules/');
  for (const pattern of config.files.map(fill)) {
    if (pattern.startsWith('!') ? taken && matchesGlob(file, pattern.slice(1)) : matchesGlob(file, pattern)) taken = !pattern.startsWith('!');
  }
  return taken;
}

function* filesBelow(folder: string): Generator<string> {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) {
      if (entry.name !== 'node_modules') yield* filesBelow(path);
    } else if (entry.isFile()) yield path;
  }
}

interface Locked { dev?: boolean; devOptional?: boolean }
const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> };
const shipped = Object.entries(packages).filter(([path, { dev, devOptional }]) => path !== '' && !dev && !devOptional && existsSync(join(root, path))).map(([path]) => path);
const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' }).split('\n').filter((file) => file && existsSync(join(root, file)));

describe('the installers', () => {
  it('are one of each kind, and their files are there', () => {
    expect([config['linux'], config['win'], config['mac']].map((each) => (each as unknown as { target: string[] }).target)).toEqual([['AppImage', 'deb'], ['nsis'], ['dmg']]);
    for (const system of ['linux', 'win', 'mac']) expect(existsSync(join(root, 'resources/icons', (config[system] as unknown as { icon: string }).icon)), system).toBe(true);
    expect(config.fileAssociations.map(({ ext }) => ext)).toEqual(['drtune', 'safetensors']);
    const { main } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { main: string };
    expect(isTaken(main)).toBe(true);
    for (const name of ['tray.png', 'trayTemplate.png', 'trayTemplate@2x.png', 'icon.png']) expect(tracked.includes(`resources/icons/${name}`) && isTaken(`resources/icons/${name}`), name).toBe(true);
  });

  it('have one identity in every place: the Linux desktop file, Windows\' notifications, the package', () => {
    const { desktopName, homepage } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, string>;
    expect(desktopName).toBe(`${String(config['appId'])}.desktop`);
    expect(config['linux']).toMatchObject({ syncDesktopName: true });
    expect(config['linux']).not.toHaveProperty('desktop');
    expect(readFileSync(join(root, 'src-main/main.ts'), 'utf8')).toContain(`const APP_ID = '${String(config['appId'])}';`);
    expect(homepage).toMatch(/^https:/); // no deb without one
  });

  it('lock Electron down', () => {
    expect(config.electronFuses).toEqual({
      runAsNode: false, enableNodeOptionsEnvironmentVariable: false, enableNodeCliInspectArguments: false, enableCookieEncryption: true,
      enableEmbeddedAsarIntegrityValidation: true, onlyLoadAppFromAsar: true, grantFileProtocolExtraPrivileges: false, loadBrowserProcessSpecificV8Snapshot: false,
    });
    expect(config).toMatchObject({ asar: true, npmRebuild: false, publish: null });
  });

  it('take the bundle and the resources; no source, no test, no golden file', () => {
    const taken = tracked.filter(isTaken);
    expect(taken.filter((file) => !/^(resources\/|package\.json$|LICENSE$)/.test(file))).toEqual([]);
    expect(taken.filter((file) => /\.(ts|py|map)$|golden|^resources\/readme/.test(file))).toEqual([]);
    for (const file of ['resources/catalog.json', 'resources/engine-packs.json', 'resources/starter/sample.png', 'resources/clip/bpe_simple_vocab_16e6.txt.gz', 'resources/rewards/symmetry-low.webp', 'LICENSE', 'package.json']) expect(taken, file).toContain(file);
  });

  it('take every package the bundle asks for, native ones outside of the archive', () => {
    const own = tracked.filter((file) => /^src-main\/(?!setup|cli)/.test(file) && file.endsWith('.ts') && !/^src-main\/serve\.ts$/.test(file));
    const names = new Set(own.flatMap((file) => [...readFileSync(join(root, file), 'utf8').matchAll(/(?:from |import\(|requirePackage\(|require\.resolve\()'([^'.#][^']*)'/g)].map(([, name]) => name!.split('/').slice(0, name!.startsWith('@') ? 2 : 1).join('/'))));
    const asked = [...names].filter((name) => !name.startsWith('node:') && !builtinModules.includes(name) && name !== 'electron');
    expect(asked).toEqual(expect.arrayContaining(['better-sqlite3', 'koffi', 'sharp', 'zod', '@tensorflow/tfjs']));
    expect(asked.filter((name) => !shipped.includes(`node_modules/${name}`) && packages[`node_modules/${name}`]?.dev)).toEqual([]);
    expect(asked.filter((name) => existsSync(join(root, 'node_modules', name)) && !isTaken(`node_modules/${name}/package.json`))).toEqual([]);
    const native = shipped.flatMap((path) => [...filesBelow(path)]).filter((file) => isTaken(file) && /\.(node|so(\.[\d.]+)?|dylib|dll)$/.test(file));
    expect(native.filter((file) => !config.asarUnpack.some((pattern) => matchesGlob(file, pattern)))).toEqual([]);
    for (const part of ['better-sqlite3/prebuilds', '@koromix', '@img']) expect(native.some((file) => file.includes(part)), part).toBe(true);
    expect(native.filter((file) => file.includes('better-sqlite3'))).toHaveLength(1);
    const entry = (name: string): string => `node_modules/${name}/${(JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')) as { main: string }).main}`;
    for (const name of ['@tensorflow/tfjs', '@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm', '@tensorflow/tfjs-backend-cpu', '@tensorflow/tfjs-layers']) expect(isTaken(entry(name)), entry(name)).toBe(true);
    expect(isTaken('node_modules/vue/dist/vue.cjs.js')).toBe(false);
  });

  it('take every file that is loaded of a package, down to the packages behind it', () => {
    const own = tracked.filter((file) => /^src-main\/(?!setup|cli)/.test(file) && file.endsWith('.ts') && !file.endsWith('/serve.ts'));
    const [seen, missing]: [Set<string>, string[]] = [new Set(), []];
    const follow = (file: string, asked: RegExp): void => {
      for (const match of readFileSync(join(root, file), 'utf8').matchAll(asked)) {
        const name = match.slice(1).find((each) => each !== undefined);
        if (builtinModules.includes(name!) || name!.startsWith('node:') || name === 'electron' || (name!.startsWith('.') && file.startsWith('src-main/'))) continue;
        let found: string;
        try {
          found = relative(root, createRequire(join(root, file)).resolve(name!)).split(sep).join('/');
        } catch {
          continue; // optional, and not there
        }
        if (seen.has(found) || !found.startsWith('node_modules/')) continue;
        seen.add(found);
        if (!isTaken(found)) missing.push(`${found}, of ${file}`);
        else if (/\.c?js$/.test(found)) follow(found, /\brequire\(["']([^"'\n]+)["']\)/g);
      }
    };
    for (const file of own) follow(file, /^import (?!type).* from '([^'#][^']*)'|^} from '([^'#][^']*)'|(?:import|requirePackage|require\.resolve|\.resolve)\('([^'.#][^']*)'\)/gm);
    expect(missing).toEqual([]);
    expect([...seen].some((file) => file.includes('google-protobuf'))).toBe(true);
  });

  it('stay below 200 MB without the engine', () => {
    /** Of its size what is left of a file in the installer: measured with gzip on each kind. */
    const kept = (file: string): number => (['.js', '.cjs', '.mjs', '.json', '.txt'].includes(extname(file)) ? 0.3 : /\.(node|so[\d.]*|wasm|dll|dylib)$/.test(file) ? 0.5 : 1);
    const files = [...shipped.flatMap((path) => [...filesBelow(path)]), ...tracked, ...(existsSync(join(root, 'out/main')) ? filesBelow('out') : [])].filter(isTaken);
    const bytes = files.reduce((sum, file) => sum + statSync(join(root, file)).size * kept(file), 0);
    /** Electron 45 itself, compressed, is not above this on any system. */
    const ELECTRON = 125e6;
    expect(bytes).toBeGreaterThan(20e6);
    expect(bytes + ELECTRON).toBeLessThan(200e6);
  });
});
