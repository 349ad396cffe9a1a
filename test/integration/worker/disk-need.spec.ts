/** What a run says it will take on the disk, held against what it takes; and that it refuses to begin where that is not there. */
import fs, { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { folderBytes } from '../../../src-main/base/disk.ts';
import type { TrainerEvent } from '../../../src-main/contract/events.ts';
import type { RunConfig, RunConfigInput } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { openModelFiles } from '../../../src-main/models/files.ts';
import { memoryFacts } from '../../../src-main/models/memory-facts.ts';
import { diskNeed } from '../../../src-main/train/session-plan.ts';
import { sizeOfTrained, trainedShapes } from '../../../src-main/train/trained-size.ts';
import { train } from '../../../src-main/train/trainer.ts';
import { tinyConfig, tinyPipeline } from '../../helpers/tiny.ts';

const home = mkdtempSync(join(tmpdir(), 'drtune-disk-'));
let engine: Engine;
let atRename = (): void => {};
const { renameSync } = fs;
fs.renameSync = (...paths) => {
  atRename();
  renameSync(...paths);
};
syncBuiltinESMExports();
afterAll(() => {
  fs.renameSync = renameSync;
  syncBuiltinESMExports();
});
beforeAll(async () => void (engine = await openEngine({ prefer: 'wasm', home: '' })));
afterAll(() => rmSync(home, { recursive: true, force: true }));

async function run(config: RunConfig, { runDir = mkdtempSync(join(home, 'run-')), resume = false, room = Infinity, stopAfter = Infinity } = {}): Promise<{ runDir: string; most: number; events: TrainerEvent[] }> {
  const events: TrainerEvent[] = [];
  let most = 0;
  const measure = (): void => void (most = Math.max(most, folderBytes(runDir)));
  atRename = measure; // a checkpoint is whole then, beside all others
  for await (const event of train(config, {
    engine, home, runDir, resume, room: () => room, appVersion: '0', now: () => 0, date: () => '', memoryBytes: () => 0, log: () => {}, breathe: async () => {},
    stopRequested: () => events.filter((each) => each.type === 'step').length >= stopAfter,
  })) {
    events.push(event);
    measure();
  }
  return { runDir, most, events };
}
const small: Partial<RunConfigInput> = { batch: 1, iterations: 5, checkpointEvery: 1, sampleEvery: 0, samplePrompts: 0 };

describe('the disk a run needs', () => {
  it.each<[string, Partial<RunConfigInput>]>([
    ['a LoRA', { lora: { rank: 8, targets: ['to_q', 'conv1', 'ff.net.2'] } }],
    ['a DoRA of text encoders too, with an average', { lora: { method: 'dora', rank: 4, textEncoder: true }, ema: 0.9, keepCheckpoints: 2 }],
    ['a LoKr by prodigy', { lora: { method: 'lokr', rank: 2, targets: ['to_q', 'conv1'] }, optimizer: { kind: 'prodigy', lr: 1 } }],
    ['the whole UNet by adafactor, three kept', { train: 'full', optimizer: { kind: 'adafactor', lr: 1e-3 }, keepCheckpoints: 3, iterations: 6 }],
    ['the whole UNet in 8 bits, with an average', { train: 'full', optimizer: { kind: 'adamw8bit', lr: 1e-3 }, ema: 0.9, iterations: 4 }],
  ])('is about what %s takes', async (_, change) => {
    const config = tinyConfig({ ...small, ...change });
    const { most, events } = await run(config);
    const { trainableParameters } = events.find((each) => each.type === 'started')!;
    expect(sizeOfTrained(trainedShapes(memoryFacts(openModelFiles(tinyPipeline)), config), config).values).toBe(trainableParameters);
    const need = diskNeed(config, tinyPipeline);
    expect(most).toBeLessThan(need);
    expect(most).toBeGreaterThan(need * 0.6); // what a checkpoint notes is a large part of so small a model's
  });

  it('counts the best checkpoint of a whole UNet beside the newest and the one being written, and all pictures', async () => {
    const config = tinyConfig({ ...small, train: 'full', optimizer: { kind: 'adamw', lr: 0.1 }, ema: 0.9, iterations: 6, keepCheckpoints: 2, sampleEvery: 1, samplePrompts: 1 });
    const { most, events } = await run(config);
    const checkpoints = events.flatMap((each) => (each.type === 'checkpoint' ? [each] : []));
    expect(checkpoints.at(-1)!.kept).toEqual([checkpoints.findLast((each) => each.best)!.step, 5, 6]); // such a rate ruins the network at once
    const need = diskNeed(config, tinyPipeline);
    expect(most).toBeLessThan(need);
    expect(most).toBeGreaterThan(need * 0.85);
  });

  it('that is not there is refused in one line before anything is loaded or written; what a resumed run has already counts', async () => {
    const config = tinyConfig({ ...small, train: 'full' });
    const need = diskNeed(config, tinyPipeline);
    const runDir = mkdtempSync(join(home, 'run-'));
    await expect(run(config, { runDir, room: need - 1 })).rejects.toMatchObject({
      code: 'disk', message: expect.stringMatching(/^This run takes about [\d.]+ MB on the disk, and [\d.]+ MB are free in .*\.$/) as string, hint: expect.stringMatching(/keepCheckpoints/) as string,
    });
    expect(readdirSync(runDir)).toEqual([]);
    await run(config, { runDir, room: need, stopAfter: 3 });
    const there = folderBytes(runDir);
    expect(there).toBeGreaterThan(need / 4);
    await expect(run(config, { runDir, resume: true, room: need - there - 1 })).rejects.toMatchObject({ code: 'disk' });
    expect((await run(config, { runDir, resume: true, room: need - there })).events.at(-1)).toMatchObject({ type: 'finished', reason: 'completed' });
  });
});
