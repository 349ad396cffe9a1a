/**
 * How many bytes a run will need, phase by phase, from the sizes of its networks' blocks.
 *
 * TensorFlow keeps memory it once had for intermediate values, so their largest sum so far counts in every later phase;
 * weights have pages of their own and count while they are there. Factors are measured (test/bench/scale.ts): see the README.
 */
import type { BlockFacts, MemoryFacts, PartFacts } from '../models/memory-facts.ts';
import type { Precision } from '../weights/load.ts';
import { sizeOfTrained, trainedShapes, type TrainedConfig } from './trained-size.ts';

/** What of a run decides its memory. */
export interface RunSize {
  readonly width: number;
  readonly height: number;
  readonly batch: number;
  readonly guided: boolean;
  /** What is trained, and how; null for sampling alone. */
  readonly trained: TrainedConfig | null;
  /** Also the base's prediction at trained steps. */
  readonly kl: boolean;
  /** Prompts kept encoded. */
  readonly prompts: number;
  /** Bytes of the rewards' own models. */
  readonly rewardBytes: number;
}

/** How a run keeps things. */
export interface MemoryChoice {
  readonly weights: { readonly unet: Precision; readonly vae: Precision; readonly text: Precision };
  readonly unet: 'residuals' | 'recompute';
  readonly vae: 'residuals' | 'recompute';
  readonly textEncoders: 'stay' | 'leave';
  readonly vaeWeights: 'stay' | 'leave';
  readonly picturesAtOnce: number;
}

export interface PhaseEstimate {
  readonly phase: 'load' | 'encode prompts' | 'rollout' | 'picture gradient' | 'network gradient' | 'optimiser' | 'sample' | 'decode';
  readonly bytes: number;
}

/** The process with the engine in it, and what JavaScript has not yet collected. */
const PROCESS = 650e6;
/** Traced functions, for each distinct shape of block. */
const TRACE = 8e6;
/** Between what is alive and what TensorFlow's allocator takes. */
const FRAGMENTS = 1.1;
/** A larger matrix of attention is computed in slices; see engine/attention.ts. */
const WHOLE_MATRIX = 256e6;
const SLICE = 64e6;
const TEXT_TOKENS = 77;

export function estimate(facts: MemoryFacts, run: RunSize, choice: MemoryChoice, half: boolean): PhaseEstimate[] {
  const weights = (part: PartFacts): number => keptBytes(part, choice.weights[part.part === 'unet' || part.part === 'vae' ? part.part : 'text'], half);
  const of = (name: (part: string) => boolean): number => facts.parts.filter(({ part }) => name(part)).reduce((sum, part) => sum + weights(part), 0);
  const [unet, vae, text] = [of((part) => part === 'unet'), of((part) => part === 'vae'), of((part) => part.startsWith('text'))];
  const [textStays, vaeStays] = [choice.textEncoders === 'stay' ? text : 0, choice.vaeWeights === 'stay' ? vae : 0];
  const largest = 4 * Math.max(...facts.parts.map((part) => part.largest));
  const lora = run.trained ? trainedBytes(facts, run.trained) : 0;
  const base = PROCESS + run.rewardBytes + lora + run.prompts * TEXT_TOKENS * 2048 * 4;
  const cells = (run.width / facts.factor) * (run.height / facts.factor);
  const branches = run.batch * (run.guided ? 2 : 1);
  const widen = (blocks: readonly BlockFacts[], precision: Precision): number => (precision === 'float32' || !half ? 0 : 4 * Math.max(0, ...blocks.map((block) => block.parameters)));
  const network = (gradient: boolean): number => FRAGMENTS * (blocksBytes(facts.unet, cells, branches, gradient ? choice.unet : null) + widen(facts.unet, choice.weights.unet));
  const picture = (gradient: boolean): number => {
    const pictures = gradient ? choice.picturesAtOnce : run.batch;
    return FRAGMENTS * (blocksBytes(facts.decoder, cells, pictures, gradient ? choice.vae : null) + widen(facts.decoder, choice.weights.vae) + 12 * pictures * run.width * run.height * 4);
  };
  const phases: PhaseEstimate[] = [];
  let kept = 0; // of intermediate values, by TensorFlow's allocator
  const add = (phase: PhaseEstimate['phase'], resident: number, values: number): void => {
    kept = Math.max(kept, values);
    phases.push({ phase, bytes: Math.round(base + resident + kept) });
  };
  add('encode prompts', text + (textStays && unet + vaeStays), largest + 150e6);
  const all = textStays + unet + vaeStays;
  add('load', all, largest);
  const traces = TRACE * (new Set(facts.unet.map(shapeKey)).size + new Set(facts.decoder.map(shapeKey)).size);
  if (!run.trained) {
    add('sample', all + traces, network(false));
    add('decode', textStays + unet + vae + traces, picture(false));
    return phases;
  }
  add('rollout', all + traces, network(false));
  add('picture gradient', textStays + unet + vae + traces, picture(true));
  add('network gradient', all + traces, network(true) + (run.kl ? network(false) / 2 : 0));
  add('optimiser', all + traces, 0);
  return phases;
}

