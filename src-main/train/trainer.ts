/** The training loop, as a generator of events. It reads no clock and knows no process: both come in through `deps`. */
import { folderBytes, freeBytes } from '../base/disk.ts';
import { bestStep, watchedNames } from '../contract/best.ts';
import type { ToldEvent, TrainerEvent, TrainerEventOf } from '../contract/events.ts';
import { isInlinePicture, type RunConfig } from '../contract/run.ts';
import type { Adapter } from '../nn/lora.ts';
import { promptFile } from '../models/prompt-sets.ts';
import { disposeAdapter } from '../pipeline/adapter.ts';
import { findAlarms, newAlarms } from './alarms.ts';
import {
  checkpointSteps, keepCheckpoints, readNewestCheckpoint, removeCheckpointsAfter, storedCheckpoint, writeCheckpoint, type Baseline, type CheckpointShape, type TrainerState, type WrittenCheckpoint,
} from './checkpoint.ts';
import { openOptimizer } from './optimizers/index.ts';
import { slotShapes, type Optimizer } from './optimizers/optimizer.ts';
import { iterate, type IterationResult } from './iteration.ts';
import { checkInputs, hashFiles, modelFiles, picturesBefore, spreadsBefore, writeManifest, type Manifest } from './manifest.ts';
import { isCancelled } from '../base/work.ts';
import { finiteEntries, samplePictures, samplePoints } from './samples.ts';
import { measureSpreads, sessionWithSpreads } from './spread.ts';
import { diskNeedOf, openSession, planRun, startAdapter, type Session, type SessionDeps } from './session.ts';
import { refuseIfNoRoom } from './session-plan.ts';
import { TimeLeft } from './time-left.ts';
import { TrainableLora } from './trainable-lora.ts';
import { judge } from './verdict.ts';

export interface TrainDeps extends SessionDeps {
  readonly runDir: string;
  /** True goes on from the newest whole checkpoint; where there is none it begins anew. */
  readonly resume: boolean;
  /** Most of one file of a checkpoint; the rest goes into further ones. */
  readonly shardBytes?: number;
  /** Bytes that are free where a folder is or will be; asks the system if left out. */
  readonly room?: (folder: string) => number;
  readonly appVersion: string;
  /** Milliseconds, never going back. */
  now(): number;
  /** Date and time for the manifest. */
  date(): string;
  /** Bytes this process holds. */
  memoryBytes(): number;
  log(line: string): void;
  /** Asked at every step boundary. */
  stopRequested(): boolean;
  /** Lets messages come in between two steps. */
  breathe(): Promise<void>;
}

/** So many skipped steps one after the other end the run. */
const SKIPS_ALLOWED = 5;

interface Run {
  readonly session: Session;
  readonly deps: TrainDeps;
  readonly lora: TrainableLora;
  readonly state: TrainerState;
  readonly optimizer: Optimizer;
  readonly shape: CheckpointShape;
  /** LoRA values before the first iteration of the run. */
  readonly start: readonly Float32Array[];
  readonly pictures: TrainerEventOf<'image'>[];
  readonly manifest: Omit<Manifest, 'pictures' | 'best'>;
  best: Manifest['best'];
  readonly time: TimeLeft;
  readonly begunMs: number;
}

/**
 * Trains a run: loads, paints the base's pictures, then iterates in the order rate, gradient, clip, step, log, samples, checkpoint.
 * The last event is `finished`; `completed` means that the last checkpoint was read back, is finite and differs from the start. Its verdict
 * says whether the pictures changed and the reward rose.
 * @throws AppError for what keeps it from starting or writing
 */
export async function* train(config: RunConfig, deps: TrainDeps): AsyncGenerator<TrainerEvent> {
  const begunMs = deps.now();
  try {
    yield* training(config, deps, begunMs);
  } catch (error) {
    if (!isCancelled(error)) throw error;
    yield { type: 'finished', reason: 'stopped', step: deps.resume ? (checkpointSteps(deps.runDir).at(-1) ?? 0) : 0, seconds: (deps.now() - begunMs) / 1000 };
  }
}

