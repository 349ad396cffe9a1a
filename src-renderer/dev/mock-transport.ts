/** A main process that is not there: answers every request from invented data and "trains" on a timer. Development and unit tests only. */
import { REQUESTS, type Reply, type RequestName, type RunDetail, type Transport } from '#contract/api.ts';
import type { TrainerEvent } from '#contract/events.ts';
import { runConfigSchema, type RunConfig } from '#contract/run.ts';
import { mockComparing } from './mock-compare.ts';
import * as data from './mock-data.ts';

const fail = (code: string, message: string, hint?: string): never => {
  throw Object.assign(new Error(message), { code, hint });
};

/** `state`: "full" history, "empty" first start, "failing" every list fails. */
export function mockTransport(state: 'full' | 'empty' | 'failing' = 'full', stepMs = 900): Transport {
  const listeners = new Set<(name: string, payload: unknown) => void>();
  const emit = (name: string, payload: unknown) => listeners.forEach((listener) => listener(name, payload));
  const runs = new Map<string, RunDetail>();
  if (state === 'full') {
    for (const run of [
      data.detail('r0', 'Symmetry, gentle', 'running', { step: 24, ago: 60_000 }),
      data.detail('r1', 'Symmetry with CLIPScore', 'finished', { ago: 4e6 }),
      data.detail('r2', 'Symmetry alone', 'stopped', { step: 40, ago: 9e7, config: data.config({ rewards: [{ name: 'symmetry', weight: 1 }], optimizer: { ...data.config().optimizer, lr: 1e-3 } }) }),
      data.detail('r3', 'Stronger colours', 'failed', { step: 12, ago: 2e8, reason: 'Out of memory in the VAE decoder (asked for 1.2 GB, 0.9 GB free). Lower the batch to 2, or set memory to low.' }),
    ]) runs.set(run.summary.id, run);
  }
  let settings = { theme: 'system' as const, language: 'system' as const, engine: 'auto' as const, notifications: true, updates: false } as Record<string, unknown>;
  let models = data.models;
  let timer: ReturnType<typeof setInterval> | undefined;

  const get = (id: string): RunDetail => runs.get(id) ?? fail('not-found', `There is no run ${id}.`, 'It may have been deleted for good.');
  const change = (id: string, part: Partial<RunDetail['summary']>) => {
    const run = get(id);
    runs.set(id, { ...run, summary: { ...run.summary, ...part } });
    emit('run.summary', get(id).summary);
    return get(id).summary;
  };
  const publish = (id: string, event: TrainerEvent, imageId: number | null = null) => {
    const run = get(id);
    run.lastSeq++;
    emit('run.event', { runId: id, seq: run.lastSeq, event, imageId });
  };
  function tick(): void {
    const run = [...runs.values()].find((one) => one.summary.state === 'running');
    if (!run) return;
    const { id, iterations } = run.summary;
    const row = data.stepAt(run.summary.step + 1, iterations);
    run.steps.push(row);
    publish(id, { type: 'step', ...row });
    if (row.step % run.config.sampleEvery === 0) {
      for (const image of data.imagesAt(id, run.config, row.step)) {
        run.images.push(image);
        publish(id, { type: 'image', ...image, file: `samples/${image.id}.png` }, image.id);
      }
      const sample = { step: row.step, role: 'tuned' as const, heldOut: true, measures: data.measuresAt(data.progress(row.step, iterations), row.step) };
      run.samples.push(sample);
      publish(id, { type: 'sampled', ...sample });
    }
    change(id, { step: row.step, rewardLast: row.reward, seconds: run.summary.seconds + row.stepMs / 1000 });
    if (row.step >= iterations) {
      publish(id, { type: 'finished', reason: 'completed', step: row.step, seconds: row.step * 2.3 });
      change(id, { state: 'finished', finishedAt: Date.now() });
    }
  }
  if (stepMs > 0) timer = setInterval(tick, stepMs);
  void timer;

  const answers: Record<RequestName, (input: never) => unknown> = {
    'runs.list': ({ search, deleted }: { search: string; deleted: boolean }) => state === 'failing' ? fail('history', 'The history could not be read.', 'Check the data folder in Settings.')
      : [...runs.values()].map((run) => run.summary).filter((run) => (run.deletedAt !== null) === deleted && run.name.toLowerCase().includes(search.toLowerCase())).sort((a, b) => b.createdAt - a.createdAt),
    'runs.get': ({ id }: { id: string }) => structuredClone(get(id)),
    'runs.start': ({ name, config }: { name: string; config: RunConfig }) => {
      const run = data.detail(`n${runs.size}`, name || 'New run', 'running', { step: 0, config: runConfigSchema.parse(config) });
      runs.set(run.summary.id, run);
      emit('run.summary', run.summary);
      return run.summary;
    },
    'runs.stop': ({ id }: { id: string }) => {
      publish(id, { type: 'finished', reason: 'stopped', step: get(id).summary.step, seconds: get(id).summary.seconds });
      change(id, { state: 'stopped', finishedAt: Date.now() });
      return {};
    },
    'runs.resume': ({ id }: { id: string }) => change(id, { state: 'running', reason: null, finishedAt: null }),
    'runs.update': ({ id, ...part }: { id: string }) => change(id, part),
    'runs.delete': ({ id }: { id: string }) => (change(id, { deletedAt: Date.now() }), {}),
    'runs.restore': ({ id }: { id: string }) => (change(id, { deletedAt: null }), {}),
    'runs.purge': ({ id }: { id: string }) => (runs.delete(id), {}),
    'runs.diff': ({ a, b }: { a: string; b: string }) => {
      const flat = (value: unknown, at = ''): [string, string][] => value && typeof value === 'object' && !Array.isArray(value) ? Object.entries(value).flatMap(([key, one]) => flat(one, at ? `${at}.${key}` : key)) : [[at, JSON.stringify(value)]];
      const other = new Map(flat(get(b).config));
      return flat(get(a).config).filter(([key, one]) => other.get(key) !== one).map(([key, one]) => ({ key, a: one, b: other.get(key) ?? 'not set' }));
    },
    'runs.render': async ({ id, prompt, seed, step, strength }: { id: string; prompt: string; seed: number; step?: number; strength: number }) => {
      await new Promise((resolve) => setTimeout(resolve, stepMs));
      const run = get(id);
      const at = step ?? run.summary.step;
      const row = { runId: id, prompt, promptIndex: 90 + seed, heldOut: true, seed };
      const made = [data.makeImage({ ...row, role: 'base', step: 0 }, 0), { ...data.makeImage({ ...row, role: 'tuned', step: at }, strength * data.progress(at, run.summary.iterations)), strength }];
      run.images.push(...made);
      return made;
    },
    'runs.share': ({ id }: { id: string }) => ({ path: `/home/you/.drtune/exports/${id}.drtune`, bytes: 4e6, checked: 'settings, rows of the history, sample pictures and the LoRA, each with its sha256' }),
    'runs.import': () => fail('not-found', 'The mock reads no files.'),
    'work.list': () => [],
    'work.cancel': () => ({}),
    'files.put': () => ({}),
    'files.drop': () => ({}),
    'queue.move': () => ({ place: 1, of: 1 }),
    'queue.hold': () => ({}),
    'runs.export': ({ id, format }: { id: string; format: string }) => ({
      path: `${get(id).folder}/export/${format}`, bytes: 412_000, checked: 'read back, its picture differs from the checkpoint\'s by 0 (bound 0.001) and from the base\'s by 2.1e-1',
    }),
    ...mockComparing(() => [...runs.values()]),
    'models.list': () => models,
    'models.add': ({ path }: { path: string }) => path.startsWith('/data') ? (models = [...models, { ...models[1]!, name: path.split('/').at(-1)!, path }]).at(-1) : fail('weights', `${path} holds no model_index.json.`, 'Choose the folder that contains model_index.json, or a single .safetensors file.'),
    'models.verify': ({ name }: { name: string }) => ({ ok: name !== 'broken', problems: name === 'broken' ? ['unet/diffusion_pytorch_model.safetensors is missing.'] : [] }),
    'models.remove': ({ name }: { name: string }) => ((models = models.filter((model) => model.name !== name)), {}),
    'models.pick': () => ({ path: null }),
    'models.catalog': () => data.catalog,
    'models.plan': ({ repo, revision }: { repo: string; revision?: string }) => ({ ...data.plan, repo, revision: revision ?? 'main', id: repo.replace('/', '--') }),
    'models.download': () => ({}),
    'models.downloads': () => [],
    'models.cancelDownload': () => ({}),
    'hub.tokenState': () => ({ source: 'none', keeps: false, endpoint: 'https://huggingface.co' }),
    'hub.setToken': ({ token }: { token: string }) => ({ source: token ? 'session' : 'none', keeps: false, endpoint: 'https://huggingface.co' }),
    'rewards.list': () => data.rewards,
    'rewards.score': async ({ rewards, pictures }: { rewards: { name: string }[]; pictures: { name: string; data: string }[] }) => {
      await new Promise((resolve) => setTimeout(resolve, stepMs));
      return pictures.map(({ name, data: text }, index) => ({
        name, width: 64, height: 64, scores: Object.fromEntries(rewards.map((each, at) => [each.name, Math.sin(text.length + index * 1.7 + at)])), exact: {}, problem: null,
      }));
    },
    'presets.list': () => data.presets,
    'prompts.sets': () => data.promptSets,
    'prompts.tokens': ({ prompts, longPrompts }: { prompts: string[]; longPrompts: string }) => prompts.map((prompt) => {
      const words = prompt.split(/\s+/);
      const chunks = longPrompts === 'chunk' ? Math.ceil(words.length / 30) : 1;
      return { tokens: words.length + 2, limit: 32, chunks, cut: chunks > 1 ? '' : words.slice(30).join(' ') };
    }),
    'forecast': ({ config }: { config: RunConfig }) => {
      const memoryBytes = 0.5e9 + 0.16e9 * config.batch * ((config.width ?? 128) / 128) ** 2;
      return {
        seconds: config.iterations * config.batch * config.trainedSteps * 0.18, secondsBasis: 'measured on 3 runs of this model here', memoryBytes, availableBytes: 5.2e9, diskBytes: 14e6, freeBytes: 61e9,
        memoryBasis: 'an estimate from the sizes of its networks', plan: {
          weights: { unet: 'float32', vae: 'float32', text: 'float32' }, unet: 'residuals', vae: 'recompute', textEncoders: 'leave', vaeWeights: 'stay', picturesAtOnce: 4, peakBytes: memoryBytes, availableBytes: 5.2e9,
          phases: [{ phase: 'rollout', bytes: 0.6 * memoryBytes }, { phase: 'picture gradient', bytes: memoryBytes }], fits: memoryBytes < 5.2e9, advice: [],
          notes: ['The UNet\'s weights in float32.', 'The text encoders leave memory once the prompts are encoded.', 'The gradient through the VAE computes its blocks again instead of keeping their values.'],
        },
        fits: memoryBytes < 5.2e9, advice: memoryBytes < 5.2e9 ? [] : ['Lower the batch to 4 and raise accumulate to keep the effective batch.', 'Set memory to low: slower, half the peak.'],
      };
    },
    'preview': async ({ config, count }: { config: RunConfig; count: number }) => {
      await new Promise((resolve) => setTimeout(resolve, stepMs));
      const prompts = [...config.heldOutPrompts, ...config.prompts];
      return prompts.slice(0, count).map((prompt, index) => ({ url: data.picture(prompt, index, 0), prompt, seed: index, width: 128, height: 128, rewards: data.rewardsAt(0, index) }));
    },
    'system.get': () => data.system,
    'system.hardware': () => ({ cpu: { model: 'A processor', cores: data.system.cpus, load: 0.62, appLoad: 0.55 }, memory: data.system.memory, gpus: [], disk: data.system.disk }),
    'system.installEngine': () => ({}),
    'system.cancelInstall': () => ({}),
    'logs.tail': () => ({ folder: '/home/you/.local/share/drtune-studio/logs', crashes: [], entries: [{ at: Date.now() - 60_000, level: 'info', source: 'main', text: 'started' }, { at: Date.now(), level: 'warning', source: 'run', text: 'r0 at step 12: the reward of held-out pictures falls' }] }),
    'files.given': () => [],
    'releases.latest': () => ({ current: '0.1.0', newer: null, page: null, problem: null }),
    'settings.get': () => settings,
    'settings.set': (part: Record<string, unknown>) => (settings = { ...settings, ...part }),
    'servers.list': () => [],
    'servers.add': () => fail('network', 'There is no network in the mock.'),
    'servers.update': () => fail('not-found', 'There is no such machine.'),
    'servers.remove': () => ({}),
    'servers.connect': () => ({}),
  };

  return {
    kind: 'served',
    async request(name, input): Promise<Reply<unknown>> {
      const parsed = REQUESTS[name as RequestName].input.safeParse(input);
      if (!parsed.success) return { ok: false, error: { code: 'config', message: parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ') } };
      try {
        return { ok: true, value: structuredClone(await answers[name as RequestName](parsed.data as never)) };
      } catch (error) {
        const { code, message, hint } = error as Error & { code: string; hint?: string };
        return { ok: false, error: { code, message, hint } };
      }
    },
    on(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    fileUrl: (path) => (path.startsWith('image/') ? (data.images.get(Number(path.slice(6))) ?? '') : data.picture('starter', 3, 0)),
  };
}
