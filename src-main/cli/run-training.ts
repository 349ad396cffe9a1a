/** A training run in this process: the trainer's events go into the history first, then to a listener. */
import { appVersion } from '../app/version.ts';
import type { RunRecorder } from '../app/run-recorder.ts';
import { AppError, errorLine } from '../base/errors.ts';
import { watched } from '../base/work.ts';
import type { TrainerEvent, TrainerEventOf } from '../contract/events.ts';
import type { RunConfig } from '../contract/run.ts';
import type { Engine } from '../engine/engine.ts';
import { train } from '../train/trainer.ts';

export interface TrainingJob {
  readonly recorder: RunRecorder;
  readonly runId: string;
  readonly config: RunConfig;
  readonly engine: Engine;
  readonly home: string;
  readonly resume: boolean;
  heard(event: TrainerEvent): void;
}

/**
 * Runs to the end, or to the first Ctrl-C, which ends it at the next step with a checkpoint; a second one ends the process.
 * @throws what the trainer throws, after the run is recorded as failed
 */
export async function runTraining(job: TrainingJob): Promise<TrainerEventOf<'finished'>> {
  const { recorder, runId, config, engine, home, resume } = job;
  let stopping = false;
  const begun = performance.now();
  const stop = (): void => {
    if (stopping) process.exit(130);
    stopping = true;
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  let last: TrainerEventOf<'finished'> | undefined;
  const take = (event: TrainerEvent): void => {
    recorder.record(runId, event);
    job.heard(event);
    if (event.type === 'finished') last = event;
  };
  try {
    const events = train(config, {
      engine, home, resume, runDir: recorder.runDir(runId), appVersion: appVersion(),
      now: () => performance.now(), date: () => new Date().toISOString(), memoryBytes: () => process.memoryUsage.rss(),
      work: watched(({ what, done, total }) => take({ type: 'phase', phase: what, done, total }), () => stopping, () => performance.now()),
      log: (line) => recorder.log(runId, line), stopRequested: () => stopping, breathe: () => new Promise((done) => setImmediate(done)),
    });
    for await (const event of events) take(event);
  } catch (error) {
    const hint = error instanceof AppError ? error.hint : undefined;
    const message = error instanceof AppError ? error.message : errorLine(error);
    recorder.record(runId, { type: 'finished', reason: 'failed', step: recorder.summary(runId).step, message, hint, seconds: (performance.now() - begun) / 1000 });
    throw error;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
  if (!last) throw new AppError('internal', 'The trainer ended without saying how.');
  return last;
}
