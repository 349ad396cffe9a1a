/** Models from the hub for the pages: plans, downloads in helper processes, their progress, what was begun before. */
import { AppError } from '../base/errors.ts';
import type { CatalogModel, ModelDownload, ModelPlan as ShownPlan, RequestParsed } from '../contract/api.ts';
import { catalogEntries } from '../hub/catalog.ts';
import { checkSpace, discardDownload, interruptedDownloads, modelNameOf, resumedPlan, type ModelPlan } from '../hub/model-store.ts';
import { gatedError, hubEndpoint } from '../hub/hub-address.ts';
import { folderName } from '../hub/repo-name.ts';
import { addModel, listModels } from '../models/known.ts';
import { askHelper, type AnyAnswer, type HelperPort, type LaunchHelper } from './helper.ts';
import { originOf } from './model-library.ts';
import type { TokenStore } from './token-store.ts';
import type { Watched } from './works.ts';

export interface ModelHubOptions {
  home: string;
  launchHelper: LaunchHelper;
  tokens: TokenStore;
  publish: (downloads: ModelDownload[]) => void;
}

/** At most this often progress goes out, ms. */
const EVERY_MS = 250;
/** Without progress for so long a speed is no longer true, ms. */
const STALE_MS = 3000;
/** Plans that wait for a decision; older ones are asked for again. */
const PLANS = 20;

interface Running { state: ModelDownload; port: HelperPort | null; cancelled: boolean; ended: Promise<void>; heardMs: number }

export class ModelHub {
  private readonly options: ModelHubOptions;
  private readonly plans = new Map<string, ModelPlan>();
  /** Of this session, by id: at work, failed, done. */
  private readonly downloads = new Map<string, Running>();
  private timer: NodeJS.Timeout | null = null;

  constructor(options: ModelHubOptions) {
    this.options = options;
  }

  /** @throws AppError: see planModel of hub/model-download.ts */
  async plan(request: RequestParsed<'models.plan'>): Promise<ShownPlan> {
    const { home, launchHelper, tokens } = this.options;
    const { plan } = await askHelper(launchHelper, { kind: 'plan', home, request, token: tokens.get() }, 'plan');
    const id = idOf(plan);
    this.plans.delete(id);
    this.plans.set(id, plan);
    if (this.plans.size > PLANS) this.plans.delete(this.plans.keys().next().value!);
    const { repo, revision, commit, file, variant, bytes, bytesThere, freeBytes, licence, gated, notes, present } = plan;
    return {
      id, repo, revision, commit, file, variant, bytes, bytesThere, freeBytes, licence, gated, notes: [...notes], variants: [...plan.variants], present, tooLarge: spaceProblem(plan), page: `${hubEndpoint()}/${repo}`,
      files: plan.files.map(({ path, size }) => ({ path, size })),
    };
  }

  /** Starts a download, or goes on with one. @throws AppError('busy' | 'not-found' | 'disk' | 'denied') */
  async start(id: string, commit: string): Promise<void> {
    if (this.downloads.get(id)?.state.state === 'running') throw new AppError('busy', 'This model is being downloaded already.');
    const planned = this.plans.get(id);
    const plan = planned?.commit === commit ? planned : await resumedPlan(this.options.home, id);
    if (plan.commit !== commit) throw new AppError('not-found', `What was begun of ${plan.repo} is another commit than ${commit.slice(0, 12)}.`, { hint: 'Look the model up again.' });
    if (plan.gated && this.options.tokens.get() === undefined) throw gatedError(hubEndpoint(), plan.repo);
    checkSpace(plan);
    this.run(id, plan);
  }

