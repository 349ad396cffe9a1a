/**
 * Writes what a trainer says into the history, for the app and the command line alike. An event is in SQLite before anybody
 * is shown it; the same event twice leaves the history as once.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { basename, isAbsolute, join, normalize } from 'node:path';
import { folderBytes } from '../base/disk.ts';
import { makeFolder } from '../base/folder.ts';
import { AppError } from '../base/errors.ts';
import type { RunDetail, RunSummary } from '../contract/api.ts';
import type { TrainerEvent, TrainerEventOf } from '../contract/events.ts';
import { planLine } from '../contract/memory.ts';
import type { RunConfig } from '../contract/run.ts';
import { openHistory, type History } from '../history/database.ts';
import { Images } from '../history/images.ts';
import { ownerAlive, thisOwner } from '../history/owner.ts';
import { Records } from '../history/records.ts';
import { configOf, Runs, type RunRow } from '../history/runs.ts';
import { Steps } from '../history/steps.ts';
import { foundRun, type FoundRun } from './found-runs.ts';
import { newestCheckpoint, runFolder } from './run-folders.ts';
import { appVersion } from './version.ts';

export interface Recorded {
  /** Number of the event within its run. */
  seq: number;
  /** Set for pictures. */
  imageId: number | null;
}

export interface NewRun { name: string; config: RunConfig }

export class RunRecorder {
  readonly runs: Runs;
  readonly steps: Steps;
  readonly images: Images;
  readonly records: Records;
  readonly history: History;
  private readonly now: () => number;
  private readonly steady: () => number;
  /** When runs of this process began their session, by a clock that is never set. */
  private readonly begun = new Map<string, number>();

  /**
   * @param now milliseconds since 1970, for dates
   * @param steady milliseconds that never jump and do not count sleep where the system can tell, for durations; `now` where that is given
   */
  constructor(history: History, now: () => number = Date.now, steady: () => number = now === Date.now ? () => performance.now() : now) {
    this.history = history;
    this.now = now;
    this.steady = steady;
    this.runs = new Runs(history.db);
    this.steps = new Steps(history.db);
    this.images = new Images(history.db);
    this.records = new Records(history.db);
  }

  /** Opens the history of a data folder and records into it; runs whose process is gone are ended. `close()` when done. */
  static open(home: string): RunRecorder {
    const recorder = new RunRecorder(openHistory(home));
    recorder.adoptRuns();
    recorder.endOrphans();
    return recorder;
  }

  close(): void {
    this.history.close();
  }

  /** An id no run has. */
  newRunId(): string {
    return `${new Date(this.now()).toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-')}-${randomBytes(3).toString('hex')}`;
  }

  /** Adds a run that this process is about to work on (`running`), or one that waits its turn, and makes its folder. */
  createRun(run: NewRun, state: 'running' | 'queued' = 'running'): string {
    const at = this.now();
    const id = this.newRunId();
    const name = run.name.trim() || `${run.config.rewards.map((r) => r.name).join(' + ')} on ${basename(run.config.model)}`;
    makeFolder(this.runDir(id));
    this.runs.insert({ id, name: name.slice(0, 200), config: run.config, appVersion: appVersion(), at, state, owner: state === 'running' ? thisOwner() : null });
    this.records.useModel(run.config.model, at);
    return id;
  }

  runDir(id: string): string {
    return runFolder(this.history.home, id);
  }

  /**
   * Claims a queued or ended run for this process; it is `running` from here on.
   * @param resume false starts over: what earlier sessions left in the history is dropped at `started`.
   * @throws AppError('busy') where another process has been quicker
   */
  begin(id: string, resume: boolean): void {
    this.history.db.transaction(() => this.claim(this.runs.get(id), resume)).immediate();
    this.begun.set(id, this.steady());
  }

  private claim(row: RunRow, resume: boolean): void {
    if (row.state === 'running' && row.owner !== null && row.owner !== thisOwner() && ownerAlive(row.owner)) throw new AppError('busy', `The run "${row.name}" is already ${row.state}.`);
    this.runs.set(row.id, { state: 'running', reason: null, resume: Number(resume), owner: thisOwner(), finished_at: null, session_at: this.now(), seconds_before: resume ? row.seconds : 0 });
  }

