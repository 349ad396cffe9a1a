/**
 * The one entry of every npm script: `node src-main/setup/run.mjs TASK [ARGUMENTS]`. Brings in what is missing, then starts the
 * task on a recent Node. Runs on a newcomer's Node 20 with an empty node_modules; prints only to stderr, so that a command's JSON
 * stays clean.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, ensureNode, ensurePackages, fail, findElectron, noSandbox, noWindow, say } from './dependencies.mjs';

const BUILDER = '26.17.0';
const NODE_FLAGS = ['--disable-warning=ExperimentalWarning'];
const [task = '', ...args] = process.argv.slice(2);

/** Runs to the end and passes on signals and the exit code. */
function run(command, commandArgs) {
  const child = spawn(command, commandArgs, { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  // A terminal's Ctrl-C reaches the child by itself; a second one would cut short its orderly end.
  process.on('SIGINT', () => process.stdin.isTTY || child.kill('SIGINT'));
  child.on('error', (error) => fail(`${command} could not be started: ${error.message}`));
  child.on('exit', (code, signal) => {
    if (signal) say(`ended by ${signal}`);
    process.exit(code ?? 1);
  });
}

function runNode(node, script, scriptArgs = args) {
  run(node, [...NODE_FLAGS, join(ROOT, script), ...scriptArgs]);
}

/** The engine pack; without it (no network, no pack for this machine) the wasm engine is used and says so. */
function ensureEngine(node) {
  if (process.env.DRTUNE_SKIP_ENGINE) return;
  const result = spawnSync(node, [...NODE_FLAGS, join(ROOT, 'src-main/hub/install-engine.ts')], { stdio: ['ignore', 2, 2] });
  if (result.status !== 0) say('Going on with the slower wasm engine. The next start tries the TensorFlow engine again.');
}

function newestChange(folder) {
  let newest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) newest = Math.max(newest, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
  }
  return newest;
}

/** Builds what is older than its sources. */
function ensureBuilt(node, output, sources, buildArgs) {
  const built = join(ROOT, output);
  const changed = Math.max(...sources.map((folder) => newestChange(join(ROOT, folder))));
  if (existsSync(built) && statSync(built).mtimeMs >= changed) return;
  say('Building the pages ...');
  const result = spawnSync(node, buildArgs, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (result.status !== 0) fail('The pages could not be built (the message is above).');
}

function ensureRenderer(node) {
  const vite = join(ROOT, 'node_modules/vite/bin/vite.js');
  ensureBuilt(node, 'out/renderer/index.html', ['src-renderer', 'src-main/contract'],
    [vite, 'build', '-c', 'src-renderer/vite.config.ts', '--logLevel', 'warn']);
}

function start(node) {
  const served = args.includes('--serve');
  let why = served ? '' : noWindow();
  const electron = served || why ? null : findElectron(node);
  why ||= electron ? noSandbox(electron) : 'its binary could not be fetched';
  ensureEngine(node);
  if (electron && !why) {
    const bin = join(ROOT, 'node_modules/electron-vite/bin/electron-vite.js');
    ensureBuilt(node, 'out/main/main.js', ['src-main', 'src-renderer'], [bin, 'build', '--logLevel', 'warn']);
    run(electron, [ROOT, ...args]);
    return;
  }
  if (!served) say(`Electron's window is not available here (${why}): serving the same app to your browser.`);
  ensureRenderer(node);
  runNode(node, 'src-main/serve.ts', args.filter((argument) => argument !== '--serve'));
}

const TASKS = {
  demo: (node) => {
    ensureEngine(node);
    runNode(node, 'src-main/cli/main.ts', ['demo', ...args]);
  },
  drtune: (node) => runNode(node, 'src-main/cli/main.ts'),
  cuda: (node) => runNode(node, 'src-main/hub/install-engine.ts', ['--cuda', ...args]),
  start,
  dev: (node) => run(node, [join(ROOT, 'node_modules/vite/bin/vite.js'), '-c', 'src-renderer/vite.config.ts', ...args]),
  test: (node) => {
    ensureEngine(node);
    ensureRenderer(node);
    runNode(node, 'test/run.ts');
  },
  bench: (node) => {
    ensureEngine(node);
    runNode(node, 'test/bench/bench.ts');
  },
  study: (node) => {
    ensureEngine(node);
    runNode(node, 'test/bench/study.ts');
  },
  screenshots: (node) => {
    ensureEngine(node);
    runNode(node, 'test/screenshots.ts');
  },
  package: (node) => {
    const bin = join(ROOT, 'node_modules/electron-vite/bin/electron-vite.js');
    const built = spawnSync(node, [bin, 'build', '--logLevel', 'warn'], { cwd: ROOT, stdio: ['ignore', 2, 2] });
    if (built.status !== 0) fail('The bundle could not be built (the message is above).');
    // Not a dependency: 220 packages that only whoever makes installers needs.
    run('npx', ['--yes', `electron-builder@${BUILDER}`, '--config', 'electron-builder.yml', '--publish', 'never', ...args]);
  },
  typecheck: (node) => runNode(node, 'test/style/typecheck.ts'),
};

if (!Object.hasOwn(TASKS, task)) fail(`unknown task "${task}": expected one of ${Object.keys(TASKS).join(', ')}`, 2);
ensurePackages();
TASKS[task](ensureNode());
