/** The tiny pipeline of test/golden/drtune: SDXL's architecture, random weights, 32 pixels; and configs for it. */
import { join } from 'node:path';
import { runConfigSchema, type RunConfig, type RunConfigInput } from '../../src-main/contract/run.ts';

const folder = join(import.meta.dirname, '../golden/drtune');
export const tinyPipeline = join(folder, 'pipeline');
export const tinyClip = join(folder, 'clip');
export const tinyLora = join(folder, 'lora.safetensors');

/** A config small enough for a test: seconds, not minutes. */
export function tinyInput(change: Partial<RunConfigInput> = {}): RunConfigInput {
  return {
    model: tinyPipeline, prompts: ['a red apple', 'two blue cats', 'the house'], heldOutPrompts: ['a green tree'],
    rewards: [{ name: 'symmetry', weight: 1 }], heldOutRewards: [{ name: 'brightness' }],
    width: 24, height: 16, steps: 3, trainedSteps: 2, guidance: 2, batch: 2, iterations: 4, sampleEvery: 2, samplePrompts: 2, checkpointEvery: 2,
    lora: { rank: 2 }, optimizer: { lr: 1e-2 }, seed: 3, ...change,
  };
}

export function tinyConfig(change: Partial<RunConfigInput> = {}): RunConfig {
  return runConfigSchema.parse(tinyInput(change));
}