  /** Writes one event, whole or not at all. */
  record(runId: string, event: TrainerEvent): Recorded {
    return this.history.db.transaction((): Recorded => {
      const row = this.runs.get(runId);
      const imageId = this.write(row, event);
      const seq = row.last_seq + 1;
      this.runs.set(runId, { last_seq: seq });
      return { seq, imageId };
    }).immediate();
  }

  /**
   * Runs left "running" by a process that is gone become failed runs that say where Resume goes on.
   * @param alive id of a run that is known to be at work
   */
  endOrphans(alive: string | null = null): { runId: string; event: TrainerEvent; recorded: Recorded }[] {
    return this.runs.inState('running').filter((row) => row.id !== alive && !(row.owner !== null && ownerAlive(row.owner))).map((row) => {
      const message = 'The app was closed while it ran.';
      const event: TrainerEvent = { type: 'finished', reason: 'failed', step: row.step, message, hint: this.resumeWords(row.id), seconds: row.seconds };
      // How long it has been dead is not known: the clock stopped at its last step.
      this.runs.set(row.id, { session_at: null });
      return { runId: row.id, event, recorded: this.record(row.id, event) };
    });
  }

  /** Where the history came back from a backup: runs whose folders are there and whose rows are not are put into it again. @returns their ids */
  adoptRuns(): string[] {
    const folder = join(this.history.home, 'runs');
    if (this.history.notices.length === 0 || !existsSync(folder)) return [];
    return readdirSync(folder).filter((id) => {
      const found = id.startsWith('.') || this.runs.find(id) ? null : foundRun(join(folder, id));
      if (found) this.adopt(id, found);
      return found !== null;
    });
  }

  private adopt(id: string, { config, app, startedAt, events, step, seconds }: FoundRun): void {
    this.history.db.transaction(() => {
      this.runs.insert({ id, name: id, config, appVersion: app, at: startedAt, state: 'running', owner: null });
      for (const event of events) this.record(id, event);
      this.record(id, { type: 'finished', reason: 'failed', step, message: 'The history was damaged; this run was found by its folder.', hint: this.resumeWords(id), seconds });
      this.runs.set(id, { seconds });
    }).immediate();
  }

  /** From where a failed run can go on; the files count, a killed app may not have heard of the last checkpoint. */
  resumeWords(runId: string): string {
    const step = Math.max(newestCheckpoint(this.runDir(runId)), this.records.checkpoints(runId).at(-1)?.step ?? 0);
    return step === 0 ? 'There is no checkpoint yet: Resume starts over.' : `Resume goes on from step ${step}.`;
  }

  log(runId: string, line: string): void {
    this.records.putLog(runId, this.now(), line);
  }

  summary(runId: string): RunSummary {
    return this.runs.summary(runId);
  }

  detail(runId: string): RunDetail {
    return this.history.db.transaction((): RunDetail => {
      const row = this.runs.get(runId);
      return {
        summary: this.runs.toSummary(row), config: configOf(row), lastSeq: row.last_seq,
        steps: this.steps.list(runId), images: this.images.list(runId), samples: this.records.samples(runId),
        checkpoints: this.records.checkpoints(runId), alarms: this.records.alarms(runId), log: this.records.log(runId),
        phase: row.state === 'running' ? row.phase : null, folder: this.runDir(runId),
      };
    })();
  }

  private write(row: RunRow, event: TrainerEvent): number | null {
    switch (event.type) {
      case 'started': this.started(row, event); return null;
      case 'phase': this.runs.set(row.id, { phase: event.total ? `${event.phase} (${Math.floor(event.done ?? 0)} of ${event.total})` : event.phase }); return null;
      case 'plan': this.log(row.id, planLine(event.plan)); return null;
      case 'step': this.step(row, event); return null;
      case 'image':
        if (isAbsolute(event.file) || normalize(event.file).startsWith('..')) throw new AppError('internal', `A picture lies outside its run's folder: ${event.file}.`);
        return this.images.put(row.id, event);
      case 'sampled': this.sampled(row, event); return null;
      case 'checkpoint':
        this.records.putCheckpoint(row.id, event);
        if (event.kept) for (const { step } of this.records.checkpoints(row.id)) if (!event.kept.includes(step)) this.records.deleteCheckpoint(row.id, step);
        this.runs.set(row.id, { disk_bytes: folderBytes(this.runDir(row.id)) });
        return null;
      case 'alarm': this.records.putAlarm(row.id, event); return null;
      case 'caught-up':
        for (const each of event.events) this.write(this.runs.get(row.id), each);
        return null;
      case 'finished': this.finished(row, event); return null;
    }
  }