async function* training(config: RunConfig, deps: TrainDeps, begunMs: number): AsyncGenerator<TrainerEvent> {
  yield { type: 'phase', phase: 'loading the model' };
  const plan = planRun(config, deps);
  refuseIfNoRoom(diskNeedOf(config, deps.home), folderBytes(deps.runDir), (deps.room ?? freeBytes)(deps.runDir), deps.runDir);
  yield { type: 'plan', plan };
  const session = await openSession(config, { ...deps, plan, rememberPrompts: true });
  let run: Run | undefined;
  try {
    run = await openRun(session, deps, begunMs);
    const { state } = run;
    yield {
      type: 'started', model: config.model, iterations: config.iterations, startIteration: state.step, trainableParameters: run.lora.size,
      engine: { name: deps.engine.name, version: deps.engine.version, device: deps.engine.device, why: deps.engine.why },
      width: session.width, height: session.height,
    };
    if (state.step > 0) yield catchUp(run);
    run = yield* withMeasuredSpreads(run);
    record(run);
    for await (const event of work(run)) {
      if (REPEATED.has(event.type)) state.recent.push(event as ToldEvent);
      yield event;
    }
  } finally {
    run?.lora.dispose();
    session.dispose();
  }
}

/** The run with its normalised terms divided: by the spreads of an earlier session, otherwise measured now. */
async function* withMeasuredSpreads(run: Run): AsyncGenerator<TrainerEvent, Run> {
  const { session, deps } = run;
  const normalised = session.rewards.terms.filter((each) => each.normalize).map((each) => each.key);
  if (normalised.length === 0) return run;
  const spread = (deps.resume ? spreadsBefore(deps.runDir) : null) ?? (yield* measureSpreads(session));
  for (const key of normalised) {
    deps.log(key in spread ? `the reward ${key} varies by ${spread[key]!.toPrecision(3)} over the base model's pictures and is divided by that` : `the reward ${key} does not vary over the base model's pictures: it is not divided`);
  }
  return { ...run, session: sessionWithSpreads(session, spread), manifest: { ...run.manifest, spread } };
}

/** What the checkpoint remembers, and the checkpoint itself, for a history that did not hear of them. */
function catchUp(run: Run): TrainerEvent {
  const { state, deps } = run;
  const best = bestCheckpoint(run);
  if (best !== null) run.best = { step: best, file: storedCheckpoint(deps.runDir, best).file };
  const checkpoint = checkpointEvent(run, storedCheckpoint(deps.runDir, state.step));
  const events = [...state.recent, checkpoint];
  if (!state.samplesDue) state.recent.push(checkpoint); // with its pictures it is written, and told, once more
  return { type: 'caught-up', events };
}

/** Events that the history needs whole: a checkpoint holds the newest of them. */
const REPEATED: ReadonlySet<string> = new Set(['step', 'image', 'sampled', 'alarm', 'checkpoint']);

async function* work(run: Run): AsyncGenerator<TrainerEvent> {
  if (run.state.step === 0) run.state.baseline = yield* samplePoint(run, null);
  yield* loop(run);
}

/** Writes the manifest as it is now. */
function record(run: Run): void {
  writeManifest(run.deps.runDir, { ...run.manifest, ...(run.best && { best: run.best }), pictures: run.pictures });
}

/** Step of the best checkpoint that is there, by what is held out; null before there is one. */
function bestCheckpoint({ session, deps, state }: Run): number | null {
  const there = new Set(checkpointSteps(deps.runDir));
  return bestStep(state.points.filter((each) => there.has(each.step)), state.baseline.heldOut ?? state.baseline.trained, watchedNames(session.config));
}

/** Takes up the newest checkpoint, or begins at 0. */
async function openRun(session: Session, deps: TrainDeps, begunMs: number): Promise<Run> {
  const { config } = session;
  const inputs = await inputsOf(session);
  if (deps.resume && checkpointSteps(deps.runDir).length > 0) checkInputs(deps.runDir, inputs);
  const lora = new TrainableLora(startAdapter(session));
  const start = lora.values.map((each) => each.slice());
  const optimizer = openOptimizer(config.optimizer, lora.shapes);
  const shape: CheckpointShape = { names: lora.names, shapes: lora.shapes, slots: slotShapes(optimizer, lora.shapes), codes: slotShapes(optimizer, lora.shapes, 'codes') };
  const stored = deps.resume ? readNewestCheckpoint(deps.runDir, shape, deps.log) : null;
  const state: TrainerState = {
    step: 0, optimizer: optimizer.start(lora.values), averageUpdates: 0, skippedInARow: 0, skipped: 0, alarmsOn: new Set(),
    baseline: { heldOut: null, trained: null }, points: [], recent: [], samplesDue: false, ...stored,
    values: lora.values, average: config.ema > 0 ? (stored?.average ?? lora.values.map((each) => each.slice())) : null,
  };
  if (stored) {
    stored.values.forEach((each, k) => lora.values[k]!.set(each));
    lora.upload();
  }
  removeCheckpointsAfter(deps.runDir, state.step - Number(!stored));
  const { name, path } = session.pipeline.info;
  const { engine } = deps;
  return {
    session, deps, lora, optimizer, state, shape, start, begunMs, time: new TimeLeft(config), best: undefined,
    pictures: stored ? picturesBefore(deps.runDir, state.step - Number(state.samplesDue)) : [],
    manifest: {
      version: 1, app: deps.appVersion, node: process.versions.node, startedAt: deps.date(), config, model: { name, path },
      engine: { name: engine.name, version: engine.version, device: engine.device, why: engine.why },
      prompts: session.prompts, heldOutPrompts: session.heldOutPrompts, inputs,
    },
  };
}

