/** Checkpoints in several files: resumed, damaged, exported, shared and imported as those in one. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importRun, shareRun } from '../../../src-main/app/share-run.ts';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { writeStoredZip } from '../../../src-main/app/stored-zip.ts';
import { jointSum, sha256Of } from '../../../src-main/base/atomic.ts';
import type { TrainerEvent, TrainerEventOf } from '../../../src-main/contract/events.ts';
import type { RunConfig } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { adapterHash, disposeAdapter } from '../../../src-main/pipeline/adapter.ts';
import { readRunLora } from '../../../src-main/pipeline/lora-file.ts';
import { exportRunLora } from '../../../src-main/pipeline/lora/export.ts';
import { train } from '../../../src-main/train/trainer.ts';
import { openReadable } from '../../../src-main/weights/read.ts';
import { readZipDirectory } from '../../../src-main/weights/zip.ts';
import { tempHome } from '../../helpers/temp-home.ts';
import { tinyConfig, tinyPipeline } from '../../helpers/tiny.ts';

const home = mkdtempSync(join(tmpdir(), 'drtune-checkpoints-'));
let engine: Engine;
beforeAll(async () => void (engine = await openEngine({ prefer: 'wasm', home: '' })));
afterAll(() => rmSync(home, { recursive: true, force: true }));

const SHARD = 40_000;
const config = tinyConfig({ train: 'full', batch: 1, iterations: 3, checkpointEvery: 1, sampleEvery: 0, samplePrompts: 1, diversitySeeds: 0, ema: 0.9, optimizer: { lr: 1e-3 } });

interface Told { runDir: string; events: TrainerEvent[]; log: string[] }
async function run(own: RunConfig, { runDir = mkdtempSync(join(home, 'run-')), resume = false, stopAfter = Infinity, shardBytes = SHARD } = {}): Promise<Told> {
  const told: Told = { runDir, events: [], log: [] };
  for await (const event of train(own, {
    engine, home, runDir, resume, appVersion: '0', now: () => 0, date: () => '', memoryBytes: () => 0, log: (line) => told.log.push(line), breathe: async () => {}, shardBytes,
    stopRequested: () => told.events.filter((each) => each.type === 'step').length >= stopAfter,
  })) told.events.push(event);
  return told;
}
const of = <T extends TrainerEvent['type']>({ events }: Told, type: T): TrainerEventOf<T>[] => events.filter((each) => each.type === type) as TrainerEventOf<T>[];
const folder = (runDir: string, step: number): string => join(runDir, `checkpoints/step-00000${step}`);
const contents = (path: string): Record<string, string> => Object.fromEntries(readdirSync(path).sort().filter((name) => name !== 'checkpoint.json').map((name) => [name, sha256Of(join(path, name))]));

describe('a checkpoint of a whole UNet in several files', () => {
  let whole: Told;
  beforeAll(async () => void (whole = await run(config)));

  it('is laid out as diffusers does it, its notes last; the state of the two newest is kept', () => {
    const names = readdirSync(folder(whole.runDir, 3)).sort();
    const shards = names.filter((name) => /^diffusion_pytorch_model-\d{5}-of-\d{5}\.safetensors$/.test(name));
    expect(shards.length).toBeGreaterThan(3);
    expect(names).toEqual(expect.arrayContaining(['checkpoint.json', 'diffusion_pytorch_model.safetensors.index.json', 'state.safetensors.index.json']));
    const { metadata, weight_map: map } = JSON.parse(readFileSync(join(folder(whole.runDir, 3), 'diffusion_pytorch_model.safetensors.index.json'), 'utf8')) as { metadata: { total_size: number }; weight_map: Record<string, string> };
    expect([...new Set(Object.values(map))].sort()).toEqual(shards);
    expect(metadata.total_size).toBe(4 * of(whole, 'started')[0]!.trainableParameters);
    for (const shard of shards) expect(readFileSync(join(folder(whole.runDir, 3), shard)).length).toBeLessThan(SHARD + 20_000); // values and header
    expect([1, 2, 3].map((step) => readdirSync(folder(whole.runDir, step)).some((name) => name.startsWith('state')))).toEqual([false, true, true]);
    const told = of(whole, 'checkpoint').at(-1)!;
    expect(told.file).toBe('checkpoints/step-000003/diffusion_pytorch_model.safetensors.index.json');
    expect(told.sha256).not.toBe(of(whole, 'checkpoint')[1]!.sha256); // the index alone would be the same
    expect(told.sha256).toBe(jointSum(Object.fromEntries(Object.entries(contents(folder(whole.runDir, 3))).filter(([name]) => name.startsWith('diff')))));
    expect(of(whole, 'finished')[0]!.verdict!.checks.filter(({ check }) => check !== 'reward').every(({ passed }) => passed)).toBe(true);
  });

  it('holds what one file holds', async () => {
    const one = await run(config, { shardBytes: 1e9 });
    const hash = (told: Told): string => {
      const adapter = readRunLora(join(told.runDir, of(told, 'checkpoint').at(-1)!.file), {});
      const sum = adapterHash(adapter);
      disposeAdapter(adapter);
      return sum;
    };
    expect(readdirSync(folder(one.runDir, 3)).sort()).toEqual(['checkpoint.json', 'diffusion_pytorch_model.safetensors', 'state.safetensors']);
    expect(hash(one)).toBe(hash(whole));
  });

  it('is gone on from bit for bit, also with files of another size', async () => {
    const half = await run(config, { stopAfter: 1, shardBytes: 3 * SHARD });
    await run(config, { runDir: half.runDir, resume: true });
    expect(contents(folder(half.runDir, 3))).toEqual(contents(folder(whole.runDir, 3)));
  });

  it.each<[string, (path: string) => void]>([
    ['a shard of weights cut', (path) => truncateSync(join(path, readdirSync(path).find((name) => name.startsWith('diffusion_pytorch_model-00002'))!), 100)],
    ['a shard of the state gone', (path) => unlinkSync(join(path, readdirSync(path).find((name) => name.startsWith('state-00002'))!))],
    ['one bit of a shard of the state changed', (path) => {
      const file = join(path, readdirSync(path).find((name) => name.startsWith('state-00003'))!);
      const bytes = readFileSync(file);
      bytes[bytes.length - 5]! ^= 1;
      writeFileSync(file, bytes);
    }],
    ['an index that names other files', (path) => writeFileSync(join(path, 'state.safetensors.index.json'), '{"weight_map": {"x": "../../../etc/passwd"}}')],
    ['the index of the state gone', (path) => unlinkSync(join(path, 'state.safetensors.index.json'))],
    ['the notes cut', (path) => truncateSync(join(path, 'checkpoint.json'), 40)],
  ])('where the newest is damaged (%s) the one before is gone on from, to the same end', async (_, spoil) => {
    const runDir = mkdtempSync(join(home, 'spoilt-'));
    cpSync(whole.runDir, runDir, { recursive: true });
    spoil(folder(runDir, 3));
    const again = await run(config, { runDir, resume: true });
    expect(again.log.join()).toMatch(/step-000003 cannot be used: /);
    expect(of(again, 'started')[0]!.startIteration).toBe(2);
    expect(contents(folder(runDir, 3))).toEqual(contents(folder(whole.runDir, 3)));
  });

  it('is exported as a whole model', async () => {
    const file = join(whole.runDir, of(whole, 'checkpoint').at(-1)!.file);
    const { difference } = await exportRunLora(engine, { model: { name: 'tiny', path: tinyPipeline }, checkpoint: file, prompt: 'a red apple', run: 'r', step: 3, format: 'merged', out: join(home, 'merged') });
    expect(difference).toBeLessThan(1e-5);
  });

  describe('shared', () => {
    async function shared(): Promise<{ recorder: RunRecorder; id: string; file: string }> {
      const recorder = RunRecorder.open(tempHome());
      const id = recorder.createRun({ name: 'a whole network', config });
      cpSync(whole.runDir, recorder.runDir(id), { recursive: true });
      for (const event of whole.events) recorder.record(id, event);
      const { path } = await shareRun(recorder, id, join(recorder.history.home, 'out.drtune'));
      return { recorder, id, file: path };
    }

    it('arrives with all its files, which paint the same', async () => {
      const { recorder, id, file } = await shared();
      const other = RunRecorder.open(tempHome());
      const copy = await importRun(other, file);
      const [before, after] = [recorder, other].map((each, i) => each.records.checkpoints([id, copy][i]!).at(-1)!);
      expect(after).toMatchObject({ step: 3, file: before!.file, sha256: before!.sha256 });
      const weights = (one: RunRecorder, run: string): Record<string, string> => Object.fromEntries(Object.entries(contents(dirname(join(one.runDir(run), before!.file)))).filter(([name]) => !name.startsWith('state')));
      expect(weights(other, copy)).toEqual(weights(recorder, id));
      const adapter = readRunLora(join(other.runDir(copy), after!.file), {});
      expect(of(whole, 'image').at(-1)!.weights).toBe(adapterHash(adapter).slice(0, 16));
      disposeAdapter(adapter);
      recorder.close();
      other.close();
    });

    it.each<[string, (parts: Map<string, Buffer>, sheet: { sha256: Record<string, string> }) => void, RegExp]>([
      ['a shard missing', (parts, sheet) => {
        const name = [...parts.keys()].find((each) => each.includes('-00002-of-'))!;
        parts.delete(name);
        delete sheet.sha256[name];
      }, /do not belong together|missing/],
      ['a shard too many', (parts, sheet) => {
        const name = 'diffusion_pytorch_model-00077-of-00078.safetensors';
        parts.set(name, parts.get([...parts.keys()].find((each) => each.includes('-00002-of-'))!)!);
        sheet.sha256[name] = sheet.sha256[[...parts.keys()].find((each) => each.includes('-00002-of-'))!]!;
      }, /do not belong together/],
      ['an index that leads elsewhere', (parts, sheet) => {
        const name = 'diffusion_pytorch_model.safetensors.index.json';
        parts.set(name, Buffer.from('{"weight_map": {"x": "../../../../etc/passwd"}}'));
        const file = join(home, 'index');
        writeFileSync(file, parts.get(name)!);
        sheet.sha256[name] = sha256Of(file);
      }, /is not a file beside it/],
    ])('is refused with %s, and nothing is left', async (_, spoil, words) => {
      const { recorder, file } = await shared();
      const open = openReadable(file);
      const parts = new Map([...readZipDirectory(open).values()].map(({ name, begin, size }) => [name, Buffer.from(open.read(begin, size))]));
      open.close();
      const sheet = JSON.parse(parts.get('drtune.json')!.toString()) as { sha256: Record<string, string> };
      spoil(parts, sheet);
      parts.set('drtune.json', Buffer.from(JSON.stringify(sheet)));
      writeStoredZip(file, [...parts].map(([name, content]) => ({ name, content })));
      const other = RunRecorder.open(tempHome());
      await expect(importRun(other, file)).rejects.toThrow(words);
      expect(other.runs.list()).toEqual([]);
      expect(readdirSync(other.history.home).includes('runs') ? readdirSync(join(other.history.home, 'runs')) : []).toEqual([]);
      recorder.close();
      other.close();
    });
  });
});
