/**
 * What a fresh clone lacks, brought in: npm packages and a Node recent enough for them. Plain JavaScript without dependencies:
 * it is what runs first, on a newcomer's Node 20.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const STAMP = join(ROOT, 'node_modules', '.drtune-installed');
const LOCK = join(ROOT, '.drtune-install.lock');
const NPM_FLAGS = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];

export function say(line) {
  process.stderr.write(`${line}\n`);
}

/** Ends with one clear line; nothing else is printed. */
export function fail(line, code = 1) {
  say(line);
  process.exit(code);
}

/** Type stripping without a flag came with 22.18 and 23.6; vitest, better-sqlite3 and electron need 22.12. */
export function isRecent(version) {
  const [major, minor] = version.replace(/^v/, '').split('.').map(Number);
  return major >= 24 || (major === 23 && minor >= 6) || (major === 22 && minor >= 18);
}

function lockfileHash() {
  return createHash('sha256').update(readFileSync(join(ROOT, 'package-lock.json'))).digest('hex');
}

function isInstalled() {
  return existsSync(STAMP) && readFileSync(STAMP, 'utf8') === lockfileHash();
}

/** npm as the user has it: the one that runs this script, else the one on PATH. */
function npm(args) {
  const script = process.env.npm_execpath;
  const node = process.env.npm_node_execpath ?? process.execPath;
  const byScript = script && /\.c?js$/.test(script) && /npm/.test(script);
  const result = byScript
    ? spawnSync(node, [script, ...args], { cwd: ROOT, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', args, { cwd: ROOT, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' });
  return result.status === 0;
}

function writeAtomically(file, text) {
  const descriptor = openSync(`${file}.tmp`, 'w');
  writeSync(descriptor, text);
  fsyncSync(descriptor);
  closeSync(descriptor);
  renameSync(`${file}.tmp`, file);
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Two commands started together must not both rewrite node_modules. */
function withInstallLock(work) {
  for (let waited = false; ; ) {
    try {
      writeFileSync(LOCK, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      const owner = Number(readFileSync(LOCK, 'utf8'));
      if (!owner || !isAlive(owner)) {
        rmSync(LOCK, { force: true });
        continue;
      }
      if (!waited) say(`Another command (process ${owner}) is installing the packages: waiting for it.`);
      waited = true;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    }
  }
  try {
    return work();
  } finally {
    rmSync(LOCK, { force: true });
  }
}

/** Brings node_modules to what package-lock.json says. Quick when it is; safe to interrupt: the stamp is written last. */
export function ensurePackages() {
  if (isInstalled()) return;
  withInstallLock(() => {
    if (isInstalled()) return;
    say('Installing the packages (npm ci): about half a minute with a good connection ...');
    if (!npm(['ci', ...NPM_FLAGS])) {
      fail('npm ci failed (its message is above). Is the npm registry reachable? Run the same command again: it goes on from there.');
    }
    writeAtomically(STAMP, lockfileHash());
    say('Packages are installed.');
  });
}

/** The Node that runs everything: the user's where it is recent enough, else the one of the npm package "node". */
export function ensureNode() {
  if (isRecent(process.version)) return process.execPath;
  const binary = join(ROOT, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  const works = () => existsSync(binary) && spawnSync(binary, ['--version']).status === 0;
  if (!works()) {
    withInstallLock(() => {
      if (works()) return;
      say(`Node ${process.version} is older than this project needs: bringing Node 24 into node_modules ...`);
      npm(['rebuild', 'node', '--ignore-scripts=false', '--foreground-scripts=false', '--no-audit', '--no-fund', '--loglevel=error']);
    });
    if (!works()) fail('Node 24 could not be brought in from the npm registry. Install Node 22.18 or later yourself and run the command again.');
  }
  return binary;
}

/** Path of Electron's binary, fetched with `node` where it can be (tried once); null where not. */
export function findElectron(node) {
  const folder = join(ROOT, 'node_modules', 'electron');
  const lookUp = () => {
    const pathFile = join(folder, 'path.txt');
    const dist = process.env.ELECTRON_OVERRIDE_DIST_PATH ?? join(folder, 'dist');
    const binary = existsSync(pathFile) ? join(dist, readFileSync(pathFile, 'utf8').trim()) : join(dist, 'electron');
    return existsSync(binary) ? binary : null;
  };
  const tried = join(ROOT, 'node_modules', '.drtune-electron-tried');
  const found = lookUp();
  if (found || existsSync(tried)) return found;
  say('Fetching Electron (about 110 MB, once) ...');
  spawnSync(node, [join(folder, 'install.js')], { cwd: ROOT, stdio: 'ignore', timeout: 600_000 });
  const fetched = lookUp();
  if (!fetched) writeFileSync(tried, 'Delete this file to let the next start try the download again.\n');
  return fetched;
}

/** Why Linux would open no window: Electron then ends at once, most often without a clear word. Empty where nothing is in its way. */
export function noWindow(env = process.env, user = process.getuid?.()) {
  if (process.platform !== 'linux') return '';
  if (!env.DISPLAY && !env.WAYLAND_DISPLAY) return 'there is no display';
  return user === 0 ? 'its sandbox does not work for root' : '';
}

/** The same of a binary in a user's folder: pages are sandboxed by the system's user namespaces, or else by a helper that root has allowed to. */
export function noSandbox(binary, read = (file) => existsSync(file) && readFileSync(file, 'utf8').trim()) {
  if (process.platform !== 'linux') return '';
  const closed = read('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') === '1' || read('/proc/sys/kernel/unprivileged_userns_clone') === '0' || read('/proc/sys/user/max_user_namespaces') === '0';
  const helper = join(dirname(binary), 'chrome-sandbox');
  const { uid, mode } = statSync(helper, { throwIfNoEntry: false }) ?? {};
  if (!closed || (uid === 0 && mode & 0o4000)) return '';
  return `this system wants root's word for its sandbox: sudo chown root:root "${helper}" && sudo chmod 4755 "${helper}"`;
}
