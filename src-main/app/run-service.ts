/**
 * Runs at work: a queue with one training at a time, each in a process of its own. What a trainer says is persisted, then
 * published; whatever ends a trainer, the run ends in a state with a reason.
 */
import { rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AppError, errorLine } from '../base/errors.ts';
import { sameLora, type EventName, type EventPayload, type ExportFormat, type ImageRow, type PreviewImage, type RequestParsed, type RunSummary, type ScoredPicture } from '../contract/api.ts';
import type { TrainerEvent } from '../contract/events.ts';
import type { RunConfig } from '../contract/run.ts';
import type { Exported, TrainerJob } from '../worker/protocol.ts';
import { unlessDamaged } from '../history/database.ts';
import { thisOwner } from '../history/owner.ts';
import { Works } from './works.ts';
import { configOf, type RunRow } from '../history/runs.ts';
import { Lane, type SmallJob } from './lane.ts';
import { assertResumable, fileInside, newestCheckpoint } from './run-folders.ts';
import type { Recorded, RunRecorder } from './run-recorder.ts';
import { exportPlace } from './run-library.ts';
import { smallJob, type SmallJobResult } from './small-jobs.ts';
import { TrainSession } from './train-session.ts';
import type { LaunchTrainer } from './trainer-port.ts';

export type Publish = <N extends EventName>(name: N, payload: EventPayload<N>) => void;

export interface RunServiceOptions {
  recorder: RunRecorder;
  launch: LaunchTrainer;
  publish: Publish;
  /** The list that small jobs are on while they last. */
  works?: Works;
  /** Called when the queue moves. */
  onQueue?: () => void;
  /** How long a stopped trainer may take to reach its next step, ms, at least. */
  stopGraceMs?: number;
  retryMs?: number;
  /** See train-session.ts. */
  quietMs?: { first: number; least: number };
  now?: () => number;
}

/** The first step of a large model on a processor can take an hour; loading comes before it. */
const QUIET_MS = { first: 3 * 3600_000, least: 20 * 60_000 };

const SUMMARY_EVERY_MS = 1000;
/** The setting that holds the queue. */
const HELD = 'queueHeld';
const SUPERSEDED = 'A newer request took the place of this one.';

export class RunService {
  readonly recorder: RunRecorder;
  readonly works: Works;
  private readonly options: RunServiceOptions;
  private readonly lane: Lane;
  private readonly previews = new Map<string, PreviewImage[]>();
  private readonly summaryAt = new Map<string, number>();
  private readonly troubles = new Map<string, string>();
  private readonly foreign = new Set<string>();
  private session: TrainSession | null = null;
  private dataVersion = -1;

  constructor(options: RunServiceOptions) {
    this.options = options;
    this.recorder = options.recorder;
    this.works = options.works ?? new Works(() => {});
    this.lane = new Lane(() => this.nextRun(), () => options.onQueue?.());
  }

  /** What the status bar shows. */
  queue(): { running: string | null; waiting: number; held: boolean } {
    const waiting = unlessDamaged(() => this.recorder.runs.queue().length, 0);
    return { running: this.session?.runId ?? null, waiting: waiting + this.lane.waitingSmall, held: unlessDamaged(() => this.held, true) };
  }

  /** Puts a waiting run so many places further back in the queue, forward where negative. @returns its place, from 1 */
  move(id: string, by: number): { place: number; of: number } {
    const { runs } = this.recorder;
    const row = runs.get(id);
    if (row.state !== 'queued') throw new AppError('run', `The run "${row.name}" does not wait (it is ${row.state}).`);
    const queue = runs.queue();
    const others = queue.filter((each) => each.id !== id);
    const place = Math.min(Math.max(0, queue.findIndex((each) => each.id === id) + by), others.length);
    const order = [...others.slice(0, place), row, ...others.slice(place)];
    let before = queue.at(-1)!.queued_at + 1;
    for (const each of order.toReversed()) { // the times stay in the past: what is queued next comes last
      before = Math.min(each.queued_at, before - 1);
      if (before !== each.queued_at) runs.set(each.id, { queued_at: before });
    }
    this.publishSummary(id);
    return { place: place + 1, of: order.length };
  }

