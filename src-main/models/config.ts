/** Reads a model's config.json: typed, with the file's own defaults where a key is absent, and one clear line for the rest. */
import { readFileSync } from 'node:fs';
import { AppError } from '../base/errors.ts';

/** More layers than any model has: a list of the parameters of a million would fill memory. */
export const MOST_LAYERS = 1000;

export type JsonRecord = Readonly<Record<string, unknown>>;

/** @throws AppError('weights') if the file is missing or no JSON record */
export function readJson(path: string): JsonRecord {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new AppError('weights', missing ? `There is no file ${path}.` : `${path} cannot be read: ${(cause as Error).message}.`, {
      hint: 'Check that the model folder is complete.', cause,
    });
  }
  let value: unknown;
  try {
    value = parse(text.replace(/^\uFEFF/, ''));
  } catch (cause) {
    throw new AppError('weights', `${path} is not JSON: ${(cause as Error).message}.`, { hint: 'Copy or download it again.', cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new AppError('weights', `${path} is not a JSON record.`);
  return value as JsonRecord;
}

/** JSON, or JSON as Python writes it: with Infinity, -Infinity and NaN (which becomes null). */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const plain = text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g, (token) => (token.startsWith('"') ? token : token === 'NaN' ? 'null' : token.replace('Infinity', '1e999')));
    if (plain === text) throw error;
    return JSON.parse(plain);
  }
}

/** One config's values. Every getter throws AppError('weights') naming file, key, value and what is supported. */
export class ConfigReader {
  readonly path: string;
  readonly values: JsonRecord;

  constructor(path: string, values: JsonRecord = readJson(path)) {
    this.path = path;
    this.values = values;
  }

  refuse(key: string, supported: string, value: unknown = this.values[key]): AppError {
    return new AppError('weights', `${this.path} has "${key}": ${JSON.stringify(value)}, which this version does not support; it supports ${supported}.`);
  }

  /** Absent or null -> the default. */
  private value(key: string): unknown {
    return this.values[key] ?? undefined;
  }

  number(key: string, standard?: number): number {
    const value = this.value(key) ?? standard;
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.refuse(key, 'a number', value ?? null);
    return value;
  }

  numberOrNull(key: string): number | null {
    return this.value(key) === undefined ? null : this.number(key);
  }

  /** A whole number of at least 1. */
  size(key: string, standard?: number): number {
    const value = this.number(key, standard);
    if (!Number.isSafeInteger(value) || value < 1 || value > 1e7) throw this.refuse(key, 'a whole number above 0', value);
    return value;
  }

  /** A number of layers, for each of which parameters are listed. */
  layers(key: string, standard: number): number {
    const value = this.size(key, standard);
    if (value > MOST_LAYERS) throw this.refuse(key, `at most ${MOST_LAYERS}`, value);
    return value;
  }

  /** Groups of a norm over each of these channels. */
  groups(key: string, standard: number, channels: readonly number[]): number {
    const value = this.size(key, standard);
    if (channels.some((each) => each % value !== 0)) throw this.refuse(key, `a divisor of each of block_out_channels (${channels.join(', ')})`, value);
    return value;
  }

  flag(key: string, standard: boolean): boolean {
    const value = this.value(key) ?? standard;
    if (typeof value !== 'boolean') throw this.refuse(key, 'true or false', value);
    return value;
  }

  oneOf<T extends string>(key: string, choices: readonly T[], standard?: T): T {
    const value = this.value(key) ?? standard;
    if (!choices.includes(value as T)) throw this.refuse(key, choices.join(', '), value ?? null);
    return value as T;
  }

  names<T extends string>(key: string, choices: readonly T[]): T[] {
    const value = this.value(key);
    if (!Array.isArray(value) || value.length === 0) throw this.refuse(key, `a list of ${choices.join(', ')}`, value ?? null);
    for (const name of value) if (!choices.includes(name as T)) throw this.refuse(key, choices.join(', '), name);
    return value as T[];
  }

  sizes(key: string): number[] {
    return this.perLevel(key, null);
  }

  /** A number, or one per level; `levels` null means a list of any length. */
  perLevel(key: string, levels: number | null, standard?: number): number[] {
    const value = this.value(key) ?? standard;
    const list: readonly unknown[] = Array.isArray(value) ? value : levels === null ? [] : new Array<unknown>(levels).fill(value);
    const fits = list.length > 0 && (levels === null || list.length === levels) && list.every((n) => Number.isSafeInteger(n) && (n as number) > 0);
    if (!fits) throw this.refuse(key, levels === null ? 'a list of whole numbers above 0' : `a whole number above 0, or a list of ${levels}`, value ?? null);
    return list as number[];
  }

  numbersOrNull(key: string, length: number): number[] | null {
    const value = this.value(key);
    if (value === undefined) return null;
    if (!Array.isArray(value) || value.length !== length || !value.every((n) => Number.isFinite(n))) throw this.refuse(key, `null or a list of ${length} numbers`);
    return value as number[];
  }

  /** Refuses every value but the given ones; an absent key is allowed. */
  only(key: string, allowed: readonly unknown[]): void {
    const value = this.values[key];
    if (value === undefined || allowed.some((choice) => JSON.stringify(choice) === JSON.stringify(value))) return;
    throw this.refuse(key, allowed.map((choice) => JSON.stringify(choice)).join(' or '));
  }
}