const shapeKey = ({ kind, level, from, to }: BlockFacts): string => [kind, level, from, to].join();

function keptBytes(part: PartFacts, precision: Precision, half: boolean): number {
  if (!half || precision === 'float32') return 4 * part.parameters;
  const halves = part.halves + (precision === 'half' ? part.floats : 0);
  return 4 * part.parameters - 2 * halves;
}

/** Values, the optimiser's state, the average, the gradient as numbers; tensors and gradients on the engine. */
function trainedBytes(facts: MemoryFacts, trained: TrainedConfig): number {
  const { values, optimizerBytes } = sizeOfTrained(trainedShapes(facts, trained), trained);
  return 4 * values * (trained.ema > 0 ? 7 : 5) + optimizerBytes;
}

/**
 * Bytes alive at the worst moment of a pass through the blocks: what earlier blocks left behind, and the largest block at work.
 * @param cells of the network's input
 * @param memory what a gradient keeps; null for a pass without one
 */
function blocksBytes(blocks: readonly BlockFacts[], cells: number, batch: number, memory: 'residuals' | 'recompute' | null): number {
  let kept = 0;
  let work = 0;
  for (const block of blocks) {
    const at = (4 * batch * cells) / 4 ** block.level;
    const { left, working } = blockBytes(block, at, batch, memory);
    kept += left;
    work = Math.max(work, working);
  }
  return kept + work;
}

/** @param at bytes of one channel at the block's size */
function blockBytes({ kind, from, to, heads }: BlockFacts, at: number, batch: number, memory: 'residuals' | 'recompute' | null): { left: number; working: number } {
  const tokens = at / 4 / batch;
  const whole = kind === 'transformer' || kind === 'attention' ? 4 * batch * heads * tokens * tokens : 0;
  const matrix = whole > WHOLE_MATRIX ? 0 : whole;
  const slices = whole > WHOLE_MATRIX ? 4 * SLICE : 0;
  switch (kind) {
    case 'resnet': {
      if (memory === null) return { left: 0.5 * at * to, working: at * (3 * from + 2 * to) };
      const work = at * (4 * from + 4 * to);
      return memory === 'residuals' ? { left: at * (from + 3 * to), working: work } : { left: at * to, working: work };
    }
    case 'upsample':
      return memory === null ? { left: 0, working: 4 * at * (from + to) } : { left: 4 * at * to, working: 8 * at * to };
    case 'attention':
    case 'transformer': {
      if (memory === null) return { left: 0, working: at * to * 14 + 2 * matrix + slices };
      const inner = kind === 'transformer' ? 31 : 8;
      const cross = kind === 'transformer' ? at * heads * TEXT_TOKENS : 0;
      const work = at * to * (inner + 8) + 3 * matrix + slices + 2 * cross;
      return memory === 'residuals' ? { left: at * to * inner + matrix + cross, working: work } : { left: at * to, working: work };
    }
  }
}