  /** Keeps waiting runs from starting, over restarts too; the run at work goes on. */
  hold(held: boolean): void {
    this.recorder.records.setSetting(HELD, held);
    this.options.onQueue?.();
    if (!held) this.lane.pump();
  }

  private get held(): boolean {
    return this.recorder.records.setting(HELD) === true;
  }

  /** Queues a run; it starts at once when nothing else is at work. */
  start(name: string, config: RunConfig): RunSummary {
    const id = this.recorder.createRun({ name, config }, 'queued');
    this.wake();
    return this.publishSummary(id);
  }

  /** Ends a running run at its next step, takes a queued one off the queue. */
  stop(id: string): void {
    const row = this.recorder.runs.get(id);
    if (row.state === 'queued') {
      this.recorder.runs.set(id, { state: 'stopped', finished_at: Date.now(), owner: null });
      this.publishSummary(id);
      return this.options.onQueue?.();
    }
    if (row.state === 'running') {
      if (this.session?.runId !== id) throw this.foreignError(row);
      this.recorder.log(id, 'stop asked for');
      return this.session.stop(this.graceMs(id));
    }
    throw new AppError('run', `The run "${row.name}" is not running (it is ${row.state}).`);
  }

  /** Queues an ended run again, from its newest checkpoint, optionally for more iterations. */
  resume(id: string, iterations?: number): RunSummary {
    const row = this.recorder.runs.get(id);
    if (row.deleted_at !== null) throw new AppError('run', `The run "${row.name}" is in the trash.`, { hint: 'Restore it first.' });
    if (row.state === 'running' || row.state === 'queued') throw new AppError('busy', `The run "${row.name}" is already ${row.state}.`);
    assertResumable(this.recorder.runDir(id), row.name);
    const config = configOf(row);
    const last = newestCheckpoint(this.recorder.runDir(id));
    const target = iterations ?? config.iterations;
    if (target < last || (target === last && row.state !== 'failed' && (row.state === 'finished' || target !== config.iterations))) { // stopped at its last pictures it has those to do
      throw new AppError('config', `The run "${row.name}" has done ${last} iterations; going on to ${target} leaves nothing to do.`, { hint: 'Ask for more iterations.' });
    }
    this.recorder.runs.setConfig(id, { ...config, iterations: target });
    this.recorder.runs.set(id, { state: 'queued', reason: null, resume: Number(last > 0), queued_at: Date.now(), finished_at: null });
    this.wake();
    return this.publishSummary(id);
  }

  /** Base pictures of the first prompts; a newer call takes the place of an older one, equal calls are answered at once. */
  async preview(config: RunConfig, count: number): Promise<PreviewImage[]> {
    const { model, prompts, sampleSeeds, negativePrompt, longPrompts, promptSyntax, clipSkip, originalSize, cropTopLeft, targetSize, width, height, scheduler, eta, steps, guidance, seed, rewards, heldOutRewards, engine } = config;
    const key = JSON.stringify([
      count, model, prompts, sampleSeeds, negativePrompt, longPrompts, promptSyntax, clipSkip, originalSize, cropTopLeft, targetSize,
      width, height, scheduler, eta, steps, guidance, seed, rewards, heldOutRewards, engine,
    ]);
    const known = this.previews.get(key);
    if (known) return known;
    this.lane.cancelPreviews(SUPERSEDED);
    const { previews } = await this.small('', { kind: 'preview', config, count, home: this.recorder.history.home });
    this.previews.set(key, previews);
    if (this.previews.size > 12) this.previews.delete(this.previews.keys().next().value!);
    return previews;
  }

  /** Values of rewards for the user's pictures, in a process of its own; it waits while a run is at work. */
  async score(engine: RunConfig['engine'], { rewards, prompt, pictures }: RequestParsed<'rewards.score'>): Promise<ScoredPicture[]> {
    return (await this.small('', { kind: 'score', config: { engine }, home: this.recorder.history.home, rewards, prompt, pictures })).scored;
  }

