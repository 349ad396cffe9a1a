/** --lora FILE[:scale], as often as wanted: several LoRAs of any form, each with its strength, as one set of adapters. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { LoraSet } from '../nn/lora.ts';
import { combineLoras, disposeLoras } from '../pipeline/adapter.ts';
import { readLoras } from '../pipeline/lora-file.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import { UsageError } from './arguments.ts';

export interface LoraFlag {
  /** Absolute; a file or a folder. */
  readonly file: string;
  readonly scale: number;
}

/**
 * Splits at the last colon, unless what stands there is a path by itself ("C:\style.safetensors", a name with a colon).
 * @throws AppError, UsageError where the scale is no number
 */
export function parseLora(text: string): LoraFlag {
  const colon = text.lastIndexOf(':');
  const [file, scale] = [text.slice(0, colon), text.slice(colon + 1)];
  if (colon < 1 || existsSync(text)) return { file: resolve(text), scale: 1 };
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(scale) && Number.isFinite(Number(scale))) return { file: resolve(file), scale: Number(scale) };
  if (existsSync(file)) throw new UsageError(`--lora ${text}: "${scale}" is no scale; write a number, e.g. ${file}:0.8.`);
  return { file: resolve(text), scale: 1 };
}

/** The sum of all; {} without any. The caller disposes it. @throws AppError('weights') */
export function openLoras(flags: readonly LoraFlag[], pipeline: Pipeline): LoraSet {
  const read: Array<{ set: LoraSet; strength: number }> = [];
  try {
    for (const { file, scale } of flags) read.push({ set: readLoras(file, pipeline.loraModules()), strength: scale });
    return combineLoras(read);
  } finally {
    for (const { set } of read) disposeLoras(set);
  }
}