function inputsOf({ config, pipeline, work }: Session): Promise<Record<string, string>> {
  const lists = [config.prompts, config.heldOutPrompts].flatMap((each) => (typeof each === 'string' ? [promptFile(each)] : []));
  const terms = [...config.rewards, ...config.heldOutRewards];
  const references = terms.flatMap(({ reference = '' }) => (reference === '' || isInlinePicture(reference) ? [] : [reference]));
  const heads = terms.flatMap(({ head }) => (head === undefined ? [] : [head]));
  const files = [...lists, ...references, ...heads, ...(config.lora.initFile === undefined ? [] : [config.lora.initFile])];
  const models = terms.flatMap(({ name, model }) => (model === undefined ? [] : Object.entries(modelFiles(model)).map(([file, path]) => [`${name}: ${file}`, path] as const)));
  return hashFiles({ ...modelFiles(pipeline.info.path), ...Object.fromEntries(models), ...Object.fromEntries(files.map((file) => [file, file])) }, work);
}

async function* loop(run: Run): AsyncGenerator<TrainerEvent> {
  const { session: { config }, deps, state } = run;
  let written: WrittenCheckpoint | undefined;
  while (state.samplesDue || state.step < config.iterations) {
    await deps.breathe();
    if (deps.stopRequested()) {
      yield* stopHere(run, written);
      return;
    }
    if (!state.samplesDue) {
      const at = deps.now();
      const result = iterate(run.session, run.lora, run.optimizer, state);
      const stepMs = deps.now() - at;
      run.time.step(stepMs);
      yield stepEvent(run, result, stepMs);
      if (result.skipped) {
        yield skipAlarm(state, result);
        if (state.skippedInARow >= SKIPS_ALLOWED) {
          yield finished(run, 'failed', `${SKIPS_ALLOWED} steps in a row were not finite: ${notFinite(result)}.`, 'Lower the learning rate, or resume from an earlier checkpoint.');
          return;
        }
      }
    }
    const last = state.step === config.iterations;
    state.samplesDue ||= last || isDue(config.sampleEvery, state.step);
    if (state.samplesDue && !(yield* tunedSamples(run))) {
      yield* stopHere(run);
      return;
    }
    written = last || isDue(config.checkpointEvery, state.step) ? saveCheckpoint(run) : undefined;
    if (written) yield checkpointEvent(run, written);
  }
  written ??= saveCheckpoint(run);
  yield { type: 'phase', phase: 'checking what came of it' };
  const verdict = await judge({ ...run, runDir: deps.runDir, file: written.file }).catch(nullWhereCancelled);
  if (verdict) yield { ...finished(run, 'completed'), verdict };
  else yield* stopHere(run, written);
}

function nullWhereCancelled(error: unknown): null {
  if (isCancelled(error)) return null;
  throw error;
}

/** Ends a run that can go on, with a checkpoint unless this step has one. */
async function* stopHere(run: Run, written?: WrittenCheckpoint): AsyncGenerator<TrainerEvent> {
  if (!written) yield checkpointEvent(run, saveCheckpoint(run));
  yield finished(run, 'stopped');
}

const isDue = (every: number, step: number): boolean => every > 0 && step % every === 0;

/** Paints the tuned model's pictures (of the average, where there is one) and raises alarms. @returns false where it was ended before all were painted */
async function* tunedSamples(run: Run): AsyncGenerator<TrainerEvent, boolean> {
  const { session, state } = run;
  const adapter = exportedAdapter(run);
  try {
    const tuned = yield* samplePoint(run, adapter);
    state.samplesDue = false;
    const [base, now] = [state.baseline.heldOut ?? state.baseline.trained, tuned.heldOut ?? tuned.trained];
    if (!base || !now) return true;
    const best = bestCheckpoint(run);
    state.points.push({ step: state.step, measures: now });
    const found = findAlarms(state.step, { base, tuned: now, heldOutRewards: session.watched.terms.map((each) => each.key), best });
    yield* newAlarms(found, state.alarmsOn);
    return true;
  } catch (error) {
    if (!isCancelled(error)) throw error;
    // All are painted again then: the list and what is told once more must not have some of them twice.
    const begun = (each: { type: string; step?: number; role?: string }): boolean => each.type === 'image' && each.role === 'tuned' && each.step === state.step;
    state.recent = state.recent.filter((each) => !begun(each));
    run.pictures.splice(0, Infinity, ...run.pictures.filter((each) => !begun(each)));
    return false;
  } finally {
    disposeAdapter(adapter);
  }
}

