/** Every request of the contract and who answers it. */
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import type { LogBook } from '../base/log-book.ts';
import { MAX_SCORED_BYTES, type Handlers } from '../contract/api.ts';
import type { GivenFile } from '../contract/desktop.ts';
import { nearestKey, type RewardTerm, type RunConfig } from '../contract/run.ts';
import type { Catalog } from './catalog.ts';
import { cleanUp, planCleanUp } from './clean-up.ts';
import { exportComparison } from './compare-export.ts';
import { forecast } from './forecast.ts';
import { promptSets } from './prompt-sets.ts';
import type { ModelHub } from './model-hub.ts';
import type { OpenedPaths } from './opened-paths.ts';
import { withOwnExamples } from './own-examples.ts';
import { logTail } from './logs.ts';
import { latestRelease } from './releases.ts';
import { diffRuns, purgeRun } from './run-library.ts';
import type { RunService } from './run-service.ts';
import { importRun, shareRun } from './share-run.ts';
import { availableBytes } from '../base/memory.ts';
import { freeBytes, type System } from './system.ts';
import type { ServerLinks } from './server-links.ts';
import type { TokenStore } from './token-store.ts';
import type { Uploads } from './uploads.ts';
import type { Works } from './works.ts';
import { openRound } from './vote-rounds.ts';
import { runFacets, searchRuns } from '../history/run-search.ts';
import { Votes } from '../history/votes.ts';

/** The system's dialog for a file or folder; null where the user closed it. */
export type PickPath = (what: 'file' | 'folder' | 'engine') => Promise<string | null>;

export interface Rooms { service: RunService; catalog: Catalog; system: System; hub: ModelHub; tokens: TokenStore; works: Works; uploads: Uploads; servers: ServerLinks; paths: OpenedPaths; log: LogBook; pickPath: PickPath; takeGiven: () => GivenFile[] }

