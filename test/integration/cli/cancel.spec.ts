/** Ctrl-C: every long command ends at its next place with exit code 130 and one line, and leaves nothing half-written. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { runCommand } from '../../../src-main/cli/commands.ts';
import { writeDiffusersLora } from '../../../src-main/pipeline/lora/write.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import { createAdapter, disposeAdapter } from '../../../src-main/pipeline/adapter.ts';
import { checkpoint, started, step, until } from '../../helpers/temp-home.ts';
import { tinyConfig, tinyPipeline } from '../../helpers/tiny.ts';

const root = mkdtempSync(join(tmpdir(), 'drtune-cancel-'));
const [home, out] = [join(root, 'home'), join(root, 'out')];
const before = process.env['DRTUNE_HOME'];
let run = '';
afterAll(() => {
  if (before === undefined) delete process.env['DRTUNE_HOME'];
  else process.env['DRTUNE_HOME'] = before;
  rmSync(root, { recursive: true, force: true });
});
beforeAll(async () => {
  process.env['DRTUNE_HOME'] = home;
  const recorder = RunRecorder.open(home);
  run = recorder.createRun({ name: 'done', config: tinyConfig({ engine: 'wasm', lora: { rank: 2, targets: ['to_q'] } }) });
  const file = 'checkpoints/step-000005/lora.safetensors';
  mkdirSync(join(recorder.runDir(run), file, '..'), { recursive: true });
  const pipeline = await openPipeline(await openEngine({ prefer: 'wasm', home }), tinyPipeline);
  const adapter = createAdapter(pipeline.loraTargets(['to_q']), { rank: 2, alpha: 2, seed: 1 });
  writeDiffusersLora(join(recorder.runDir(run), file), { unet: adapter });
  disposeAdapter(adapter);
  pipeline.dispose();
  for (const event of [started(), step(5), { ...checkpoint(5), file }, { type: 'finished', reason: 'completed', step: 5, seconds: 1 } as const]) recorder.record(run, event);
  recorder.close();
  expect(await drtune(['history', 'export', run, join(root, 'shared')]).code).toBe(0);
  const { default: sharp } = await import('sharp');
  for (const n of [1, 2, 3]) await sharp({ create: { width: 8, height: 8, channels: 3, background: '#888' } }).png().toFile(join(root, `${n}.png`));
}, 60_000);

/** Runs a command; `interrupt` presses Ctrl-C as soon as it listens, after so many turns of the event loop. */
function drtune(args: string[], interrupt?: number): { code: Promise<number>; err: () => string } {
  let err = '';
  const listeners = process.listenerCount('SIGINT');
  let turns = interrupt ?? Infinity;
  const code = runCommand(args, { stdout: { write: () => true }, stderr: { write: (text) => (err += text) } }).finally(() => (turns = Infinity));
  const look = (): void => {
    if (turns < Infinity && process.listenerCount('SIGINT') > listeners && --turns < 0) process.emit('SIGINT');
    else if (turns < Infinity) setImmediate(look);
  };
  look();
  return { code, err: () => err };
}

/** After how many turns Ctrl-C is pressed; a small shared run has arrived after the first. */
it.each<[string, () => string[], number[]?]>([
  ['sample', () => ['sample', '--model', tinyPipeline, '--engine', 'wasm', '--prompt', 'a cat', '--steps', '20', '--out', out]],
  ['score', () => ['score', '--reward', 'symmetry', '--engine', 'wasm', '--image', root]],
  ['compare', () => ['compare', '--run', run, '--out', out]],
  ['export', () => ['export', '--run', run, '--format', 'peft', '--out', out]],
  ['a merged export', () => ['export', '--run', run, '--format', 'merged', '--out', out]],
  ['gradient', () => ['gradient', '--preset', 'demo', '--set', 'engine=wasm', '--out', join(out, 'x.safetensors')]],
  ['history export', () => ['history', 'export', run, join(out, 'again')], [0, 1]],
  ['history import', () => ['history', 'import', join(root, 'shared.drtune')], [0]],
])('%s', async (_, args, when = [0, 2]) => {
  for (const turns of when) {
    const command = drtune(args(), turns);
    expect(await command.code, `${turns} turns: ${command.err()}`).toBe(130);
    expect(command.err().trim().split('\n').at(-1)).toBe('Cancelled.');
    expect(existsSync(out) ? readdirSync(out) : []).toEqual([]);
    expect(readdirSync(join(home, 'runs'))).toEqual([run]);
    expect(process.listenerCount('SIGINT')).toBe(0);
  }
});

it('train, while it loads: the run is stopped, nothing is trained, and it can be resumed', async () => {
  writeFileSync(join(root, 'config.json'), JSON.stringify(tinyConfig({ engine: 'wasm', iterations: 1 })));
  const command = drtune(['train', '--config', join(root, 'config.json')], 3);
  expect(await command.code).toBe(0);
  const recorder = RunRecorder.open(home);
  const [own] = recorder.runs.list().filter((each) => each.id !== run);
  expect(own).toMatchObject({ state: 'stopped', step: 0 });
  expect(recorder.detail(own!.id)).toMatchObject({ steps: [], checkpoints: [] });
  recorder.close();
});

const terminal = spawnSync('script', ['--version']).status === 0;
if (!terminal) console.warn('SKIPPED: Ctrl-C in a terminal needs the program "script", which is not here.');

it.skipIf(!terminal)('in a terminal: one line that renews itself and says what is left, and Ctrl-C takes it away', async () => {
  const command = [process.execPath, '--disable-warning=ExperimentalWarning', join(import.meta.dirname, '../../../src-main/cli/main.ts'), 'sample', '--engine', 'wasm', '--prompt', 'cat', '--steps', '900', '--out', out].map((part) => `'${part}'`).join(' ');
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, DRTUNE_HOME: home } });
  let shown = '';
  child.stdout.on('data', (data: Buffer) => (shown += data.toString()));
  const end = new Promise<number | null>((gone) => child.on('close', gone));
  await until(() => /painting \d+ %, \d+:\d\d left/.test(shown), 'the line', 40_000);
  child.stdin.write('\x03');
  expect(await end).toBe(130);
  expect(shown.split('painting').length).toBeGreaterThan(2);
  expect(shown.slice(shown.lastIndexOf('\r\x1b[K')).trim()).toMatch(/Cancelled\.$/);
  expect(existsSync(out) ? readdirSync(out) : []).toEqual([]);
}, 60_000);