  /** Paints one prompt and seed with base and tuned weights of a step, the LoRA at `strength` and from sampling step `loraFrom` on; what the history already has is not painted again. */
  async render(id: string, { prompt, seed, step, strength = 1, loraFrom = 0 }: { prompt: string; seed: number; step?: number | undefined; strength?: number; loraFrom?: number }): Promise<ImageRow[]> {
    const row = this.recorder.runs.get(id);
    const checkpoints = this.recorder.records.checkpoints(id);
    const checkpoint = step === undefined ? checkpoints.at(-1) : checkpoints.find((each) => each.step === step);
    if (!checkpoint && step !== 0) {
      const steps = checkpoints.map((each) => each.step).join(', ');
      throw new AppError('not-found', `The run "${row.name}" has no checkpoint${step === undefined ? '' : ` at step ${step}`}.`, {
        hint: steps ? `It has checkpoints at ${steps}.` : 'Its first one is written while it trains.',
      });
    }
    const at = checkpoint?.step ?? 0;
    const wanted = (): ImageRow[] => this.recorder.images.list(id).filter((each) => each.prompt === prompt && each.seed === seed && (each.role === 'base' || (each.step === at && sameLora(each, { strength, loraFrom }))));
    const there = wanted();
    if (there.some((each) => each.role === 'base') && (at === 0 || there.some((each) => each.role === 'tuned'))) return there;
    const runDir = this.recorder.runDir(id);
    const { images } = await this.small(id, {
      kind: 'render', config: configOf(row), runDir, home: this.recorder.history.home, prompt, seed, step: at, strength, loraFrom, has: [...new Set(there.map((each) => each.role))],
      checkpoint: checkpoint ? fileInside(runDir, checkpoint.file) : null,
    });
    for (const image of images) this.published(id, image, this.recorder.record(id, image));
    this.publishSummary(id);
    return wanted();
  }

  /** Writes a checkpoint for other programs, in a process of its own; it waits while a run is at work. */
  async export(id: string, { format, single, step }: { format: ExportFormat; single: boolean; step: number | undefined }): Promise<Exported> {
    const place = exportPlace(this.recorder, id, format, single, step);
    const job = { kind: 'export' as const, config: configOf(this.recorder.runs.get(id)), home: this.recorder.history.home, run: id, format, ...place };
    const { exported } = await this.small(id, job).catch((error: unknown) => {
      rmSync(join(dirname(place.out), `.${basename(place.out)}.part`), { recursive: true, force: true }); // of one that had to be killed
      throw error;
    });
    if (!exported) throw new AppError('internal', 'The export ended without saying what it wrote.');
    return exported;
  }

  /** At start: runs whose process is gone become failed runs that can be resumed; the queue goes on. */
  recover(): void {
    this.sweep();
    this.lane.pump();
  }

  /** Looks after runs of other processes (command line): shows their progress, notices when one was killed. */
  watchForeign(): void {
    unlessDamaged(() => this.lookAtForeign(), undefined);
  }

  private lookAtForeign(): void {
    const version = Number(this.recorder.history.db.pragma('data_version', { simple: true }));
    if (version !== this.dataVersion) {
      this.dataVersion = version;
      for (const id of this.foreign) if (this.recorder.runs.find(id)) this.publishSummary(id);
      this.foreign.clear();
      for (const row of this.recorder.runs.inState('running')) {
        if (row.owner === thisOwner()) continue;
        if (!this.foreign.has(row.id)) this.publishSummary(row.id);
        this.foreign.add(row.id);
      }
    }
    this.sweep();
    this.lane.pump();
  }

  /** Stops what is at work, with a checkpoint, and leaves the queue for the next start. */
  async close(graceMs = 20_000): Promise<void> {
    this.lane.close('DRTune Studio is closing.');
    const session = this.session;
    if (!session) return;
    session.stop(graceMs);
    const late = setTimeout(() => session.abandon(), graceMs + 5000);
    await session.done;
    clearTimeout(late);
  }

  /** @throws AppError('busy') for a run that is at work or waits */
  assertIdle(id: string): void {
    const row = this.recorder.runs.get(id);
    if (row.state === 'running' || row.state === 'queued') throw new AppError('busy', `The run "${row.name}" is ${row.state}.`, { hint: 'Stop it first.' });
  }

