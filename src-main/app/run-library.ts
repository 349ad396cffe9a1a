/** What a user does with runs that are not at work: rename, trash, compare settings, export. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { ExportFormat } from '../contract/api.ts';
import { shortPictures } from '../contract/run.ts';
import { configOf } from '../history/runs.ts';
import { fileInside } from './run-folders.ts';
import type { RunRecorder } from './run-recorder.ts';

/** Deletes rows and files for good. @throws AppError unless the run is in the trash */
export function purgeRun(recorder: RunRecorder, id: string): void {
  const row = recorder.runs.get(id);
  if (row.deleted_at === null) throw new AppError('run', `The run "${row.name}" is not in the trash.`, { hint: 'Delete it first.' });
  rmSync(recorder.runDir(id), { recursive: true, force: true });
  recorder.runs.delete(id);
}

/** Settings in which two runs differ, nested ones with dots. */
export function diffRuns(recorder: RunRecorder, a: string, b: string): { key: string; a: string; b: string }[] {
  const [first, second] = [a, b].map((id) => flatten(configOf(recorder.runs.get(id)))) as [Map<string, string>, Map<string, string>];
  const keys = [...new Set([...first.keys(), ...second.keys()])];
  return keys.filter((key) => first.get(key) !== second.get(key)).map((key) => ({ key, a: first.get(key) ?? '', b: second.get(key) ?? '' }));
}

function flatten(value: unknown, key = '', into = new Map<string, string>()): Map<string, string> {
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    for (const [name, each] of Object.entries(value)) flatten(each, key ? `${key}.${name}` : name, into);
  } else if (value !== undefined) into.set(key, shortPictures(typeof value === 'string' ? value : JSON.stringify(value)));
  return into;
}

/**
 * What to export and where to: a place of its own in exports/, in the format's own form.
 * @param step the newest checkpoint where left out
 * @param single a merged model as one file
 */
export function exportPlace(recorder: RunRecorder, id: string, format: ExportFormat, single: boolean, step?: number): { checkpoint: string; step: number; out: string } {
  const row = recorder.runs.get(id);
  const checkpoints = recorder.records.checkpoints(id);
  const checkpoint = step === undefined ? checkpoints.at(-1) : checkpoints.find((each) => each.step === step);
  if (!checkpoint) {
    throw new AppError('not-found', `The run "${row.name}" has no checkpoint${step === undefined ? '' : ` at step ${step}`} to export.`, {
      hint: checkpoints.length ? `It has checkpoints at ${checkpoints.map((each) => each.step).join(', ')}.` : 'Stop it to write one, or let it train on.',
    });
  }
  const safeName = row.name.normalize('NFKD').replace(/[^\w.-]+/g, '-').replace(/^[-.]+|-+$/g, '').slice(0, 60) || 'run';
  const stem = join(recorder.history.home, 'exports', `${safeName}-${id.slice(-6)}-step-${checkpoint.step}`);
  const endings = { diffusers: '.safetensors', kohya: '-kohya.safetensors', peft: '-peft', merged: single ? '-merged.safetensors' : '-merged' };
  let out = stem + endings[format];
  // A LoRA takes the place of its like; a whole model is not written over.
  for (let n = 2; format === 'merged' && existsSync(out); n++) out = `${stem}-${n}${endings[format]}`;
  return { checkpoint: fileInside(recorder.runDir(id), checkpoint.file), step: checkpoint.step, out };
}
