/** Run configs from a file or a preset, with `--set key=value`, checked by the one schema. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { z } from 'zod';
import { AppError, errorLine } from '../base/errors.ts';
import { listPresets } from '../app/presets.ts';
import type { Preset } from '../contract/api.ts';
import { describeIssues, isInlinePicture, nearestKey, runConfigSchema, type RunConfig } from '../contract/run.ts';
import { drtuneHome } from '../base/paths.ts';
import { isThere, listModels, STARTER } from '../models/known.ts';
import { assign } from '../contract/sweep.ts';
import { SET } from '../models/prompt-sets.ts';
import { UsageError, type Arguments, type FlagSpecs } from './arguments.ts';

/** The flags of a command that takes a config. */
export const CONFIG_FLAGS: FlagSpecs = {
  config: { type: 'string' },
  preset: { type: 'string' },
  set: { type: 'string', multiple: true },
};

/**
 * The config of --config (a config, settings saved by the app, or the manifest.json of a run, which is made again) or --preset, changed by --set and `further` assignments.
 * @throws AppError('config') for a bad file or value, UsageError where neither --config nor --preset is given
 */
export function readConfig(args: Arguments, further: readonly string[] = []): RunConfig {
  const [file, preset] = [args.text('config'), args.text('preset')];
  if ((file === undefined) === (preset === undefined)) throw new UsageError('Give either --config FILE or --preset NAME.');
  const raw = file === undefined ? (structuredClone(findPreset(preset!).config) as Record<string, unknown>) : configIn(readJson(file));
  const folder = file === undefined ? process.cwd() : dirname(resolve(file));
  absolutePaths(raw, folder);
  for (const assignment of [...args.texts('set'), ...further]) applySet(raw, assignment);
  absolutePaths(raw, process.cwd()); // what --set named is relative to where the user is
  return checkConfig(raw);
}

/** @throws AppError('config') with one line for every fault */
export function checkConfig(raw: unknown): RunConfig {
  const parsed = runConfigSchema.safeParse(raw);
  if (!parsed.success) throw new AppError('config', `The config is wrong: ${parsed.error.issues.map((issue) => issueLine(issue, raw)).join('; ')}.`);
  return parsed.data;
}

/** One fault of a config: where, what was expected, what was got. */
function issueLine(issue: z.core.$ZodIssue, raw: unknown): string {
  if (issue.code === 'unrecognized_keys') return describeIssues(new z.ZodError([issue]));
  if (issue.code === 'invalid_union') {
    const inner = issue.errors.flat();
    const deepest = inner.find(({ path }) => path.length > 0);
    if (deepest) return issueLine({ ...deepest, path: [...issue.path, ...deepest.path] }, raw);
    const types = inner.flatMap((each) => (each.code === 'invalid_type' ? [each.expected] : []));
    if (types.length > 1) return issueLine({ ...issue, code: 'custom', message: `expected ${[...new Set(types)].join(' or ')}` } as z.core.$ZodIssue, raw);
  }
  const where = issue.path.map(String).join('.') || 'config';
  const value = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | null | undefined)?.[key], raw);
  if (value === undefined) return `${where} is missing`;
  const got = JSON.stringify(value)?.slice(0, 60);
  const near = issue.code === 'invalid_value' && typeof value === 'string' ? nearestKey(value, issue.values.map(String)) : undefined;
  if (near) return `${where}: ${got}, did you mean "${near}"?`;
  return `${where}: ${issue.message.replace(/^Invalid (?:input|option): /, '').replace(/, received \w+$/, '')}, got ${got}`;
}

/** The config of a run's manifest or of saved settings, otherwise what was read. */
function configIn(raw: Record<string, unknown>): Record<string, unknown> {
  const { config, inputs, engine, drtune } = raw;
  if (drtune === 1 && typeof config === 'object' && config !== null) return config as Record<string, unknown>;
  const manifest = typeof config === 'object' && config !== null && typeof inputs === 'object' && typeof engine === 'object';
  return manifest ? repeated(raw, config as Record<string, unknown>) : raw;
}

/** The config of a run as its manifest has it, with the lists the run read instead of their files, and the model's place where its name is not known here. */
function repeated(manifest: Record<string, unknown>, config: Record<string, unknown>): Record<string, unknown> {
  for (const key of ['prompts', 'heldOutPrompts']) {
    if (typeof config[key] === 'string' && !String(config[key]).startsWith(SET) && Array.isArray(manifest[key])) config[key] = manifest[key];
  }
  const { path } = (manifest['model'] ?? {}) as { path?: unknown };
  const known = listModels(drtuneHome()).some(({ name }) => name === config['model']);
  if (!known && typeof path === 'string' && path !== '' && isThere(path)) config['model'] = path;
  return config;
}

function readJson(file: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new AppError('config', `The config ${file} cannot be read: ${errorLine(cause)}.`, { cause });
  }
  if (text.startsWith('PK')) throw new AppError('config', `${file} is a shared run, not settings.`, { hint: `drtune history import ${file} adds it to the history; then train --config with its manifest.json makes it again.` });
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new SyntaxError('it is not an object');
    return value as Record<string, unknown>;
  } catch (cause) {
    throw new AppError('config', `The config ${file} is not JSON: ${errorLine(cause)}.`, { cause });
  }
}

/**
 * Sets one key, e.g. "lora.rank=8", "prompts=[\"a cat\"]", "rewards.0.weight=2". The value is JSON, or a text where it is none.
 * @throws AppError('config')
 */
export function applySet(config: Record<string, unknown>, assignment: string): void {
  const at = assignment.indexOf('=');
  if (at < 1) throw new AppError('config', `--set ${assignment} is not key=value.`);
  const problem = assign(config, { key: assignment.slice(0, at), value: assignment.slice(at + 1) });
  if (problem !== null) throw new AppError('config', `--set ${assignment}: ${problem}.`);
}

/** Files and folders named in a config become absolute, seen from `folder`. A model that is neither a path nor a folder there stays a name. */
function absolutePaths(config: Record<string, unknown>, folder: string): void {
  const path = (holder: unknown, key: string): void => {
    if (typeof holder !== 'object' || holder === null) return;
    const record = holder as Record<string, unknown>;
    const value = record[key];
    if (typeof value === 'string' && value !== '' && !isAbsolute(value) && !(key === 'reference' && isInlinePicture(value))) record[key] = resolve(folder, value);
  };
  for (const key of ['prompts', 'heldOutPrompts']) if (!String(config[key]).startsWith(SET)) path(config, key);
  path(config['lora'], 'initFile');
  for (const terms of [config['rewards'], config['heldOutRewards']]) {
    if (Array.isArray(terms)) for (const term of terms) for (const key of ['model', 'reference', 'head']) path(term, key);
  }
  const model = config['model'];
  if (typeof model !== 'string') return;
  const isPath = model.includes('/') || model.includes('\\') || model.startsWith('.');
  if (isPath || (model !== STARTER && existsSync(join(folder, model, 'model_index.json')))) path(config, 'model');
}

/** @throws AppError('config') naming the nearest preset */
export function findPreset(name: string): Preset {
  const presets = listPresets();
  const found = presets.find((each) => each.name === name);
  if (found) return found;
  const names = presets.map((each) => each.name);
  const near = nearestKey(name, names);
  throw new AppError('config', `There is no preset "${name}".`, { hint: near ? `Did you mean "${near}"?` : `Presets: ${names.join(', ')}.` });
}
