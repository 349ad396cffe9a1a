/** The files of a run's checkpoints: how they are named, and what they tell without any weight being read. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { jointSum, sha256Of } from '../base/atomic.ts';
import type { ScoredPoint } from '../contract/best.ts';
import type { PictureMeasures, ToldEvent } from '../contract/events.ts';

export const STATE_STEM = 'state';
export const INDEX_FILE = 'checkpoint.json';

/** Measures of the base model's pictures, kept so that a resumed run compares with the same. */
export interface Baseline {
  readonly heldOut: PictureMeasures | null;
  readonly trained: PictureMeasures | null;
}

export interface WrittenCheckpoint {
  /** Path of the weights relative to the run's folder: of their one file, or of the index of several. */
  readonly file: string;
  /** Of the weights, as {@link jointSum}. */
  readonly sha256: string;
  /** Of the whole checkpoint. */
  readonly bytes: number;
}

/** What checkpoint.json holds. */
export interface CheckpointIndex {
  readonly version: 1;
  readonly step: number;
  readonly optimizerStep: number;
  readonly optimizerNumbers?: Readonly<Record<string, number>>;
  readonly averageUpdates: number;
  readonly skippedInARow: number;
  readonly skipped: number;
  readonly alarmsOn: readonly string[];
  readonly baseline: Baseline;
  readonly points?: readonly ScoredPoint[];
  readonly recent?: readonly ToldEvent[];
  readonly samplesDue?: boolean;
  readonly sha256: Readonly<Record<string, string>>;
}

export const checkpointName = (step: number): string => `step-${String(step).padStart(6, '0')}`;
export const checkpointsFolder = (runDir: string): string => join(runDir, 'checkpoints');

/** Folders of a run's checkpoints, the newest first. */
export function listCheckpoints(runDir: string): string[] {
  const folder = checkpointsFolder(runDir);
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => /^step-\d{6,}$/.test(name)).sort().reverse().map((name) => join(folder, name));
}

/** Steps that have a checkpoint, ascending. */
export function checkpointSteps(runDir: string): number[] {
  return listCheckpoints(runDir).map(stepOf).reverse();
}

export const stepOf = (folder: string): number => Number(/step-(\d+)$/.exec(folder)![1]);

export const isState = (file: string): boolean => file.startsWith(`${STATE_STEM}.`) || file.startsWith(`${STATE_STEM}-`);

/** @param sums of the checkpoint's files */
export function writtenAs(name: string, sums: Readonly<Record<string, string>>, bytes: number): WrittenCheckpoint {
  const weights = Object.keys(sums).filter((file) => !isState(file));
  const one = weights.find((file) => file.endsWith('.index.json')) ?? weights[0]!;
  return { file: `checkpoints/${name}/${one}`, sha256: jointSum(Object.fromEntries(weights.map((file) => [file, sums[file]!]))), bytes };
}

export const checkpointBytes = (folder: string): number => readdirSync(folder).reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);

/** The LoRA of a checkpoint that is there, as {@link writeCheckpoint} told of it. */
export function storedCheckpoint(runDir: string, step: number): WrittenCheckpoint {
  const folder = join(checkpointsFolder(runDir), checkpointName(step));
  return writtenAs(checkpointName(step), readIndex(folder).sha256, checkpointBytes(folder));
}

/** sha256 of the weights of every checkpoint of a run as they are, also of an imported one, by step. */
export function checkpointSums(runDir: string): Map<number, string> {
  return new Map(listCheckpoints(runDir).flatMap((folder) => {
    const files = readdirSync(folder).filter((file) => /\.safetensors(\.index\.json)?$/.test(file) && !isState(file));
    return files.length === 0 ? [] : [[stepOf(folder), jointSum(Object.fromEntries(files.map((file) => [file, sha256Of(join(folder, file))])))] as const];
  }));
}

export const readIndex = (folder: string): CheckpointIndex => JSON.parse(readFileSync(join(folder, INDEX_FILE), 'utf8')) as CheckpointIndex;
