/** The gradient of every algorithm against PyTorch's tape of its definition, and the replay against the tape of TensorFlow.js. Fixture: make_algorithms.py. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ALGORITHMS, runConfigSchema } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor2D, type Tensor4D } from '../../../src-main/engine/tf.ts';
import type { Pipeline } from '../../../src-main/pipeline/pipeline.ts';
import { disposeAdapter } from '../../../src-main/pipeline/adapter.ts';
import { writeDiffusersLora } from '../../../src-main/pipeline/lora/write.ts';
import { rankStream } from '../../../src-main/train/draw.ts';
import { rankMasks } from '../../../src-main/train/rank-dropout.ts';
import { openSession, startAdapter, type Session } from '../../../src-main/train/session.ts';
import { singleGradient, type SingleGradient } from '../../../src-main/train/single-gradient.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';

const here = import.meta.dirname;
const fixture = readFixture(join(here, 'cases.safetensors'));
const cases = JSON.parse(fixture.metadata['cases']!) as Record<string, { change: object; config: Record<string, unknown> }>;
const parameters = JSON.parse(fixture.metadata['parameters']!) as [name: string, shape: number[]][];
const home = mkdtempSync(join(tmpdir(), 'drtune-'));
let engine: Engine;

beforeAll(async () => void (engine = await openEngine({ prefer: 'auto', home: process.env['DRTUNE_HOME'] ?? home })));
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** The tiny pipeline with changed scheduler settings. */
function pipelineWith(change: object): string {
  const pipeline = join(here, '..', 'drtune', 'pipeline');
  if (Object.keys(change).length === 0) return pipeline;
  const folder = join(home, Object.keys(change).join('-'));
  cpSync(pipeline, folder, { recursive: true });
  const file = join(folder, 'scheduler', 'scheduler_config.json');
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), ...change }));
  return folder;
}

const nchw = (x: Tensor4D): Float32Array => tf.tidy(() => tf.transpose(x, [0, 3, 1, 2]).dataSync() as Float32Array);
const free = (result: SingleGradient): void => tf.dispose([result.x0, ...result.gradients.values()]);

function openCase(name: string, more: object = {}): Promise<Session> {
  const { change, config } = cases[name]!;
  const lora = { ...(config['lora'] as object), initFile: join(here, 'lora.safetensors') };
  const rewards = (config['rewards'] as { model?: string }[]).map((each) => (each.model ? { ...each, model: join(here, '..', 'drtune', each.model) } : each));
  return openSession(runConfigSchema.parse({ ...config, rewards, lora, ...more, model: pipelineWith(change) }), { engine, home });
}

it('every algorithm has a case', () => {
  expect(new Set(Object.values(cases).map(({ config }) => config['algorithm']))).toEqual(new Set(ALGORITHMS));
});

/** The gradient's norm of a case with changed settings. */
async function normOf(name: string, change: object): Promise<number> {
  const session = await openCase(name, change);
  const result = singleGradient(session, 'replay');
  const norm = Math.sqrt([...result.gradients.values()].reduce((sum, each) => sum + (each.dataSync() as Float32Array).reduce((a, b) => a + b * b, 0), 0));
  free(result);
  session.dispose();
  return norm;
}

it('attaching the input, and the push towards worse pictures, change the gradient: the cases tell them apart', async () => {
  const [pushed, plain, detached] = [await normOf('worst-case', {}), await normOf('worst-case', { worstCase: 0 }), await normOf('alignprop', { algorithm: 'drtune' })];
  expect(Math.abs(pushed / plain - 1)).toBeGreaterThan(0.01);
  expect(Math.abs(detached / (await normOf('alignprop', {})) - 1)).toBeGreaterThan(0.01);
});

/** Most bytes of tensors alive after a network call of one gradient. */
async function peakBytes(steps: number, method: 'replay' | 'full-tape'): Promise<number> {
  const session = await openCase('full', { steps });
  let most = 0;
  const predictBranches: Pipeline['predictBranches'] = (...given) => {
    const out = session.pipeline.predictBranches(...given);
    most = Math.max(most, tf.memory().numBytes);
    return out;
  };
  free(singleGradient({ ...session, pipeline: { ...session.pipeline, predictBranches } }, method));
  session.dispose();
  return most;
}

it('a chain of 12 steps is replayed in the memory of one of 4, but for its latents; the full tape is not', async () => {
  const latents = 8 * 2 * 4 * 8 * 6 * 4; // of 8 steps more: pictures, channels, height, width, bytes
  expect((await peakBytes(12, 'replay')) - (await peakBytes(4, 'replay'))).toBeLessThan(3 * latents);
  expect((await peakBytes(12, 'full-tape')) - (await peakBytes(4, 'full-tape'))).toBeGreaterThan(30 * latents);
});

