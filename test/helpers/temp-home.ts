/** Data folders and configs for tests of the shell. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { runConfigSchema, type RunConfig, type RunConfigInput } from '../../src-main/contract/run.ts';
import type { TrainerEventOf } from '../../src-main/contract/events.ts';

const folders: string[] = [];

/** A fresh data folder, removed after the test. */
export function tempHome(): string {
  const folder = mkdtempSync(join(tmpdir(), 'drtune-shell-'));
  folders.push(folder);
  return folder;
}

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

export function config(change: Partial<RunConfigInput> = {}): RunConfig {
  return runConfigSchema.parse({ model: 'fake', prompts: ['a red circle'], rewards: [{ name: 'symmetry' }], iterations: 5, ...change });
}

export const started = (change: Partial<TrainerEventOf<'started'>> = {}): TrainerEventOf<'started'> => ({
  type: 'started', engine: { name: 'wasm', version: '4.22.0', device: 'CPU', why: 'test' }, model: 'fake', iterations: 5, startIteration: 0,
  trainableParameters: 10, width: 64, height: 64, ...change,
});

export const step = (n: number, change: Partial<TrainerEventOf<'step'>> = {}): TrainerEventOf<'step'> => ({
  type: 'step', step: n, reward: n / 10, terms: { symmetry: n / 10 }, kl: 0, gradNorm: 1, lr: 1e-4, stepMs: 100, skipped: false, memoryBytes: 1e6, etaSeconds: 1, ...change,
});

export const image = (role: 'base' | 'tuned', n: number, change: Partial<TrainerEventOf<'image'>> = {}): TrainerEventOf<'image'> => ({
  type: 'image', role, step: n, prompt: 'a red circle', promptIndex: 0, heldOut: false, seed: 0, width: 64, height: 64, file: `samples/${role}-${n}.png`,
  rewards: { symmetry: 0.5 }, weights: role, ...change,
});

export const checkpoint = (n: number): TrainerEventOf<'checkpoint'> => ({ type: 'checkpoint', step: n, file: `checkpoints/step-${n}.safetensors`, sha256: 'ab', bytes: 12 });

/** Waits until `check` gives something, looking every 20 ms. */
export async function until<T>(check: () => T | null | undefined | false, what: string, ms = 20_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const value = check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
