/** A run made again from its manifest: by the command line, from another data folder, and on another machine from the shared file. */
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { runCommand } from '../../../src-main/cli/commands.ts';
import { tinyConfig, tinyPipeline } from '../../helpers/tiny.ts';

const root = mkdtempSync(join(tmpdir(), 'drtune-repeat-'));
const before = process.env['DRTUNE_HOME'];
afterAll(() => {
  if (before === undefined) delete process.env['DRTUNE_HOME'];
  else process.env['DRTUNE_HOME'] = before;
  rmSync(root, { recursive: true, force: true });
});

async function drtune(home: string, ...args: string[]): Promise<string> {
  process.env['DRTUNE_HOME'] = join(root, home);
  let [out, err] = ['', ''];
  const code = await runCommand(args, { stdout: { write: (text) => (out += text) }, stderr: { write: (text) => (err += text) } });
  if (code !== 0) throw new Error(`exit ${code}: ${err}`);
  return out;
}
const folderOf = (said: string): string => /in (\S+runs\S+)/.exec(said)![1]!;
const lora = (runDir: string, step: number): string => readFileSync(join(runDir, `checkpoints/step-00000${step}/lora.safetensors`)).toString('base64');
const pictures = (runDir: string): Record<string, string> => Object.fromEntries(readdirSync(join(runDir, 'samples'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.png')).map((name) => [name, readFileSync(join(runDir, 'samples', name)).toString('base64')]));

it('is the same bit for bit: weights at every checkpoint, pictures; in the same data folder, in another one, and from the shared file', async () => {
  // A model that only the first data folder knows by name, prompts and their seeds in a file, and a LoRA to start from.
  const model = join(root, 'tiny-model');
  cpSync(tinyPipeline, model, { recursive: true });
  await drtune('first', 'models', 'add', model);
  const prompts = join(root, 'prompts.csv');
  writeFileSync(prompts, 'prompt,seed\na {red|blue} apple,11\nthe house,12\n');
  const base = { ...tinyConfig({ engine: 'wasm', iterations: 2, batch: 1, diversitySeeds: 0, checkpointEvery: 1, sampleEvery: 2, samplePrompts: 2, lora: { rank: 2, targets: ['to_q'] } }), model: 'tiny-model' };
  const file = join(root, 'config.json');
  writeFileSync(file, JSON.stringify({ ...base, prompts: 'prompts.csv' }));
  const start = folderOf(await drtune('first', 'train', '--config', file));
  writeFileSync(file, JSON.stringify({ ...base, prompts: 'prompts.csv', seed: 3, lora: { ...base.lora, initFile: join(root, 'start.safetensors') } }));
  copyFileSync(join(start, 'checkpoints/step-000002/lora.safetensors'), join(root, 'start.safetensors'));
  const first = folderOf(await drtune('first', 'train', '--config', file, '--name', 'the first'));
  const same = (runDir: string): void => {
    for (const step of [1, 2]) expect(lora(runDir, step)).toBe(lora(first, step));
    expect(pictures(runDir)).toEqual(pictures(first));
    expect(Object.keys(pictures(runDir))).toHaveLength(4);
  };
  rmSync(prompts); // the manifest has the list itself

  const again = await drtune('first', 'train', '--config', join(first, 'manifest.json'));
  expect(again).toContain('Made again with the same inputs and engine and the same weights at 2 checkpoints, bit for bit.');
  same(folderOf(again));

  same(folderOf(await drtune('second', 'train', '--config', join(first, 'manifest.json'))));

  const shared = join(root, 'the-first.drtune');
  await drtune('first', 'history', 'export', 'the first', shared);
  rmSync(join(root, 'start.safetensors')); // it travels along
  await drtune('third', 'models', 'add', model);
  const imported = JSON.parse(await drtune('third', 'history', 'import', shared, '--json')) as { folder: string };
  const third = await drtune('third', 'train', '--config', join(imported.folder, 'manifest.json'));
  expect(third).toMatch(/Made again with the same inputs and engine and the same weights at 1 checkpoint/);
  same(folderOf(third));

  const changed = join(model, 'vae/config.json');
  writeFileSync(changed, `${readFileSync(changed, 'utf8')} `);
  expect(await drtune('third', 'train', '--config', join(imported.folder, 'manifest.json'))).toContain('Made again, but not with the same: vae/config.json has changed.');
  const recorder = RunRecorder.open(join(root, 'third'));
  expect(recorder.runs.list().filter((run) => run.state === 'finished')).toHaveLength(3);
  recorder.close();
  mkdirSync(join(root, 'fourth'), { recursive: true });
  await expect(drtune('fourth', 'train', '--config', join(imported.folder, 'manifest.json'))).rejects.toThrow(/tiny-model/);
}, 60_000);