export function makeHandlers({ service, catalog, system, hub, tokens, works, uploads, servers, paths, log, pickPath, takeGiven }: Rooms): Handlers {
  const { recorder } = service;
  const { home } = recorder.history;
  const votes = new Votes(recorder.history.db);
  /** The engine chosen in Settings counts where the run leaves it open. */
  const withEngine = (config: RunConfig): RunConfig => (config.engine === 'auto' ? { ...config, engine: catalog.settings().engine } : config);
  return {
    'runs.list': async (input) => recorder.runs.list(input),
    'runs.get': async ({ id }) => recorder.detail(id),
    'runs.start': async ({ name, config }) => {
      paths.checkConfig(config);
      await catalog.check(config);
      await checkRewards([...config.rewards, ...config.heldOutRewards], system);
      return service.start(name, withEngine(config));
    },
    'runs.stop': async ({ id }) => {
      service.stop(id);
      return {};
    },
    'runs.resume': async ({ id, iterations }) => service.resume(id, iterations),
    'runs.update': async ({ id, ...change }) => {
      recorder.runs.update(id, change);
      return service.publishSummary(id);
    },
    'runs.delete': async ({ id }) => {
      service.assertIdle(id);
      recorder.runs.set(id, { deleted_at: Date.now() });
      service.publishSummary(id);
      return {};
    },
    'runs.restore': async ({ id }) => {
      recorder.runs.get(id);
      recorder.runs.set(id, { deleted_at: null });
      service.publishSummary(id);
      return {};
    },
    'runs.purge': async ({ id }) => {
      service.assertIdle(id);
      purgeRun(recorder, id);
      return {};
    },
    'runs.diff': async ({ a, b }) => diffRuns(recorder, a, b),
    'runs.render': async ({ id, ...what }) => service.render(id, what),
    'runs.export': async ({ id, step, format, single }) => service.export(id, { format, single, step }),
    'runs.search': async ({ offset, limit, ...query }) => searchRuns(recorder.history.db, query, { offset, limit }),
    'runs.facets': async () => runFacets(recorder.history.db),
    'runs.planCleanUp': async ({ ids }) => planCleanUp(recorder, ids),
    'runs.cleanUp': async ({ ids }) => {
      const freed = cleanUp(recorder, ids);
      for (const run of freed.runs) service.publishSummary(run.id);
      return freed;
    },
    'compare.export': async (input) => works.watch('compare', '', ({ work }) => exportComparison(recorder, input, work)),
    'votes.open': async (input) => openRound(recorder, input),
    'votes.list': async (of) => votes.list(of),
    'votes.cast': async ({ round, place, choice }) => votes.cast(round, place, choice, Date.now()),
    'votes.delete': async ({ round }) => {
      votes.delete(round);
      return {};
    },
    'runs.share': async ({ id, step }) => {
      const shared = await works.watch('share', id, ({ work }) => shareRun(recorder, id, join(home, 'exports', `${id}.drtune`), { step, work }));
      return { ...shared, checked: 'settings, rows of the history, sample pictures and the LoRA, each with its sha256' };
    },
    'runs.import': async (from) => {
      const take = (path: string, name?: string): Promise<string> => works.watch('import', '', ({ work }) => importRun(recorder, path, { work, ...(name !== undefined && { name }) }));
      return service.publishSummary(await ('path' in from ? take(paths.check(from.path)) : uploads.use(from.upload, (path) => take(path, from.name))));
    },
    'work.list': async () => works.list(),
    'work.cancel': async ({ id }) => {
      works.cancel(id);
      return {};
    },
    'files.put': async ({ id, at, data }) => {
      uploads.put(id, at, Buffer.from(data, 'base64'));
      return {};
    },
    'files.drop': async ({ id }) => {
      uploads.drop(id);
      return {};
    },
    'queue.move': async ({ id, by }) => service.move(id, by),
    'queue.hold': async ({ held }) => {
      service.hold(held);
      return {};
    },
    'models.list': async () => catalog.models(),
    'models.add': async ({ path }) => catalog.add(paths.check(path)),
    'models.verify': async ({ name }) => {
      paths.checkModel(name);
      return works.watch('verify', name, (watched) => hub.verify(catalog.pathOf(name), watched));
    },
    'models.remove': async ({ name, deleteFiles }) => {
      await catalog.remove(name, deleteFiles);
      return {};
    },
    'models.pick': async ({ what }) => {
      const path = await pickPath(what);
      if (path !== null) paths.open(path);
      return { path };
    },
    'models.catalog': async () => hub.catalog(),
    'models.plan': async (request) => hub.plan(request),
    'models.download': async ({ id, commit }) => {
      await hub.start(id, commit);
      return {};
    },
    'models.downloads': async () => hub.list(),
    'models.cancelDownload': async ({ id, discard }) => {
      await hub.cancel(id, discard);
      return {};
    },
    'hub.tokenState': async () => tokens.state(),
    'hub.setToken': async ({ token }) => {
      tokens.set(token);
      return tokens.state();
    },
    'rewards.list': async () => withOwnExamples(home, await system.rewards()),
    'rewards.score': async (input) => {
      const bytes = input.pictures.reduce((sum, each) => sum + Math.floor((each.data.length * 3) / 4) - 2, 0);
      if (bytes > MAX_SCORED_BYTES) throw new AppError('config', `The pictures have ${(bytes / 1e6).toFixed(1)} MB, at most ${MAX_SCORED_BYTES / 1e6} MB are scored at once.`, { hint: 'Score fewer of them at a time.' });
      paths.checkRewards(input.rewards);
      await checkRewards(input.rewards, system);
      return service.score(catalog.settings().engine, input);
    },
    'presets.list': async () => catalog.presets(),
    'prompts.sets': async () => promptSets(),
    'prompts.tokens': async ({ model, prompts, ...reading }) => {
      paths.checkModel(model);
      return catalog.tokens(model, prompts, reading);
    },
    'forecast': async ({ config }) => {
      paths.checkConfig(config);
      const chosen = withEngine(config);
      await system.facts().catch(() => {});
      return forecast(chosen, { recorder, model: await catalog.factsOf(chosen.model), engine: system.engineFor(chosen.engine), availableBytes: availableBytes(), freeBytes: await freeBytes(home) });
    },
    'preview': async ({ config, count }) => {
      paths.checkConfig(config);
      await catalog.check(config);
      await checkRewards([...config.rewards, ...config.heldOutRewards], system);
      return service.preview(withEngine(config), count);
    },
    'system.get': async () => system.get(),
    'system.hardware': async () => system.hardware(),
    'system.installEngine': async ({ file }) => {
      system.install(file === undefined ? undefined : paths.check(file));
      return {};
    },
    'system.cancelInstall': async () => {
      system.cancelInstall();
      return {};
    },
    'logs.tail': async ({ limit }) => logTail(log, limit),
    'files.given': async () => takeGiven(),
    'releases.latest': async () => latestRelease(catalog.settings().updates),
    'settings.get': async () => catalog.settings(),
    'settings.set': async (change) => {
      const settings = catalog.setSettings(change);
      system.changed();
      return settings;
    },
    'servers.list': async () => servers.all(),
    'servers.add': async ({ name, address, token }) => servers.add(name, address, token),
    'servers.update': async ({ id, ...change }) => servers.update(id, change),
    'servers.remove': async ({ id }) => {
      servers.remove(id);
      return {};
    },
    'servers.connect': async ({ id }) => {
      servers.connect(id);
      return {};
    },
  };
}

/** Refuses rewards that are unknown or not usable; where the list itself cannot be had, the trainer decides. */
async function checkRewards(terms: readonly RewardTerm[], system: System): Promise<void> {
  const known = await system.rewards().catch(() => null);
  if (!known) return;
  for (const term of terms) {
    const { name, model } = term;
    const reward = known.find((each) => each.name === name);
    if (reward?.usable && reward.needsModel && !model) {
      throw new AppError('config', `The reward "${name}" needs a model of its own.`, { hint: `Download ${reward.needs}, and give its path as the reward's model.` });
    }
    const missing = reward?.usable && reward.takes.find((setting) => term[setting as keyof RewardTerm] === undefined);
    if (missing) throw new AppError('config', `The reward "${name}" needs "${missing}".`, { hint: `It needs ${reward.needs}.` });
    if (reward?.usable) continue;
    const usable = known.filter((each) => each.usable).map((each) => each.name);
    const near = nearestKey(name, usable);
    throw new AppError('config', reward ? `The reward "${name}" cannot be used: ${reward.problem ?? 'it is not usable here'}` : `There is no reward "${name}".`, {
      hint: near ? `Did you mean "${near}"?` : `There are: ${usable.join(', ')}.`,
    });
  }
}
