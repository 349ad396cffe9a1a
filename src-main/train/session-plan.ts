/** The memory plan of a run, from headers and configs: before anything is loaded. */
import { byteWords } from '../base/disk.ts';
import { AppError } from '../base/errors.ts';
import { processLimit } from '../base/memory.ts';
import type { MemoryPlan } from '../contract/memory.ts';
import type { RunConfig } from '../contract/run.ts';
import type { Engine } from '../engine/engine.ts';
import { memoryFacts, type MemoryFacts } from '../models/memory-facts.ts';
import { openModelFiles } from '../models/files.ts';
import { unetConfig } from '../models/unet-config.ts';
import { ownPictureSize } from '../pipeline/load.ts';
import { drawPictures } from './draw.ts';
import { planMemory, runSize } from './memory-plan.ts';
import { runBytes, sizeOfTrained, trainedShapes } from './trained-size.ts';

/** WebAssembly's memory ends here. */
const wasmBytes = 4e9;

/** @param run.path of the model @param run.prompts kept encoded @param limit what the process can have */
export function planSession(config: RunConfig, engine: Engine, run: { readonly path: string; readonly prompts: number }, limit: number = processLimit()): MemoryPlan {
  const { facts, own } = factsOf(run.path);
  return planMemory({
    facts, memory: config.memory, half: engine.half, availableBytes: limitOf(engine, limit),
    run: runSize(config, ...largestSize(config, own), run.prompts),
  });
}

/** The most pixels that training or samples have, as [width, height]. */
function largestSize({ width, height, sizes = [] }: RunConfig, own: { width: number; height: number }): [number, number] {
  const all: [number, number][] = [[width ?? own.width, height ?? own.height], ...sizes];
  return all.reduce((most, size) => (size[0] * size[1] > most[0] * most[1] ? size : most));
}

/** Bytes a run's folder will take at its largest; reads headers only. @param path of the model */
export function diskNeed(config: RunConfig, path: string): number {
  const { facts, own } = factsOf(path);
  return runBytes(config, sizeOfTrained(trainedShapes(facts, config), config), config.width ?? own.width, config.height ?? own.height);
}

/** @param there bytes its folder has already @throws AppError('disk') where a run cannot be whole: one line, before anything is loaded */
export function refuseIfNoRoom(need: number, there: number, room: number, runDir: string): void {
  if (need - there <= room) return;
  throw new AppError('disk', `This run takes about ${byteWords(need - there)} on the disk, and ${byteWords(room)} are free in ${runDir}.`, {
    hint: 'Free some space, or keep fewer checkpoints (keepCheckpoints), write fewer (checkpointEvery) or paint fewer samples.',
  });
}

/** The plan of sampling without a gradient. @param size in pixels, the model's own where left out */
export function planSampling(
  engine: Engine, path: string, size: { readonly width: number | undefined; readonly height: number | undefined; readonly batch: number; readonly guided: boolean }, limit: number = processLimit(),
): MemoryPlan {
  const { facts, own } = factsOf(path);
  return planMemory({
    facts, memory: 'auto', half: engine.half, availableBytes: limitOf(engine, limit),
    run: {
      width: size.width ?? own.width, height: size.height ?? own.height, batch: size.batch, guided: size.guided, trained: null, kl: false,
      prompts: 2, rewardBytes: 0,
    },
  });
}

function factsOf(path: string): { facts: MemoryFacts; own: { width: number; height: number } } {
  const files = openModelFiles(path);
  const facts = memoryFacts(files);
  return { facts, own: ownPictureSize(files, unetConfig(files.config('unet')), facts.factor) };
}

/** What the engine can have of what the process can. */
function limitOf(engine: Engine, limit: number): number {
  return engine.name === 'wasm' ? Math.min(limit, wasmBytes) : limit;
}

/** The prompts a run will use: drawn ones in the order of `prompts`, and those of its samples. */
export function promptsOfRun(config: RunConfig, prompts: readonly string[], samples: readonly string[]): string[] {
  const drawn = new Set<number>();
  for (let iteration = 0; iteration < config.iterations && drawn.size < prompts.length; iteration++) {
    for (const { promptIndex } of drawPictures(config.seed, iteration, config.batch * config.accumulate, prompts.length)) drawn.add(promptIndex);
  }
  return [...new Set([...prompts.filter((_, i) => drawn.has(i)), ...samples])];
}
