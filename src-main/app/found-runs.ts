/** Runs whose folders are there and whose rows are not, as after a history came back from an older backup: they are put into it again, with all that their files tell. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { folderBytes } from '../base/disk.ts';
import { jointSum } from '../base/atomic.ts';
import { trainerEventSchema, type TrainerEvent } from '../contract/events.ts';
import { runConfigSchema } from '../contract/run.ts';
import type { Manifest } from '../train/manifest.ts';
import type { RunRecorder } from './run-recorder.ts';

/** @returns ids of the runs that were found; a folder that tells nothing is left as it is */
export function adoptRuns(recorder: RunRecorder): string[] {
  const runs = join(recorder.history.home, 'runs');
  if (!existsSync(runs)) return [];
  return readdirSync(runs).filter((id) => !id.startsWith('.') && !recorder.runs.find(id)).filter((id) => {
    try {
      adopt(recorder, id, JSON.parse(readFileSync(join(runs, id, 'manifest.json'), 'utf8')) as Manifest);
      return true;
    } catch {
      return false; // no run of ours, or nothing of it can be read
    }
  });
}

/** What checkpoints remember of what was told. */
const KEPT: ReadonlySet<TrainerEvent['type']> = new Set(['step', 'image', 'sampled', 'alarm', 'checkpoint']);

function adopt(recorder: RunRecorder, id: string, manifest: Manifest): void {
  const config = runConfigSchema.parse(manifest.config);
  const runDir = recorder.runDir(id);
  const found = checkpointsOf(runDir);
  const told: unknown[] = [...found.flatMap(({ recent }) => recent), ...manifest.pictures, ...found.map(({ event }) => event)];
  const events = told.flatMap((each): TrainerEvent[] => {
    const { data } = trainerEventSchema.safeParse(each);
    return data && KEPT.has(data.type) ? [data] : [];
  });
  const step = found.at(-1)?.event.step ?? 0;
  const { width, height } = manifest.pictures[0] ?? config;
  const stepMs = events.reduce((sum, each) => sum + (each.type === 'step' ? each.stepMs : 0), 0);
  recorder.history.db.transaction(() => {
    const at = Date.parse(manifest.startedAt) || Date.now();
    recorder.runs.insert({ id, name: id, config, appVersion: manifest.app, at, state: 'running', owner: null });
    if (width && height) {
      const { name, version, device, why } = manifest.engine;
      recorder.record(id, { type: 'started', model: config.model, iterations: config.iterations, startIteration: 0, trainableParameters: 0, engine: { name, version, device, why }, width, height });
    }
    for (const event of events) recorder.record(id, event);
    recorder.record(id, { type: 'finished', reason: 'failed', step, message: 'The history was damaged; this run was found by its folder.', hint: recorder.resumeWords(id), seconds: stepMs / 1000 });
    recorder.runs.set(id, { seconds: stepMs / 1000, disk_bytes: folderBytes(runDir) });
  })();
}

interface Found { event: Extract<TrainerEvent, { type: 'checkpoint' }>; recent: readonly unknown[] }

/** Checkpoints with readable notes, ascending. */
function checkpointsOf(runDir: string): Found[] {
  const folder = join(runDir, 'checkpoints');
  return (existsSync(folder) ? readdirSync(folder) : []).filter((name) => /^step-\d+$/.test(name)).sort().flatMap((name): Found[] => {
    try {
      const { step, recent, sha256 } = JSON.parse(readFileSync(join(folder, name, 'checkpoint.json'), 'utf8')) as { step: number; recent: unknown[]; sha256: Record<string, string> };
      const weights = Object.entries(sha256).filter(([file]) => !/^state[.-]/.test(file));
      const file = weights.find(([each]) => each.endsWith('.index.json'))?.[0] ?? weights[0]![0];
      return [{ recent, event: { type: 'checkpoint', step, file: `checkpoints/${name}/${file}`, sha256: jointSum(Object.fromEntries(weights)), bytes: folderBytes(join(folder, name)) } }];
    } catch {
      return [];
    }
  });
}