  private run(id: string, plan: ModelPlan): void {
    const { home, launchHelper, tokens } = this.options;
    const { repo, revision, commit, file, variant, licence } = plan;
    const state: ModelDownload = {
      id, repo, revision, commit, file, variant, licence, state: 'running', phase: 'download', current: '', bytes: plan.bytesThere, total: plan.bytes,
      bytesPerSecond: 0, etaSeconds: null, notice: '', error: null,
    };
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const running: Running = { state, port: launchHelper(), cancelled: false, ended, heardMs: performance.now() };
    this.downloads.set(id, running);
    const port = running.port!;
    const ticks = setInterval(() => this.quieten(running), STALE_MS);
    ticks.unref();
    let path: string | null = null;
    port.onMessage((message) => {
      switch (message.type) {
        case 'model-progress': {
          running.heardMs = performance.now();
          const { phase, file: current, bytes, total, bytesPerSecond, etaSeconds } = message.progress;
          Object.assign(state, { phase, current, bytesPerSecond, etaSeconds: etaSeconds ?? null, ...(phase === 'download' ? { bytes, total, notice: '' } : {}) });
          this.changed();
          break;
        }
        case 'notice':
          state.notice = message.line;
          this.changed();
          break;
        case 'downloaded': path = message.path; break;
        case 'error': state.error = { message: message.message, hint: message.hint ?? '' }; break;
        default: break;
      }
    });
    port.onExit((words) => {
      clearInterval(ticks);
      running.port = null;
      if (path !== null) {
        try {
          addModel(home, path, modelNameOf(plan));
          Object.assign(state, { state: 'done', bytes: state.total });
        } catch (error) {
          Object.assign(state, { state: 'failed', error: { message: (error as Error).message, hint: error instanceof AppError ? (error.hint ?? '') : '' } });
        }
      } else if (running.cancelled) this.downloads.delete(id); // from now on it is one that was begun before
      else Object.assign(state, { state: 'failed', error: state.error ?? { message: `The download ended: ${words}.`, hint: 'Start it again to go on where it stopped.' } });
      resolve();
      this.changed();
    });
    port.send({ kind: 'download', home, plan, token: tokens.get() });
    this.changed();
  }

  /** A connection that has fallen silent: no speed any more, and a word about it. */
  private quieten({ state, heardMs }: Running): void {
    if (state.phase !== 'download' || performance.now() - heardMs < STALE_MS) return;
    Object.assign(state, { bytesPerSecond: 0, etaSeconds: null, notice: state.notice || 'Nothing arrives at the moment; after 30 s it is tried again.' });
    this.changed();
  }

  /** Stops it; what is there stays unless it is discarded. */
  async cancel(id: string, discard: boolean): Promise<void> {
    const running = this.downloads.get(id);
    if (running?.port) {
      running.cancelled = true;
      running.port.kill();
      await running.ended;
    }
    if (discard) {
      this.downloads.delete(id);
      await discardDownload(this.options.home, id);
    }
    this.changed();
  }

  /** Those of this session, and those that were begun before. */
  async list(): Promise<ModelDownload[]> {
    const begun = await interruptedDownloads(this.options.home);
    const own = [...this.downloads.values()].map(({ state }) => {
      const onDisk = state.state === 'failed' || (state.state === 'running' && state.notice !== '') ? begun.find(({ id }) => id === state.id) : undefined;
      return { ...state, ...(onDisk ? { bytes: onDisk.bytesThere, phase: 'download' } : {}) };
    });
    const earlier = begun.filter(({ id }) => !this.downloads.has(id)).map(({ id, record, bytes, bytesThere }): ModelDownload => ({
      id, repo: record.repo, revision: record.revision, commit: record.commit, file: record.file, variant: record.variant, licence: record.licence, state: 'paused',
      phase: 'download', current: '', bytes: bytesThere, total: bytes, bytesPerSecond: 0, etaSeconds: null, notice: '', error: null,
    }));
    return [...own, ...earlier];
  }

  /** The curated list, with the names of those that are here. */
  async catalog(): Promise<CatalogModel[]> {
    const here = await Promise.all(listModels(this.options.home).map(async (model) => ({ name: model.name, origin: await originOf(model.path) })));
    return catalogEntries().filter(({ kind }) => kind === 'base').map(({ id, title, repo, revision, file, architecture, approximateBytes, licence, what, note, settings }) => ({
      id, title, repo, revision, file: file ?? null, architecture, approximateBytes, licence, what, note: note ?? null, settings: settings ?? null,
      present: here.find(({ origin }) => origin?.repo === repo && (origin.file ?? undefined) === file)?.name ?? null,
    }));
  }

  /** Reads every header, and of a download every byte. */
  async verify(path: string, { tell, signal }: Pick<Watched, 'tell' | 'signal'>): Promise<{ ok: boolean; problems: string[] }> {
    const onMessage = (message: AnyAnswer): void => {
      if (message.type === 'work') tell(message.progress);
    };
    const { problems } = await askHelper(this.options.launchHelper, { kind: 'verify', path }, 'verified', { onMessage, signal });
    return { ok: problems.length === 0, problems };
  }

  close(): void {
    if (this.timer) clearTimeout(this.timer);
    for (const { port } of this.downloads.values()) port?.kill();
  }

  private changed(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      void this.list().then((downloads) => this.options.publish(downloads)).catch(() => {});
    }, EVERY_MS);
    this.timer.unref();
  }
}

function idOf(plan: ModelPlan): string {
  return folderName(plan.repo, plan.file ?? undefined);
}

function spaceProblem(plan: ModelPlan): string | null {
  try {
    checkSpace(plan);
    return null;
  } catch (error) {
    return error instanceof AppError ? error.line : String(error);
  }
}
