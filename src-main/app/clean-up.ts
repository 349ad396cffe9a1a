/** Frees disk: of a run's checkpoints the best and the last stay, and those another run began from. Pictures, curves and settings are never touched. */
import { existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { CleanUp } from '../contract/api.ts';
import { bestStep, watchedNames } from '../contract/best.ts';
import { startFiles } from '../history/run-search.ts';
import { configOf } from '../history/runs.ts';
import { folderBytes } from '../base/disk.ts';
import { newestCheckpoint } from './run-folders.ts';
import type { RunRecorder } from './run-recorder.ts';

/** What a clean-up of these runs would free; runs at work are left out. */
export function planCleanUp(recorder: RunRecorder, ids: readonly string[]): CleanUp {
  const begun = new Set(startFiles(recorder.history.db).map((path) => resolve(path)));
  const runs = ids.map((id) => planRun(recorder, id, begun)).filter((run) => run.drops.length > 0);
  return { runs, bytes: runs.reduce((sum, run) => sum + run.bytes, 0) };
}

/** Does it, and says what was freed. */
export function cleanUp(recorder: RunRecorder, ids: readonly string[]): CleanUp {
  const plan = planCleanUp(recorder, ids);
  for (const { id, drops, bytes } of plan.runs) {
    const dir = recorder.runDir(id);
    for (const row of recorder.records.checkpoints(id).filter((each) => drops.includes(each.step))) {
      const place = placeOf(dir, row.file);
      if (existsSync(place)) {
        // Out of the trainer's sight first: half a checkpoint must not look like one.
        const gone = join(dirname(place), `gone-${basename(place)}`);
        renameSync(place, gone);
        rmSync(gone, { recursive: true, force: true });
      }
      recorder.records.deleteCheckpoint(id, row.step);
    }
    recorder.runs.set(id, { disk_bytes: folderBytes(dir) });
    recorder.log(id, `clean-up: checkpoints of steps ${drops.join(', ')} deleted, ${(bytes / 1e6).toFixed(1)} MB freed`);
  }
  return plan;
}

function planRun(recorder: RunRecorder, id: string, begun: ReadonlySet<string>): CleanUp['runs'][number] {
  const row = recorder.runs.get(id);
  const empty = { id, name: row.name, keeps: [], drops: [], bytes: 0 };
  if (row.state === 'running' || row.state === 'queued') return empty;
  const dir = recorder.runDir(id);
  const checkpoints = recorder.records.checkpoints(id);
  const samples = recorder.records.samples(id);
  const heldOut = samples.some((each) => each.heldOut);
  const points = samples.filter((each) => each.heldOut === heldOut);
  const there = new Set(checkpoints.map((each) => each.step));
  const best = bestStep(points.filter((each) => each.role === 'tuned' && there.has(each.step)), points.find((each) => each.role === 'base')?.measures ?? null, watchedNames(configOf(row)));
  const last = Math.max(newestCheckpoint(dir), checkpoints.at(-1)?.step ?? 0);
  const stays = (each: (typeof checkpoints)[number]): boolean => each.step === best || each.step >= last || begun.has(resolve(dir, each.file));
  const drops = checkpoints.filter((each) => !stays(each));
  return {
    ...empty, keeps: checkpoints.filter(stays).map((each) => each.step), drops: drops.map((each) => each.step),
    bytes: drops.reduce((sum, each) => sum + bytesOf(placeOf(dir, each.file)), 0),
  };
}

/** A checkpoint's folder, or its file where it is one. */
function placeOf(dir: string, file: string): string {
  const folder = dirname(file);
  return join(dir, folder === 'checkpoints' ? file : folder);
}

function bytesOf(place: string): number {
  const stat = statSync(place, { throwIfNoEntry: false });
  return stat?.isDirectory() ? folderBytes(place) : (stat?.size ?? 0);
}
