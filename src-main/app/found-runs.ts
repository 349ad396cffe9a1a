/** What a run's folder tells of it, for a history that came back from an older backup and lacks its rows. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { jointSum } from '../base/atomic.ts';
import { folderBytes } from '../base/disk.ts';
import { trainerEventSchema, type TrainerEvent, type TrainerEventOf } from '../contract/events.ts';
import { runConfigSchema, type RunConfig } from '../contract/run.ts';
import type { Manifest } from '../train/manifest.ts';

export interface FoundRun {
  readonly config: RunConfig;
  readonly app: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  /** What its trainer told, as far as its checkpoints and manifest remember. */
  readonly events: readonly TrainerEvent[];
  /** Of its newest checkpoint, 0 without one. */
  readonly step: number;
  readonly seconds: number;
}

/** What checkpoints remember. */
const KEPT: ReadonlySet<TrainerEvent['type']> = new Set(['step', 'image', 'sampled', 'alarm', 'checkpoint']);

/** @returns null where the folder is no run's, or tells nothing */
export function foundRun(runDir: string): FoundRun | null {
  try {
    const manifest = JSON.parse(readFileSync(join(runDir, 'manifest.json'), 'utf8')) as Manifest;
    const config = runConfigSchema.parse(manifest.config);
    const checkpoints = checkpointsOf(runDir);
    const told: unknown[] = [...checkpoints.flatMap(({ recent }) => recent), ...manifest.pictures, ...checkpoints.map(({ event }) => event)];
    const events = told.flatMap((each): TrainerEvent[] => {
      const { data } = trainerEventSchema.safeParse(each);
      return data && KEPT.has(data.type) ? [data] : [];
    });
    const { name, version, device, why } = manifest.engine;
    const { width, height } = manifest.pictures[0] ?? config;
    const started: TrainerEventOf<'started'> = { type: 'started', model: config.model, iterations: config.iterations, startIteration: 0, trainableParameters: 0, engine: { name, version, device, why }, width: width ?? 1, height: height ?? 1 };
    return {
      config, app: manifest.app, startedAt: Date.parse(manifest.startedAt) || Date.now(), events: [...(width && height ? [started] : []), ...events], step: checkpoints.at(-1)?.event.step ?? 0,
      seconds: [...new Map(events.flatMap((each) => (each.type === 'step' ? [[each.step, each.stepMs] as const] : []))).values()].reduce((sum, ms) => sum + ms / 1000, 0),
    };
  } catch {
    return null;
  }
}

interface Remembered { event: TrainerEventOf<'checkpoint'>; recent: readonly unknown[] }

/** Checkpoints with readable notes, ascending. */
function checkpointsOf(runDir: string): Remembered[] {
  const folder = join(runDir, 'checkpoints');
  return (existsSync(folder) ? readdirSync(folder) : []).filter((name) => /^step-\d+$/.test(name)).sort().flatMap((name): Remembered[] => {
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
