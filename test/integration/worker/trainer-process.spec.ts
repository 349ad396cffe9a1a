/** The trainer's process, forked as the app does it: one job, then `done` and a clean exit. */
import { fork, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { withOwnExamples } from '../../../src-main/app/own-examples.ts';
import { ownExamplesFile } from '../../../src-main/base/paths.ts';
import { rewardInfos } from '../../../src-main/rewards/index.ts';
import type { FromTrainer, TrainerJob } from '../../../src-main/worker/protocol.ts';
import { sha256Of } from '../../../src-main/base/atomic.ts';
import type { Manifest } from '../../../src-main/train/manifest.ts';
import { tinyClip, tinyConfig } from '../../helpers/tiny.ts';

const entry = join(import.meta.dirname, '../../../src-main/worker/trainer-process.ts');
const home = mkdtempSync(join(tmpdir(), 'drtune-worker-'));
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(home, { recursive: true, force: true });
});

function start(job: TrainerJob, heard: (message: FromTrainer, child: ChildProcess) => void = () => {}) {
  const child = fork(entry, [], { execArgv: ['--disable-warning=ExperimentalWarning'], serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  children.push(child);
  const messages: FromTrainer[] = [];
  child.on('message', (message) => {
    messages.push(message as FromTrainer);
    heard(message as FromTrainer, child);
  });
  child.send({ type: 'job', job });
  return { child, messages, exit: new Promise<number | null>((done) => child.on('exit', done)) };
}

const engine = 'wasm' as const;

describe('the trainer process', () => {
  it('trains, stops when asked, and exits by itself', async () => {
    const job: TrainerJob = { kind: 'train', config: tinyConfig({ engine, iterations: 500, sampleEvery: 0, samplePrompts: 1, checkpointEvery: 0 }), runDir: join(home, 'a'), home, resume: false };
    const { messages, exit } = start(job, (message, child) => {
      if (message.type === 'event' && message.event.type === 'step') child.send({ type: 'stop' });
    });
    expect(await exit).toBe(0);
    expect(messages.at(-1)).toEqual({ type: 'done' });
    const finished = messages.map((each) => (each.type === 'event' ? each.event : null)).find((each) => each?.type === 'finished');
    expect(finished).toMatchObject({ reason: 'stopped' });
    expect(existsSync(join(home, 'a/checkpoints'))).toBe(true);
  });

  it('scores the user\'s pictures; one that is no picture has its reason and holds nothing up', async () => {
    const file = join(import.meta.dirname, '../../golden/rewards/reference.png');
    const pictures = [{ name: 'own.png', data: readFileSync(file, 'base64') }, { name: 'notes.txt', data: Buffer.from('no picture').toString('base64') }];
    const rewards = [{ name: 'brightness', weight: 1 }, { name: 'compressibility', weight: 1 }, { name: 'clipscore', weight: 1, model: tinyClip }];
    const { messages, exit } = start({ kind: 'score', config: { engine }, home, rewards, prompt: 'a red apple', pictures });
    expect(await exit).toBe(0);
    const scored = messages.find((each) => each.type === 'scored')!.pictures;
    expect(scored[0]).toMatchObject({ name: 'own.png', width: 21, height: 30, problem: null });
    expect(Object.keys(scored[0]!.scores)).toEqual(['brightness', 'compressibility', 'clipscore']);
    expect(scored[0]!.scores['brightness']).toBeGreaterThan(0);
    expect(Object.keys(scored[0]!.exact)).toEqual(['compressibility']);
    expect(scored[1]).toMatchObject({ name: 'notes.txt', scores: {} });
    expect(scored[1]!.problem).toMatch(/^The picture notes\.txt cannot be read: .*PNG, JPEG and WebP/);
  });

  it('paints a preview as data URLs with scores', async () => {
    const { messages, exit } = start({ kind: 'preview', config: tinyConfig({ engine }), count: 2, home });
    expect(await exit).toBe(0);
    const preview = messages.find((each) => each.type === 'preview');
    expect(preview?.images.map((each) => each.prompt)).toEqual(['a red apple', 'two blue cats']);
    expect(preview?.images[0]!.url).toMatch(/^data:image\/png;base64,/);
    expect(Object.keys(preview!.images[0]!.rewards).sort()).toEqual(['brightness', 'symmetry']);
  });

  it('keeps of the base pictures those that a reward with a model of its own likes least and most, of a preview and of a run; a damaged file is none', async () => {
    const networks = join(import.meta.dirname, '../../golden/rewards/networks');
    const config = tinyConfig({ engine, iterations: 1, prompts: ['a red apple', 'two blue cats', 'the house'], heldOutPrompts: [], samplePrompts: 3,
      rewards: [{ name: 'pickscore', weight: 1, model: join(networks, 'pickscore') }, { name: 'symmetry' }], heldOutRewards: [{ name: 'hpsv2.1', model: join(networks, 'hpsv21/HPS_tiny.pt') }, { name: 'clipscore', model: tinyClip, prompts: 'red' }] });
    const own = join(home, 'own');
    const kept = () => Object.fromEntries(withOwnExamples(own, rewardInfos()).flatMap((info) => (info.own ? [[info.name, info.own]] : [])));
    expect(kept()).toEqual({});
    const { messages, exit } = start({ kind: 'preview', config, count: 3, home: own });
    expect(await exit).toBe(0);
    const { images } = messages.find((each) => each.type === 'preview')!;
    expect(Object.keys(kept())).toEqual(['hpsv2.1', 'pickscore']); // symmetry has pictures of the app's own, clipscore counts for a single one of these
    for (const [name, { low, high, by }] of Object.entries(kept())) {
      const values = images.map((each) => each.rewards[name]!);
      expect([low.value, high.value, by]).toEqual([Math.min(...values), Math.max(...values), name === 'pickscore' ? 'pickscore' : 'HPS_tiny.pt']);
      for (const { url, value, prompt } of [low, high]) {
        const [small, ...large] = await Promise.all([url, ...images.map((each) => each.url)].map((each) => sharp(Buffer.from(each.split(',')[1]!, 'base64')).removeAlpha().raw().toBuffer()));
        const apart = large.map((pixels) => pixels.reduce((sum, byte, i) => sum + Math.abs(byte - small![i]!), 0));
        const nearest = images[apart.indexOf(Math.min(...apart))]!;
        expect([nearest.rewards[name], nearest.prompt]).toEqual([value, prompt]);
      }
    }
    for (const name of ['hpsv2.1', 'pickscore']) writeFileSync(ownExamplesFile(own, name), '{"model":');
    expect(kept()).toEqual({});
    expect(await start({ kind: 'train', config, runDir: join(own, 'runs/a'), home: own, resume: false }).exit).toBe(0);
    expect(Object.keys(kept())).toEqual(['hpsv2.1', 'pickscore']);
    const { inputs } = JSON.parse(readFileSync(join(own, 'runs/a/manifest.json'), 'utf8')) as Manifest; // of the rewards' models too
    const weights = readdirSync(join(networks, 'pickscore')).find((file) => file.endsWith('.safetensors'))!;
    for (const [name, file] of [[`pickscore: ${weights}`, join(networks, 'pickscore', weights)], ['hpsv2.1: HPS_tiny.pt', join(networks, 'hpsv21/HPS_tiny.pt')]] as const) expect(inputs[name]).toBe(sha256Of(file));
    expect(Object.keys(inputs).some((name) => name.startsWith('clipscore: ') && !name.includes(tinyClip))).toBe(true);
  });

  it('renders a prompt with base and tuned weights', async () => {
    const config = tinyConfig({ engine });
    const checkpoint = join(import.meta.dirname, '../../golden/drtune/lora.safetensors');
    const { messages, exit } = start({ kind: 'render', config, runDir: join(home, 'b'), home, prompt: 'a new thing', seed: 9, checkpoint, step: 4, strength: 1, loraFrom: 0, has: [] });
    expect(await exit).toBe(0);
    const images = messages.flatMap((each) => (each.type === 'event' && each.event.type === 'image' ? [each.event] : []));
    expect(images).toMatchObject([{ role: 'base', step: 0, weights: 'base', seed: 9 }, { role: 'tuned', step: 4, seed: 9 }]);
    expect(images[0]!.rewards['symmetry']).not.toBe(images[1]!.rewards['symmetry']);
    for (const each of images) expect(existsSync(join(home, 'b', each.file))).toBe(true);
  });

  it('renders at another strength: nothing of the LoRA is the base, bit for bit, and what is there is left out', async () => {
    const config = tinyConfig({ engine });
    const checkpoint = join(import.meta.dirname, '../../golden/drtune/lora.safetensors');
    const at = { kind: 'render' as const, config, runDir: join(home, 'b'), home, prompt: 'a new thing', seed: 9, checkpoint, step: 4 };
    const painted = async (strength: number, loraFrom = 0) => {
      const { messages, exit } = start({ ...at, strength, loraFrom, has: ['base'] });
      expect(await exit).toBe(0);
      const images = messages.flatMap((each) => (each.type === 'event' && each.event.type === 'image' ? [each.event] : []));
      expect(images).toMatchObject([{ role: 'tuned', step: 4, strength }]);
      return images[0]!;
    };
    // Pixels, not files: a file says which weights painted it.
    const pixels = (name: string) => sharp(join(home, 'b', 'samples/rendered', name)).raw().toBuffer();
    const [none, half] = [await painted(0), await painted(0.5)];
    const key = /tuned-step-4-strength-0-(.+)$/.exec(none.file)![1]!;
    expect(await pixels(`tuned-step-4-strength-0-${key}`)).toEqual(await pixels(`base-step-0-${key}`));
    expect(half.rewards['symmetry']).not.toBe(none.rewards['symmetry']);
    expect(half.weights).not.toBe(none.weights);
    expect(await pixels(`tuned-step-4-strength-0.5-${key}`)).not.toEqual(await pixels(`tuned-step-4-${key}`));
    const [late, never] = [await painted(0.5, 1), await painted(0.5, config.steps)];
    expect(late).toMatchObject({ loraFrom: 1, weights: half.weights });
    expect(late.rewards['symmetry']).not.toBe(half.rewards['symmetry']);
    expect(never.rewards['symmetry']).toBe(none.rewards['symmetry']);
  });

  it('exports a checkpoint as a merged model, telling what it does', async () => {
    const checkpoint = join(import.meta.dirname, '../../golden/drtune/lora.safetensors');
    const out = join(home, 'exports', 'merged.safetensors');
    const { messages, exit } = start({ kind: 'export', config: tinyConfig({ engine }), home, run: 'r', step: 4, checkpoint, format: 'merged', out });
    expect(await exit).toBe(0);
    expect(messages.flatMap((each) => (each.type === 'event' && each.event.type === 'phase' ? [each.event.phase] : []))).toContain('merging and writing');
    expect(messages.slice(-2)).toMatchObject([{ type: 'exported', exported: { path: out, checked: expect.stringMatching(/^read back/) as string } }, { type: 'done' }]);
    expect(existsSync(out)).toBe(true);
  });

  it('says in one message what is wrong, then is done', async () => {
    const { messages, exit } = start({ kind: 'train', config: tinyConfig({ engine, model: 'nothing' }), runDir: join(home, 'c'), home, resume: false });
    expect(await exit).toBe(0);
    expect(messages.slice(-2)).toMatchObject([{ type: 'error', code: 'weights' }, { type: 'done' }]);
  });

  it('goes with a checkpoint when its parent goes', async () => {
    const job: TrainerJob = { kind: 'train', config: tinyConfig({ engine, iterations: 500, sampleEvery: 0, samplePrompts: 0 }), runDir: join(home, 'd'), home, resume: false };
    const { exit } = start(job, (message, child) => {
      if (message.type === 'event' && message.event.type === 'step' && child.connected) child.disconnect();
    });
    expect(await exit).toBe(1);
    expect(existsSync(join(home, 'd/checkpoints'))).toBe(true);
  });
});