  publishSummary(id: string): RunSummary {
    const summary = this.recorder.summary(id);
    const trouble = this.troubles.get(id);
    const shown = trouble ? { ...summary, reason: trouble } : summary;
    this.summaryAt.set(id, Date.now());
    this.options.publish('run.summary', shown);
    return shown;
  }

  /** Does a small job in a process of its own; it waits while a run is at work. */
  private small(about: string, job: TrainerJob & { kind: SmallJob['kind'] }): Promise<SmallJobResult> {
    return this.works.watch(job.kind, about, ({ tell, signal }) => {
      tell({ what: this.session ? 'waiting for the run at work' : 'starting', done: 0, total: 0 });
      const { job: small, result } = smallJob(this.options.launch, job, tell);
      signal.addEventListener('abort', () => this.lane.drop(small));
      this.lane.add(small);
      return result;
    });
  }

  private wake(): void {
    this.lane.cancelPreviews('A run has started; base pictures can be made again when it has ended.');
    this.lane.pump();
    this.options.onQueue?.();
  }

  private nextRun(): (() => Promise<void>) | null {
    const row = unlessDamaged(() => (this.held || this.deviceTaken() ? undefined : this.recorder.runs.queue()[0]), undefined);
    return row ? () => this.train(row) : null;
  }

  /** A command line trains on this machine's device: the queue waits for its end. */
  private deviceTaken(): boolean {
    return this.recorder.runs.inState('running').some(({ owner }) => owner !== thisOwner());
  }

  private async train(row: RunRow): Promise<void> {
    const resume = row.resume !== 0;
    try {
      this.recorder.begin(row.id, resume);
      await this.runSession(row, resume);
    } catch (error) {
      this.session = null;
      if (error instanceof AppError && error.code === 'busy') return; // another process has begun it
      this.fail(row.id, errorLine(error));
    }
  }

  private async runSession(row: RunRow, resume: boolean): Promise<void> {
    const job = { kind: 'train' as const, config: configOf(row), runDir: this.recorder.runDir(row.id), home: this.recorder.history.home, resume };
    const session = new TrainSession({
      recorder: this.recorder,
      retryMs: this.options.retryMs ?? 2000,
      quietMs: this.options.quietMs ?? QUIET_MS, now: this.options.now,
      published: (...event) => this.published(...event),
      trouble: (id, line) => {
        if (line) this.troubles.set(id, line);
        else this.troubles.delete(id);
        this.publishSummary(id);
      },
    }, row.id, this.options.launch(), job);
    this.session = session;
    this.publishSummary(row.id);
    await session.done;
    this.session = null;
    this.publishSummary(row.id);
  }

  /** Ends a run that could not even be started. */
  private fail(id: string, message: string): void {
    const { step, seconds } = this.recorder.runs.get(id);
    const event = { type: 'finished' as const, reason: 'failed' as const, step, message, seconds };
    this.published(id, event, this.recorder.record(id, event));
  }

  private published(runId: string, event: TrainerEvent, recorded: Recorded): void {
    this.options.publish('run.event', { runId, seq: recorded.seq, event, imageId: recorded.imageId });
    const due = Date.now() - (this.summaryAt.get(runId) ?? 0) >= SUMMARY_EVERY_MS;
    if (due || event.type === 'started' || event.type === 'finished' || event.type === 'checkpoint') this.publishSummary(runId);
  }

  /** A step can be long: at least three times the usual one. */
  private graceMs(id: string): number {
    return Math.max(this.options.stopGraceMs ?? 60_000, 3 * (this.recorder.steps.medianMs(id) ?? 0));
  }

  private sweep(): void {
    for (const { runId, event, recorded } of this.recorder.endOrphans(this.session?.runId ?? null)) this.published(runId, event, recorded);
  }

  private foreignError(row: RunRow): AppError {
    return new AppError('busy', `The run "${row.name}" belongs to a command line (process ${row.owner?.split(':')[0]}).`, { hint: 'Stop it there with Ctrl-C.' });
  }
}
