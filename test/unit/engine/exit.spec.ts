import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { findLibraries } from '../../../src-main/engine/engine-folder.ts';

const source = fileURLToPath(new URL('../../../src-main/engine/', import.meta.url));
const present = findLibraries(drtuneHome()).folder !== undefined;
if (!present) console.warn('SKIPPED: the end of processes that used the tensorflow engine');

/** Runs a module text in a child. */
function run(body: string): Promise<{ code: number | null; signal: string | null; output: string; errors: string }> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', body], { env: { ...process.env, DRTUNE_HOME: drtuneHome(), SOURCE: source } });
  let [output, errors] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (output += chunk));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk));
  return new Promise((done) => child.on('close', (code, signal) => done({ code, signal, output, errors })));
}

const compute = `
  const { openEngine } = await import(process.env.SOURCE + 'select.ts');
  const { tf } = await import(process.env.SOURCE + 'tf.ts');
  const engine = await openEngine({ prefer: 'tensorflow', home: process.env.DRTUNE_HOME });
  const x = tf.randomNormal([64, 64]);
  const y = engine.trace('square', (w, a, { x }) => tf.matMul(x, x))({}, {}, { x });
  y.dataSync();`;

describe('exitProcess', () => {
  it('lets everything written leave before the end, with the code', async () => {
    const body = `const { exitProcess } = await import(process.env.SOURCE + 'exit.ts');
      process.stdout.write('a'.repeat(3_000_000)); process.stderr.write('b'.repeat(1_000_000)); await exitProcess(7);`;
    const { code, output, errors } = await run(body);
    expect({ code, output: output.length, errors: errors.length }).toEqual({ code: 7, output: 3_000_000, errors: 1_000_000 });
  });
});

describe.skipIf(!present)('a process that used TensorFlow ends without a crash and without its log', () => {
  const quiet = { signal: null, errors: '' };
  it('by exitProcess', async () => {
    const end = await run(`${compute} const { exitProcess } = await import(process.env.SOURCE + 'exit.ts'); await exitProcess(3);`);
    expect(end).toMatchObject({ ...quiet, code: 3 });
  });
  it('by running out of work', async () => {
    expect(await run(compute)).toMatchObject({ ...quiet, code: 0 });
  });
  it('by process.exit', async () => {
    expect(await run(`${compute} process.exit(4);`)).toMatchObject({ ...quiet, code: 4 });
  });
  it('by an error nobody caught', async () => {
    const end = await run(`${compute} throw new Error('stop here');`);
    expect(end).toMatchObject({ signal: null, code: 1 });
    expect(end.errors).toContain('stop here');
  });
});