it('a network that computes again instead of keeping gives the same gradient to its input', async () => {
  const session = await openCase('alignprop', { memory: 'low' });
  expect(session.plan.unet).toBe('recompute');
  const result = singleGradient(session, 'replay');
  const got = parameters.flatMap(([key]) => Array.from(result.gradients.get(key)!.dataSync()));
  expect(relativeL2(got, fixture.values('alignprop/gradient'))).toBeLessThan(1e-3);
  free(result);
  session.dispose();
});

it('ranks left out get no gradient, and the others that of a LoRA without them', async () => {
  const drtune = join(here, '..', 'drtune');
  const config = { lora: { rank: 3, initFile: join(drtune, 'lora.safetensors') } };
  const session = await openCase('draft-k', { ...config, lora: { ...config.lora, rankDropout: 0.5 } });
  const [dropped, tape] = [singleGradient(session, 'replay'), singleGradient(session, 'full-tape')];
  const adapter = startAdapter(session);
  const masks = rankMasks(adapter, 0.5, rankStream(5, 0));
  expect(new Set(masks.map(String)).size).toBeGreaterThan(3);
  const paths = Object.keys(adapter.modules).sort();
  // The same as a file: A's rows times the mask, which is 0 or 2.
  const file = join(home, 'masked.safetensors');
  writeDiffusersLora(file, { unet: { scale: adapter.scale, modules: Object.fromEntries(paths.map((path, k) => {
    const { 'lora_A.weight': a, 'lora_B.weight': b } = adapter.modules[path]!.matrices as { 'lora_A.weight': Tensor2D; 'lora_B.weight': Tensor2D };
    return [path, { matrices: { 'lora_B.weight': b, 'lora_A.weight': tf.tidy(() => tf.mul<Tensor2D>(a, tf.tensor2d(masks[k]!, [masks[k]!.length, 1]))) } }];
  })) } });
  const plain = await openCase('draft-k', { lora: { rank: 3, initFile: file } });
  const expected = singleGradient(plain, 'replay');
  paths.forEach((path, k) => {
    const [a, b] = ['A', 'B'].map((side) => [dropped, expected, tape].map((each) => each.gradients.get(`${path}.lora_${side}.weight`)!.dataSync() as Float32Array));
    const columns = a![0]!.length / masks[k]!.length;
    expect(relativeL2(a![0]!, a![1]!.map((value, i) => value * masks[k]![Math.floor(i / columns)]!)), path).toBeLessThan(1e-5);
    expect(relativeL2(b![0]!, b![1]!), path).toBeLessThan(1e-5);
    expect(relativeL2(a![0]!, a![2]!), path).toBeLessThan(1e-4);
  });
  for (const each of [dropped, expected, tape]) free(each);
  disposeAdapter(adapter);
  session.dispose();
  plain.dispose();
});

describe.each(Object.keys(cases))('the gradient of %s', (name) => {
  it('equals PyTorch\'s tape, and the full tape equals the replay', async () => {
    const session = await openCase(name);
    const tape = singleGradient(session, 'full-tape'); // opens what is opened lazily
    const before = tensorCount();
    const replay = singleGradient(session, 'replay');
    expect(replay.reward).toBeCloseTo(fixture.values(`${name}/reward`)[0]!, 4);
    expect(replay.kl).toBeCloseTo(tape.kl, 5);
    expect(relativeL2(nchw(replay.x0), fixture.values(`${name}/x0`))).toBeLessThan(1e-4);
    expect(replay.gradients.size).toBe(parameters.length);
    const expected = fixture.values(`${name}/gradient`);
    // Of this case's pictures a pixel is as good as equal to its mirror image, where the reward |x - mirror| has no derivative: one unit
    // in the last place of the network's predictions changes a gradient by 7e-4 of its size, another by 2.4e-3.
    const [toTorch, toTape] = name === 'srpo-dpmpp2m' ? [5e-3, 5e-3] : [1e-3, 1e-4];
    let from = 0;
    for (const [key] of parameters) {
      const gradient = replay.gradients.get(key)!.dataSync();
      expect(relativeL2(gradient, expected.subarray(from, (from += gradient.length))), key).toBeLessThan(toTorch);
      expect(relativeL2(gradient, tape.gradients.get(key)!.dataSync()), `${key}, full tape`).toBeLessThan(toTape);
    }
    expect(from).toBe(expected.length);
    free(replay);
    expect(tensorCount()).toBe(before);
    free(tape);
    session.dispose();
  });
});
