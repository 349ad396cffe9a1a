/** Chooses how a run keeps its parts in memory: the fastest way that fits, or says what would. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { MemoryPlan } from '../contract/memory.ts';
import type { RunConfig } from '../contract/run.ts';
import type { MemoryFacts } from '../models/memory-facts.ts';
import { SMALL_NETWORK_BYTES } from '../models/part-memory.ts';
import type { PipelineMemory } from '../pipeline/pipeline.ts';
import { estimate, type MemoryChoice, type RunSize } from './memory-estimate.ts';

/** A training run as the estimate sees it. @param prompts kept encoded */
export function runSize(config: RunConfig, width: number, height: number, prompts: number): RunSize {
  return {
    width, height, batch: config.batch, guided: Math.max(config.guidance, config.guidanceRange?.[1] ?? 0) > 1, trained: config,
    kl: config.kl > 0, prompts, rewardBytes: rewardBytes(config),
  };
}


/** Bytes of the rewards' own models on disk, and half as much again for what they compute. */
function rewardBytes(config: RunConfig): number {
  const models = new Set([...config.rewards, ...config.heldOutRewards].flatMap(({ model }) => (model === undefined ? [] : [model])));
  return 1.5 * [...models].reduce((sum, model) => sum + weightBytes(model), 0);
}

function weightBytes(path: string): number {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return 0;
  if (found.isFile()) return found.size;
  return readdirSync(path).filter((name) => /\.(safetensors|bin|pt)$/.test(name)).reduce((sum, name) => sum + statSync(join(path, name)).size, 0);
}

export interface PlanInputs {
  readonly facts: MemoryFacts;
  readonly run: RunSize;
  readonly memory: RunConfig['memory'];
  /** What the process can have, its own included. */
  readonly availableBytes: number;
  /** Whether the engine can keep weights in half precision. */
  readonly half: boolean;
}

/** `auto` leaves the rest to estimates that are too low and to other programs. */
const autoShare = 0.85;
/** The others take what there is. */
const share = 0.95;
/** With memory "auto" no more pixels than this go through VAE and reward at once: their backward pass is the largest. */
const PIXELS_AT_ONCE = 512 * 512;

/** Ways of keeping things, the fastest first. */
function choices({ run, facts, memory, half }: PlanInputs): MemoryChoice[] {
  const usual = Math.min(run.batch, Math.max(1, Math.floor(PIXELS_AT_ONCE / (run.width * run.height))));
  const all = (precision: 'float32' | 'stored' | 'half'): MemoryChoice['weights'] => ({ unet: precision, vae: precision, text: precision });
  // Text encoders and VAE are used once a step or less: widening their numbers each time costs nothing that could be measured.
  const fast: MemoryChoice = { weights: { unet: 'float32', vae: 'stored', text: 'stored' }, unet: 'residuals', vae: 'residuals', textEncoders: 'stay', vaeWeights: 'stay', picturesAtOnce: memory === 'fast' ? run.batch : usual };
  if (memory === 'fast') return [fast];
  const steps: Partial<MemoryChoice>[] = [
    {}, { textEncoders: 'leave' }, { weights: all('stored') }, { vae: 'recompute' }, { unet: 'recompute' }, { picturesAtOnce: 1 }, { vaeWeights: 'leave' },
  ];
  const found: MemoryChoice[] = [];
  let choice = fast;
  for (const step of steps) {
    if ('textEncoders' in step && run.trained?.lora.textEncoder) continue;
    if ('weights' in step && !(half && facts.parts.some((part) => part.halves > 0))) continue;
    choice = { ...choice, ...step };
    found.push(choice);
  }
  const saving = found.at(-1)!;
  if (memory === 'auto') return found;
  return half && facts.parts.some((part) => part.floats > 0) ? [saving, { ...saving, weights: all('half') }] : [saving];
}

export function planMemory(inputs: PlanInputs): MemoryPlan {
  const limit = inputs.availableBytes * (inputs.memory === 'auto' ? autoShare : share);
  const plans = choices(inputs).map((choice) => planOf(choice, inputs));
  const chosen = plans.find((plan) => plan.peakBytes <= limit) ?? plans.reduce((least, plan) => (plan.peakBytes < least.peakBytes ? plan : least));
  return { ...chosen, advice: chosen.fits ? [] : adviceFor(inputs), savings: savingsOf(inputs, chosen.peakBytes) };
}