/** One sample point; the manifest lists its pictures once all are written. */
async function* samplePoint(run: Run, adapter: Adapter | null): AsyncGenerator<TrainerEvent, Baseline> {
  const { session, deps, state } = run;
  if (samplePoints(session.config, session.prompts, session.heldOutPrompts).length === 0) return { heldOut: null, trained: null };
  const at = deps.now();
  const events = samplePictures(session, deps.runDir, state.step, adapter);
  for (;;) {
    const next = await events.next();
    if (next.done) {
      record(run);
      run.time.sampled(deps.now() - at, adapter !== null);
      return next.value;
    }
    if (next.value.type === 'image') run.pictures.push(next.value);
    yield next.value;
    await deps.breathe();
  }
}

/** What is sampled and exported: the average where there is one. The caller frees it. */
function exportedAdapter({ lora, state }: Run): Adapter {
  return lora.adapterOf(state.average ?? lora.values);
}

function saveCheckpoint(run: Run): WrittenCheckpoint {
  const at = run.deps.now();
  const adapter = exportedAdapter(run);
  try {
    return writeCheckpoint(run.deps.runDir, run.state, run.shape, adapter, run.deps.shardBytes);
  } finally {
    disposeAdapter(adapter);
    run.time.checkpoint(run.deps.now() - at);
  }
}

function checkpointEvent(run: Run, written: WrittenCheckpoint): TrainerEventOf<'checkpoint'> {
  const { step, points } = run.state;
  const score = points.findLast((each) => each.step === step)?.measures.reward;
  const bestAt = bestCheckpoint(run);
  const best = bestAt === step;
  if (best) {
    run.best = { step, file: written.file };
    record(run);
  }
  return { type: 'checkpoint', step, ...written, ...(score !== undefined && { score }), best, ...droppedOld(run, bestAt) };
}

/** Of all checkpoints the newest few and the best stay, where the config says so; what is left. */
function droppedOld({ session: { config: { keepCheckpoints: count } }, deps: { runDir } }: Run, best: number | null): { kept?: number[] } {
  if (count === 0) return {};
  return { kept: keepCheckpoints(runDir, new Set([...checkpointSteps(runDir).slice(-count), best ?? -1])) };
}

function stepEvent(run: Run, result: IterationResult, stepMs: number): TrainerEvent {
  return {
    type: 'step', step: run.state.step, lr: result.lr, skipped: result.skipped, terms: finiteEntries(result.terms), reward: finite(result.reward), kl: finite(result.kl),
    gradNorm: finite(result.gradNorm), stepMs, memoryBytes: run.deps.memoryBytes(), etaSeconds: run.time.seconds(run.state.step),
  };
}

/** Events hold finite numbers only: JSON has no others. A step with one that was not says so by `skipped`. */
const finite = (value: number): number => (Number.isFinite(value) ? value : 0);

/** What was not finite, named. */
function notFinite(result: IterationResult): string {
  const names = Object.entries(result.terms).filter(([, value]) => !Number.isFinite(value)).map(([name]) => name);
  if (names.length > 0) return `the reward ${names.join(', ')} is not a number`;
  return Number.isFinite(result.reward) ? 'the gradient is not a number' : 'the weighted reward is not a number';
}

function skipAlarm(state: TrainerState, result: IterationResult): TrainerEvent {
  return {
    type: 'alarm', step: state.step, kind: 'skipped', message: `Step ${state.step} was left out: ${notFinite(result)}.`,
    remedy: `Nothing was changed by it; ${SKIPS_ALLOWED} in a row end the run.`,
  };
}

function finished({ state, deps, begunMs }: Run, reason: TrainerEventOf<'finished'>['reason'], message?: string, hint?: string): TrainerEventOf<'finished'> {
  const skips = state.skipped > 0 && reason === 'completed' ? `${state.skipped} steps were left out as not finite.` : undefined;
  return { type: 'finished', reason, step: state.step, message: message ?? skips, hint, seconds: (deps.now() - begunMs) / 1000 };
}
