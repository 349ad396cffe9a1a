/** Tries the TensorFlow libraries in a child process, so that a crash there is an answer and not an accident. */
import { spawn } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { libraryNames } from './library-names.ts';

export interface ProbeResult {
  readonly usable: boolean;
  readonly version: string;
  readonly device: string;
  /** Empty when usable. */
  readonly why: string;
}

const timeoutMs = 60_000; // a cold disk takes seconds for 850 MB of libraries

/**
 * The child's program, as text because a bundled app has no source files to start. It loads the libraries, makes a context
 * and prints the version.
 */
const program = `
const [, koffiPath, framework, cc] = process.argv;
const koffi = require(koffiPath);
const fw = koffi.load(framework, { global: true });
const lib = koffi.load(cc, { global: true });
const P = 'void *';
const status = fw.func('TF_NewStatus', P, [])();
const options = lib.func('TFE_NewContextOptions', P, [])();
lib.func('TFE_NewContext', P, [P, P])(options, status);
const code = fw.func('TF_GetCode', 'int', [P])(status);
if (code !== 0) throw new Error(fw.func('TF_Message', 'str', [P])(status));
const version = lib.func('TF_Version', 'str', [])();
process.stdout.write(JSON.stringify({ version }) + '\\n', () => process.reallyExit(0));
`;

/** Whether the libraries in `folder` load and start here. Never throws. */
export async function probeTensorFlow(folder: string): Promise<ProbeResult> {
  const [framework, cc] = libraryNames().map((name) => join(folder, name)) as [string, string];
  const child = spawn(process.execPath, ['-e', program, createRequire(import.meta.url).resolve('koffi'), framework, cc], {
    env: { ...process.env, ELECTRON_RUN_AS_NODE: '1', NODE_OPTIONS: '', TF_ENABLE_ONEDNN_OPTS: '1', TF_CPP_MIN_LOG_LEVEL: '3' },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk));
  child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk).slice(-4000)));
  const unusable = (why: string): ProbeResult => ({ usable: false, version: '', device: '', why });
  return new Promise((done) => {
    child.on('error', (error) => done(unusable(`it cannot be tried: ${error.message}`)));
    child.on('close', (code, signal) => {
      const version = /"version":"([^"]+)"/.exec(output)?.[1];
      const cores = cpus().length;
      if (version && code === 0) return done({ usable: true, version, device: `CPU, ${cores} ${cores === 1 ? 'core' : 'cores'}`, why: '' });
      if (signal) return done(unusable(`it crashed when tried (${signal})`));
      const line = errors.split('\n').find((text) => /Error:/.test(text)) ?? errors.trim().split('\n').at(-1);
      done(unusable(line ? line.replace(/^.*?Error: /, '') : `it ended with code ${code} when tried`));
    });
  });
}

/**
 * As {@link probeTensorFlow}, remembering a success in `file`: the next start on the same machine, with the same Node and the
 * same libraries, does not load 850 MB twice. A failure is tried again each time.
 */
export async function probeRemembered(folder: string, file: string): Promise<ProbeResult> {
  const key = await machineKey(folder);
  try {
    const known = JSON.parse(await readFile(file, 'utf8')) as { key: string; result: ProbeResult };
    if (known.key === key && known.result.usable) return known.result;
  } catch {
    // Never tried here, or the file is damaged: try now.
  }
  const result = await probeTensorFlow(folder);
  // Only a convenience: a read-only folder just means trying again.
  if (result.usable) await writeFile(file, JSON.stringify({ key, result })).catch(() => undefined);
  return result;
}

/** Changes when the libraries, the machine or Node do. */
async function machineKey(folder: string): Promise<string> {
  const libraries = await Promise.all(libraryNames().map((name) => stat(join(folder, name)).catch(() => undefined)));
  const files = libraries.map((each) => (each ? `${each.size} ${each.mtimeMs}` : 'missing'));
  return [folder, ...files, cpus()[0]?.model, cpus().length, release(), process.version].join('|');
}