function planOf(choice: MemoryChoice, { facts, run, half, availableBytes }: PlanInputs): MemoryPlan {
  const phases = estimate(facts, run, choice, half);
  const peakBytes = Math.max(...phases.map((each) => each.bytes));
  const small = run.rewardBytes <= 1.5 * SMALL_NETWORK_BYTES && facts.parts.every(({ parameters }) => 4 * parameters <= SMALL_NETWORK_BYTES);
  return { ...choice, small, phases, peakBytes, availableBytes, fits: peakBytes <= share * availableBytes, notes: notesOf(choice, facts, run), advice: [], savings: [] };
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

function notesOf(choice: MemoryChoice, facts: MemoryFacts, run: RunSize): string[] {
  const sum = (key: 'halves' | 'floats'): number => facts.parts.reduce((total, part) => total + part[key], 0);
  const notes: string[] = [];
  switch (choice.weights.unet) {
    case 'float32': notes.push('The UNet\'s weights in float32.'); break;
    case 'stored': notes.push(`Weights in half precision where the files have it: ${gigabytes(2 * sum('halves'))} less, the same numbers.`); break;
    case 'half': notes.push(`Weights in float16: ${gigabytes(2 * (sum('halves') + sum('floats')))} less, values rounded to 11 bits.`); break;
  }
  if (choice.textEncoders === 'leave') notes.push('The text encoders leave memory once the prompts are encoded.');
  if (!run.trained) return choice.vaeWeights === 'leave' ? [...notes, 'The VAE is loaded when a picture is decoded.'] : notes;
  if (choice.vae === 'recompute') notes.push('The gradient through the VAE computes its blocks again instead of keeping their values.');
  if (choice.unet === 'recompute') notes.push('The gradient through the UNet computes its blocks again instead of keeping their values.');
  if (choice.vaeWeights === 'leave') notes.push('The VAE is loaded for each step anew.');
  if (choice.picturesAtOnce < run.batch) notes.push(`Pictures go through VAE and rewards ${choice.picturesAtOnce} at a time, of a batch of ${run.batch}.`);
  return notes;
}

/** Settings that would fit, the smallest changes first; none that goes beyond another. */
function adviceFor(inputs: PlanInputs): string[] {
  const { run, memory, facts } = inputs;
  const sides = [768, 512, 384, 256].filter((side) => side < Math.max(run.width, run.height)).map((side) => shrunk(run, side, facts.factor));
  const low = memory === 'low' || !run.trained ? {} : { memory: 'low' as const }; // sampling has no such setting
  const one = run.batch > 1 && run.trained ? { batch: 1 } : {};
  const unguided = run.guided ? { guided: false } : {};
  const groups: Change[][] = [[low], [one], [{ ...low, ...one }], ...[low, { ...low, ...one }, { ...low, ...one, ...unguided }].map((others) => [others, ...sides.map((size) => ({ ...size, ...others }))])];
  const found: { parts: string[]; bytes: number }[] = [];
  for (const group of groups) {
    for (const { memory: wanted = memory, ...change } of group) {
      const changed: PlanInputs = { ...inputs, memory: wanted, run: { ...run, ...change } };
      const parts = [
        ...(wanted === memory ? [] : [`memory ${wanted}`]), ...(change.batch === undefined ? [] : [`batch ${change.batch}`]),
        ...(change.width === undefined ? [] : [`width ${change.width}, height ${change.height}`]), ...(change.guided === undefined ? [] : ['guidance 1']),
      ];
      if (parts.length === 0) continue;
      if (found.some((other) => other.parts.every((part) => parts.includes(part)))) break; // goes beyond that one, and so would smaller pictures
      const bytes = Math.min(...choices(changed).map((choice) => planOf(choice, changed)).filter((plan) => plan.fits).map((plan) => plan.peakBytes));
      if (bytes === Infinity) continue;
      found.push({ parts, bytes });
      break; // a smaller picture would fit too
    }
  }
  return found.map(({ parts, bytes }) => `${parts.join(', ')} (${gigabytes(bytes)})`);
}

/** Single changes that need at least a twentieth less than `peakBytes`, the largest saving first. */
function savingsOf(inputs: PlanInputs, peakBytes: number): string[] {
  const { run, memory, facts } = inputs;
  if (!run.trained) return [];
  const smaller = shrunk(run, Math.max(run.width, run.height) * 0.75, facts.factor);
  const changes: [string, Change][] = [
    ['memory low', { memory: 'low' }], ['batch 1', { batch: 1 }], [`width ${smaller.width}, height ${smaller.height}`, smaller], ['guidance 1', { guided: false }],
  ];
  return changes.map(([name, { memory: wanted = memory, ...change }]) => {
    const changed: PlanInputs = { ...inputs, memory: wanted, run: { ...run, ...change } };
    return { name, saved: peakBytes - Math.min(...choices(changed).map((choice) => planOf(choice, changed).peakBytes)) };
  }).filter(({ saved }) => saved > peakBytes / 20).sort((a, b) => b.saved - a.saved).map(({ name, saved }) => `${name} (about ${gigabytes(saved)} less)`);
}

interface Change {
  readonly memory?: 'low';
  readonly batch?: number;
  readonly width?: number;
  readonly height?: number;
  readonly guided?: boolean;
}

/** The picture with its longer side cut to `side`, both sides multiples of the VAE's factor. */
function shrunk({ width, height }: RunSize, side: number, factor: number): { width: number; height: number } {
  const scale = side / Math.max(width, height);
  const fit = (pixels: number): number => Math.max(factor, Math.round((pixels * scale) / factor) * factor);
  return { width: fit(width), height: fit(height) };
}

/** @throws AppError('engine') where the plan does not fit: one line, with the settings that would */
export function refuseIfTooLarge(plan: MemoryPlan): void {
  if (plan.fits) return;
  const worst = plan.phases.reduce((most, each) => (each.bytes > most.bytes ? each : most));
  throw new AppError('engine', `This needs about ${gigabytes(plan.peakBytes)} of memory (${worst.phase}), ${gigabytes(plan.availableBytes)} are available.`, {
    hint: plan.advice.length > 0 ? `What would fit: ${plan.advice.join('; ')}.` : 'No setting would make it fit: close other programs, or use a smaller model.',
  });
}

/** The plan as the pipeline obeys it. */
export function pipelineMemory(plan: MemoryPlan): PipelineMemory {
  const leave = new Set<'textEncoders' | 'vae'>();
  if (plan.textEncoders === 'leave') leave.add('textEncoders');
  if (plan.vaeWeights === 'leave') leave.add('vae');
  return { unet: { precision: plan.weights.unet, memory: plan.unet }, vae: { precision: plan.weights.vae, memory: plan.vae }, text: plan.weights.text, leave };
}