  /** A session begins: what the run will repeat is dropped, so that a resumed run never counts a step twice. */
  private started(row: RunRow, e: TrainerEventOf<'started'>): void {
    for (const table of [this.steps, this.images, this.records]) table.deleteAfter(row.id, e.startIteration);
    const at = this.now();
    if (row.session_at === null || !this.begun.has(row.id)) this.begun.set(row.id, this.steady());
    this.runs.set(row.id, {
      state: 'running', reason: null, verdict: null, engine: e.engine.name, engine_version: e.engine.version, device: e.engine.device, width: e.width, height: e.height,
      iterations: e.iterations, step: e.startIteration, owner: thisOwner(), started_at: row.started_at ?? at, session_at: row.session_at ?? at, finished_at: null,
      ...(row.session_at === null && { seconds_before: row.seconds }),
      ...(e.startIteration === 0 && { reward_first: null, reward_last: null, held_out_last: null, sparkline: '[]', seconds_before: 0 }),
    });
    this.records.useModel(row.model, at);
    this.log(row.id, `started on ${e.engine.name} ${e.engine.version} (${e.engine.device}; ${e.engine.why}), iteration ${e.startIteration} of ${e.iterations}, ${e.trainableParameters} trainable parameters`);
  }

  private step(row: RunRow, e: TrainerEventOf<'step'>): void {
    this.steps.put(row.id, e);
    const reward = !e.skipped && Number.isFinite(e.reward) ? e.reward : row.reward_last;
    const bar = Math.max(1, Math.floor(row.iterations / 24));
    this.runs.set(row.id, {
      step: e.step, phase: null, reward_last: reward, reward_first: row.reward_first ?? reward, seconds: this.seconds(row),
      ...((e.step <= 24 || e.step % bar === 0) && { sparkline: JSON.stringify(this.steps.sparkline(row.id, e.step)) }),
    });
  }

  private sampled(row: RunRow, e: TrainerEventOf<'sampled'>): void {
    this.records.putSample(row.id, e);
    if (!e.heldOut) return;
    const score = e.measures.reward ?? configOf(row).rewards.reduce((sum, { name, weight, target = Infinity }) => sum + weight * Math.min(e.measures.rewards[name] ?? Number.NaN, target), 0);
    if (Number.isFinite(score)) this.runs.set(row.id, e.role === 'base' ? { held_out_base: score } : { held_out_last: score });
  }

  private finished(row: RunRow, e: TrainerEventOf<'finished'>): void {
    const state = e.reason === 'completed' ? 'finished' : e.reason;
    const reason = e.reason === 'failed' ? [e.message ?? 'The run failed.', e.hint].filter(Boolean).join(' ') : null;
    this.runs.set(row.id, {
      state, reason, verdict: e.verdict ? JSON.stringify(e.verdict) : null, phase: null, owner: null, resume: 0, finished_at: this.now(), seconds: this.seconds(row), step: Math.max(row.step, e.step),
      session_at: null, disk_bytes: folderBytes(this.runDir(row.id)), sparkline: JSON.stringify(this.steps.sparkline(row.id, row.step)),
    });
    this.log(row.id, `${state} at step ${e.step}${reason ?? e.verdict?.line ? `: ${reason ?? e.verdict?.line}` : ''}`);
  }

  private seconds(row: RunRow): number {
    const begun = this.begun.get(row.id);
    return row.session_at === null || begun === undefined ? row.seconds : row.seconds_before + (this.steady() - begun) / 1000;
  }
}
