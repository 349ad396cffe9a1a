/**
 * How long a run will take and whether it fits. Time is scaled from measured steps of earlier runs on the same model and
 * engine, never guessed; memory is the plan's estimate (train/memory-plan.ts), or what a run of the same shape has taken.
 */
import type { Forecast } from '../contract/api.ts';
import type { RunConfig } from '../contract/run.ts';
import { configOf } from '../history/runs.ts';
import { planMemory, runSize } from '../train/memory-plan.ts';
import { runBytes, sizeOfTrained, trainedShapes } from '../train/trained-size.ts';
import type { MemoryPlan } from '../contract/memory.ts';
import type { ModelFacts } from './model-facts.ts';
import type { RunRecorder } from './run-recorder.ts';

export interface ForecastInputs {
  recorder: RunRecorder;
  model: ModelFacts;
  engine: string | null;
  availableBytes: number;
  freeBytes: number;
}

const FORWARD = 1;
/** A trained step: the forward again, and twice that for its gradient. */
const TRAINED = 3;
/** Decoding the picture and scoring it, there and back. */
const PICTURE = 3;

/** Relative work of one iteration: network evaluations of all pictures, per pixel. */
export function iterationWork(config: RunConfig, width: number, height: number): number {
  const branches = (config.guidanceRange?.[1] ?? config.guidance) > 1 ? 2 : 1;
  const perPicture = branches * (config.steps * FORWARD + trainedCount(config) * TRAINED) + pictureWork(config);
  const sizes = config.sizes ?? [[width, height] as const];
  const pixels = sizes.reduce((sum, [w, h]) => sum + (w * h) / sizes.length, 0);
  return config.batch * config.accumulate * perPicture * pixels;
}

/** Decoding and scoring of one picture of the batch, as often as its algorithm does it. */
function pictureWork(config: RunConfig): number {
  const there = PICTURE / 3;
  const once = PICTURE + (config.worstCase > 0 ? there : 0);
  switch (config.algorithm) {
    case 'draft-lv': return (1 + config.renoise) * once;
    case 'srpo': return there + trainedCount(config) * once;
    case 'nft': return there;
    case 'drtune': case 'refl': case 'draft-k': case 'alignprop': case 'full': return once;
  }
}

/** Relative work of all sample pictures. */
function sampleWork(config: RunConfig, width: number, height: number): number {
  const points = 2 + (config.sampleEvery > 0 ? Math.floor(config.iterations / config.sampleEvery) : 1);
  const branches = config.guidance > 1 ? 2 : 1;
  return points * config.samplePrompts * (branches * config.steps + 1) * width * height;
}

function trainedCount(config: RunConfig): number {
  if (config.trainedStepList) return config.trainedStepList.length;
  switch (config.algorithm) {
    case 'full': return config.steps;
    case 'alignprop': return (config.steps + 1) / 2;
    case 'refl': return 1;
    case 'draft-lv': return 1 + config.renoise;
    case 'drtune': case 'draft-k': case 'srpo': case 'nft': return Math.min(config.trainedSteps, config.steps);
  }
}

export function forecast(config: RunConfig, inputs: ForecastInputs): Forecast {
  const { recorder, model, engine } = inputs;
  const width = config.width ?? model.width;
  const height = config.height ?? model.height;
  const earlier = engine === null ? null : measuredRun(recorder, config.model, engine);
  const work = iterationWork(config, width, height);
  const ratio = earlier ? work / iterationWork(earlier.config, earlier.width, earlier.height) : 0;
  const secondsPerWork = earlier ? earlier.stepMs / 1000 / iterationWork(earlier.config, earlier.width, earlier.height) : 0;
  const seconds = earlier ? config.iterations * (earlier.stepMs / 1000) * ratio + sampleWork(config, width, height) * secondsPerWork : null;
  const plan = planOf(config, inputs, width, height);
  const measured = earlier?.memoryBytes && sameShape(earlier, config, width, height) ? earlier.memoryBytes : null;
  const memoryBytes = measured ?? plan?.peakBytes ?? 0;
  const diskBytes = runBytes(config, model.memory ? sizeOfTrained(trainedShapes(model.memory, config), config) : null, width, height);
  const advice: string[] = [];
  const fitsMemory = memoryBytes <= inputs.availableBytes && (plan?.fits ?? true);
  const fitsDisk = diskBytes <= inputs.freeBytes;
  if (!fitsMemory) advice.push(...(plan?.advice ?? []));
  if (!fitsDisk) advice.push('The disk has too little space: free some, or write fewer checkpoints and sample pictures.');
  return {
    seconds, secondsBasis: earlier ? `from ${earlier.steps} measured steps of "${earlier.name}"` : `nothing was measured yet for ${config.model}${engine ? ` on ${engine}` : ''}`,
    memoryBytes, availableBytes: inputs.availableBytes, diskBytes, freeBytes: inputs.freeBytes, fits: fitsMemory && fitsDisk, advice,
    plan, memoryBasis: measured === null ? 'an estimate from the sizes of its networks' : `measured in "${earlier!.name}"`,
  };
}

interface Measured { name: string; config: RunConfig; width: number; height: number; stepMs: number; memoryBytes: number; steps: number }

/** The newest run of this model and engine that has steps. */
function measuredRun(recorder: RunRecorder, model: string, engine: string): Measured | null {
  for (const row of recorder.runs.measured(model, engine)) {
    const stepMs = recorder.steps.medianMs(row.id);
    if (stepMs === null || !row.width || !row.height) continue;
    return { name: row.name, config: configOf(row), width: row.width, height: row.height, stepMs, memoryBytes: recorder.steps.peakMemory(row.id) ?? 0, steps: row.step };
  }
  return null;
}

/** The trainer will make its own when it starts; what is available may differ then. */
function planOf(config: RunConfig, { model, engine, availableBytes }: ForecastInputs, width: number, height: number): MemoryPlan | null {
  if (!model.memory || width === 0 || height === 0) return null;
  const prompts = Array.isArray(config.prompts) ? config.prompts.length : 100;
  return planMemory({ facts: model.memory, run: runSize(config, width, height, prompts), memory: config.memory, availableBytes, half: engine === 'tensorflow' });
}

/** Whether a run needs the memory of an earlier one. */
function sameShape(earlier: Measured, config: RunConfig, width: number, height: number): boolean {
  const own = (from: RunConfig): unknown[] => [from.batch, from.memory, from.guidance > 1, from.algorithm, from.lora, from.rewards, from.heldOutRewards];
  return earlier.width === width && earlier.height === height && JSON.stringify(own(earlier.config)) === JSON.stringify(own(config));
}
