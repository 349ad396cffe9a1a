/** The command line end to end on the tiny pipeline, each command a process of its own. */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCommand } from '../../../src-main/cli/commands.ts';
import { trainerEventSchema, type TrainerEvent } from '../../../src-main/contract/events.ts';
import { engineOrder } from '../../../src-main/engine/select.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';
import { tinyClip, tinyInput, tinyLora, tinyPipeline } from '../../helpers/tiny.ts';

const root = join(import.meta.dirname, '../../..');
const home = mkdtempSync(join(tmpdir(), 'drtune-cli-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

interface Result { code: number | null; out: string; err: string }

/** On wasm: the same numbers wherever the tests run. */
function drtune(...args: string[]): Promise<Result> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', join(root, 'src-main/cli/main.ts'), ...args], { cwd: home, env: { ...process.env, DRTUNE_HOME: home, DRTUNE_TRACE: '' } });
  const result: Result = { code: null, out: '', err: '' };
  child.stdout.on('data', (data: Buffer) => (result.out += data.toString()));
  child.stderr.on('data', (data: Buffer) => (result.err += data.toString()));
  return new Promise((done) => child.on('close', (code) => done({ ...result, code })));
}

const wasm = ['--engine', 'wasm'];
const file = (name: string): string => join(home, name);
const config = (name: string, change: Parameters<typeof tinyInput>[0] = {}): string => {
  const path = file(name);
  writeFileSync(path, JSON.stringify(tinyInput({ engine: 'wasm', ...change })));
  return path;
};

/** In this process: for commands that fail before they compute much. */
async function inProcess(...args: string[]): Promise<Result> {
  const result: Result = { code: null, out: '', err: '' };
  const before = { home: process.env['DRTUNE_HOME'], folder: process.cwd() };
  process.env['DRTUNE_HOME'] = home;
  process.chdir(home);
  try {
    result.code = await runCommand(args, { stdout: { write: (text) => (result.out += text) }, stderr: { write: (text) => (result.err += text) } });
  } finally {
    process.chdir(before.folder);
    process.env['DRTUNE_HOME'] = before.home;
  }
  return result;
}

describe('what is wrong is said in one line', () => {
  beforeAll(() => {
    writeFileSync(file('broken.json'), '{"prompts": ');
    writeFileSync(file('none-of-it.json'), '{}');
    writeFileSync(file('picture.png'), 'not a picture');
    cpSync(tinyPipeline, file('cut'), { recursive: true });
    truncateSync(file('cut/vae/diffusion_pytorch_model.safetensors'), 5000);
    mkdirSync(file('empty'));
    cpSync(tinyPipeline, file('nan'), { recursive: true });
    const weights = file('nan/unet/diffusion_pytorch_model.safetensors');
    const bytes = readFileSync(weights);
    bytes.subarray(-4).fill(0xff); // a NaN in float32 and float16
    writeFileSync(weights, bytes);
  });

  it.each<[string[], number, RegExp]>([
    [['trian'], 2, /Unknown command "trian": did you mean "train"\?/],
    [['sample', '--promt', 'x'], 2, /Unknown option --promt: did you mean --prompt\?/],
    [['sample', '--out', 'x'], 2, /--prompt is missing/],
    [['sample', '--prompt', 'x', '--out', 'o', '--steps', '2.5'], 2, /--steps is "2.5", expected an integer/],
    [['sample', '--prompt', 'x', '--out', 'o', '--scheduler', 'ddin'], 2, /did you mean "ddim"/],
    [['sample', '--prompt', 'x', '--out', 'o', '--lora-from', '3'], 2, /--lora-from is for a LoRA/],
    [['sample', '--prompt', 'x', '--out', 'o', '--model', tinyPipeline, '--lora', tinyLora, '--steps', '4', '--lora-from', '5', ...wasm], 1, /sampling step 5, but there are 4/],
    [['sample', '--prompt', 'x', '--out', 'o', '--model', 'startr'], 1, /no model "startr".*Known models: starter/],
    [['sample', '--prompt', 'x', '--out', 'o', '--model', 'cut', ...wasm], 1, /truncated/],
    [['sample', '--prompt', 'x', '--out', 'o', '--model', 'empty', ...wasm], 1, /model_index\.json/],
    [['sample', '--prompt', 'x', '--out', 'o', '--model', tinyPipeline, '--width', '30', ...wasm], 1, /30/],
    [['sample', '--prompt', 'x', '--out', 'o', '--model', tinyPipeline, '--latents', tinyLora, ...wasm], 1, /no tensor "noise"/],
    [['sample', '--prompt', 'x', '--out', 'o', '--model', ''], 1, /no model ""/],
    [['sample', '--prompt', 'x', '--out', 'picture.png'], 1, /picture\.png is a file, expected a folder/],
    [['sample', '--prompt', 'x', '--out', 'picture.png/o'], 1, /picture\.png is a file, expected a folder/],
    [['sample', '--prompt', 'x', '--out', 'o', '--seed', '9007199254740993'], 2, /an integer of 0 to 9007199254740991/],
    [['sample', '--prompt', 'x', '--out', 'o', '--model', 'nan', '--steps', '1', ...wasm], 1, /no numbers\. "drtune models verify NAME" finds/],
    [['gradient', '--config', config('nan.json', { model: 'nan', batch: 1, steps: 1, trainedSteps: 1 }), '--out', 'g', ...wasm], 1, /no gradient: x0 came out as values that are no numbers/],
    [['gradient', '--config', config('plain.json'), '--out', 'empty', ...wasm], 1, /empty is a folder, expected a file/],
    [['score', '--reward', 'symetry', '--image', 'picture.png'], 1, /Did you mean "symmetry"/],
    [['score', '--reward', 'pickscore', '--image', 'picture.png'], 1, /needs a model of its own.*PickScore_v1/],
    [['score', '--reward', 'symmetry', '--image', 'picture.png', ...wasm], 1, /picture\.png cannot be read/],
    [['score', '--reward', 'symmetry', '--image', 'none.png', ...wasm], 1, /no picture none\.png/],
    [['train', '--json'], 2, /--config FILE or --preset NAME/],
    [['train', '--config', 'none.json'], 1, /none\.json cannot be read/],
    [['train', '--config', 'broken.json'], 1, /not JSON/],
    [['train', '--preset', 'dem'], 1, /Did you mean "demo"/],
    [['train', '--config', config('plain.json'), '--set', 'stpes=3'], 1, /unknown key "stpes" \(did you mean "steps"\?\)/],
    [['train', '--config', config('plain.json'), '--set', 'lora.rankk=3'], 1, /lora: unknown key "rankk" \(did you mean "rank"\?\)/],
    [['train', '--config', config('plain.json'), '--set', 'steps'], 1, /not key=value/],
    [['train', '--config', config('plain.json'), '--set', 'steps=many'], 1, /steps:/],
    [['train', '--config', config('plain.json'), '--set', 'scheduler=eulr', '--set', 'batch=0'], 1, /wrong: scheduler: "eulr", did you mean "euler"\?; batch: Too small: expected number to be >=1, got 0\.$/m],
    [['train', '--config', config('plain.json'), '--set', 'prompts=5'], 1, /prompts: expected array or string, got 5\./],
    [['train', '--config', config('plain.json'), '--set', 'prompts=["a",5]'], 1, /prompts\.1: expected string, got 5\./],
    [['train', '--config', 'none-of-it.json'], 1, /wrong: prompts is missing; rewards is missing\./],
    [['train', '--resume', 'nobody'], 1, /no run "nobody"/],
    [['gradient', '--config', config('plain.json')], 2, /--out is missing/],
    [['gradient', '--config', config('plain.json'), '--out', 'g', '--lora', 'none.safetensors', ...wasm], 1, /no file .*none\.safetensors/],
    [['gradient', '--config', config('plain.json'), '--out', 'g', '--method', 'guess'], 2, /expected replay or full-tape/],
    [['compare', '--run', 'nobody', '--out', 'o'], 1, /no run "nobody"/],
    [['compare', '--run', 'x', '--out', 'o', '--seeds', '3..x'], 2, /names no seeds/],
    [['export', '--run', 'x', '--out', 'o', '--format', 'kohya'], 1, /no run/],
    [['export', '--run', 'x', '--out', 'o', '--format', 'difusers'], 2, /did you mean "diffusers"/],
    [['history', 'shov'], 2, /did you mean "show"/],
    [['models', 'add', 'nowhere'], 1, /no folder .*nowhere/],
    [['models', 'remove', 'starter'], 1, /built in/],
    [['bench', '--repeats', '0'], 2, /--repeats/],
  ])('%j', async (args, code, words) => {
    const result = await inProcess(...args);
    expect(result.err).toMatch(words);
    expect(result.err.trim().split('\n')).toHaveLength(1);
    expect(result.out).toBe('');
    expect(result.code).toBe(code);
  });
});

describe('sample', () => {
  it('paints seeds one after the other, the same from latents, and keeps what led there', async () => {
    const base = ['--model', tinyPipeline, '--prompt', 'a red apple', '--steps', '2', '--guidance', '3', '--width', '24', '--height', '16', '--save-tensors', '--json', ...wasm];
    const first = await drtune('sample', ...base, '--seed', '7', '--count', '2', '--out', file('s1'));
    expect(first.err).toBe('');
    expect(JSON.parse(first.out)).toMatchObject({ steps: 2, images: [{ file: '000.png', seed: 7 }, { file: '001.png', seed: 8 }] });
    const tensors = readFixture(file('s1/tensors.safetensors'));
    expect([tensors.shape('noise'), tensors.shape('latents'), tensors.shape('image')]).toEqual([[2, 4, 4, 6], [2, 4, 4, 6], [2, 3, 16, 24]]);
    const meta = await sharp(file('s1/001.png')).metadata();
    expect([meta.width, meta.height]).toEqual([24, 16]);
    await drtune('sample', ...base, '--latents', file('s1/tensors.safetensors'), '--out', file('s2'));
    const other = await inProcess('sample', '--model', tinyPipeline, '--prompt', 'x', '--latents', file('s1/tensors.safetensors'), '--width', '32', '--out', file('s3'), ...wasm);
    expect(other).toMatchObject({ code: 1, err: '--width is 32, but the noise of --latents is for 24. Leave --width out.\n' });
    expect(relativeL2(readFixture(file('s2/tensors.safetensors')).values('image'), tensors.values('image'))).toBeLessThan(1e-6);
    expect(JSON.parse(readFileSync(file('s2/manifest.json'), 'utf8'))).toMatchObject({ prompt: 'a red apple', weights: 'base' });
  });

  it('takes a LoRA at a scale', async () => {
    const base = ['--model', tinyPipeline, '--prompt', 'a red apple', '--steps', '2', '--save-tensors', ...wasm];
    const image = async (name: string, ...more: string[]): Promise<Float32Array> => {
      const result = await drtune('sample', ...base, '--out', file(name), ...more);
      expect(result.err).toBe('');
      return readFixture(file(`${name}/tensors.safetensors`)).values('image');
    };
    const [plain, off, on] = [await image('l0'), await image('l1', '--lora', `${tinyLora}:0`), await image('l2', '--lora', tinyLora)];
    expect(relativeL2(off, plain)).toBeLessThan(1e-5);
    expect(relativeL2(on, plain)).toBeGreaterThan(1e-3);
  });
});

describe('score', () => {
  it('gives a number for a picture, with the CLIP it is told', async () => {
    await sharp({ create: { width: 40, height: 30, channels: 3, background: '#3366cc' } }).png().toFile(file('blue.png'));
    const brightness = await drtune('score', '--reward', 'brightness', '--image', file('blue.png'), '--json', ...wasm);
    expect((JSON.parse(brightness.out) as { value: number }).value).toBeCloseTo((0.299 * 0x33 + 0.587 * 0x66 + 0.114 * 0xcc) / 255, 5);
    const clip = await drtune('score', '--reward', 'clipscore', '--model', tinyClip, '--image', file('blue.png'), '--prompt', 'a blue picture', '--json', ...wasm);
    expect(Object.keys(JSON.parse(clip.out) as object)).toEqual(['reward', 'value']);
    const jpeg = await drtune('score', '--reward', 'compressibility', '--image', file('blue.png'), '--json', ...wasm);
    expect(JSON.parse(jpeg.out)).toMatchObject({ reward: 'compressibility', exact: expect.any(Number) as number });
  });

  it('takes several rewards with their settings, and pictures or folders of them: one line each', async () => {
    mkdirSync(file('pictures'), { recursive: true });
    for (const [name, background] of [['b.png', '#000000'], ['a.jpg', '#ffffff'], ['notes.txt', '']]) {
      if (background) await sharp({ create: { width: 12, height: 9, channels: 3, background } }).toFile(file(`pictures/${name}`));
      else writeFileSync(file(`pictures/${name}`), 'no picture');
    }
    const result = await drtune('score', '--reward', 'brightness', '--reward', 'palette', '--palette', '#ffffff, #3366cc', '--image', file('pictures'), '--image', file('pictures/b.png'), '--json', ...wasm);
    const rows = result.out.trim().split('\n').map((line) => JSON.parse(line) as { image: string; reward: string; value: number });
    expect(rows.map(({ image, reward, value }) => `${basename(image)} ${reward} ${value.toFixed(1)}`)).toEqual([
      'a.jpg brightness 1.0', 'a.jpg palette -0.0', 'b.png brightness 0.0', 'b.png palette -0.6', 'b.png brightness 0.0', 'b.png palette -0.6',
    ]);
    expect((await drtune('score', '--reward', 'palette', '--image', file('pictures'))).err).toMatch(/needs "palette"/);
  });
});

describe('gradient', () => {
  it('writes one gradient a parameter, the same by replay and by tape, relative paths seen from the config', async () => {
    mkdirSync(file('configs'), { recursive: true });
    writeFileSync(file('configs/prompts.txt'), 'a red apple\n\n# a comment\ntwo blue cats\n');
    const path = config('configs/g.json', { prompts: 'prompts.txt', trainedStepList: [1, 3], kl: 0.1 });
    for (const method of ['replay', 'full-tape']) {
      const result = await drtune('gradient', '--config', path, '--lora', tinyLora, '--out', file(`${method}.safetensors`), '--method', method, '--json', '--set', 'lora.alpha=6');
      expect(result.err).toBe('');
      expect(JSON.parse(result.out)).toMatchObject({ method, trainedSteps: [3, 1], earlyStopStep: 0 });
    }
    const [replay, tape] = [readFixture(file('replay.safetensors')), readFixture(file('full-tape.safetensors'))];
    expect(replay.shape('reward')).toEqual([1]);
    expect(replay.shape('x0')).toEqual([2, 4, 4, 6]);
    const names = replay.names.filter((each) => /^unet\..*\.lora_[AB]\.weight$/.test(each));
    expect(names).toHaveLength(replay.names.length - 2);
    for (const name of names) expect(relativeL2(replay.values(name), tape.values(name)), name).toBeLessThan(1e-4);
  });
});

describe('a run by the command line', () => {
  let run = '';
  let events: TrainerEvent[] = [];
  beforeAll(async () => {
    const result = await drtune('train', '--config', config('run.json'), '--set', 'iterations=3', '--name', 'first run', '--json');
    expect(result.err).toBe('');
    const lines = result.out.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
    run = lines.find((each) => each['type'] === 'started')!['run'] as string;
    events = lines.map((each) => trainerEventSchema.parse(each));
  });

  it('says its events as JSON lines and is in the history', async () => {
    expect(events.at(-1)).toMatchObject({ type: 'finished', reason: 'completed', step: 3 });
    expect(events.filter((each) => each.type === 'step')).toHaveLength(3);
    const list = JSON.parse((await drtune('history', '--json')).out) as { runs: { id: string; name: string; state: string }[] };
    expect(list.runs).toMatchObject([{ id: run, name: 'first run', state: 'finished', step: 3 }]);
    const detail = JSON.parse((await drtune('history', 'show', 'first run', '--json')).out) as { steps: unknown[]; checkpoints: unknown[]; images: unknown[] };
    expect([detail.steps.length, detail.checkpoints.length, detail.images.length]).toEqual([3, 2, 6]);
    expect(JSON.parse((await drtune('history', 'list', '--search', 'nothing of the kind', '--json')).out)).toEqual({ runs: [] });
  });

  it('goes on to more iterations and says so', async () => {
    const result = await drtune('train', '--resume', run, '--set', 'iterations=4', '--json');
    expect(result.err).toBe('');
    expect(result.out).toContain('"startIteration":3');
    expect(JSON.parse((await drtune('history', 'show', run, '--json')).out)).toMatchObject({ summary: { state: 'finished', step: 4, iterations: 4 } });
  });

  it('is compared: base above tuned, each pair listed with its scores', async () => {
    const result = await drtune('compare', '--run', run, '--seeds', '0..1', '--out', file('cmp'), '--json');
    expect(result.err).toBe('');
    const { pairs } = JSON.parse(readFileSync(file('cmp/pairs.json'), 'utf8')) as { pairs: { prompt: string; seed: number; base: string; tuned: string; rewards: { base: Record<string, number>; tuned: Record<string, number> } }[] };
    expect(pairs).toHaveLength(8);
    expect(pairs[0]).toMatchObject({ prompt: 'a green tree', seed: 0 });
    for (const each of pairs) expect(readFileSync(file(`cmp/${each.base}`)).equals(readFileSync(file(`cmp/${each.tuned}`)))).toBe(false);
    expect(existsSync(file('cmp/compare.png'))).toBe(true);
  });

  it('is exported in every form, each opened again and its picture compared', async () => {
    for (const [format, out] of [['diffusers', 'exp/lora.safetensors'], ['kohya', 'exp/kohya.safetensors'], ['peft', 'exp/peft'], ['merged', 'exp/merged.safetensors']] as const) {
      const result = await drtune('export', '--run', run, '--format', format, '--out', file(out), '--json', ...wasm);
      expect(result.err).toBe('');
      expect(JSON.parse(result.out)).toMatchObject({ format, path: file(out), step: 4, checked: expect.stringMatching(/^read back, its picture differs/) as string });
    }
    expect(readFixture(file('exp/lora.safetensors')).names.every((each) => /^unet\..*\.lora_[AB]\.weight$/.test(each))).toBe(true);
    expect(readFixture(file('exp/kohya.safetensors')).names.every((each) => /^lora_unet_(input|middle|output)_block.*\.(lora_down\.weight|lora_up\.weight|alpha)$/.test(each))).toBe(true);
    expect(JSON.parse(readFileSync(file('exp/peft/adapter_config.json'), 'utf8'))).toMatchObject({ r: 2 });
    const again = await drtune('export', '--run', run, '--format', 'merged', '--out', file('exp/merged.safetensors'), ...wasm);
    expect([again.code, again.err]).toEqual([1, expect.stringMatching(/^There is already something at .*\n$/)]);
  });

  it('differs from another by its settings, and is gone when deleted', async () => {
    await drtune('train', '--config', config('run.json'), '--set', 'iterations=1', '--set', 'lora.rank=3', '--name', 'second', '--json');
    const diff = await drtune('history', 'diff', run, 'second');
    expect(diff.out).toContain('lora.rank: 2 -> 3');
    expect((await drtune('history', 'delete', 'second')).code).toBe(0);
    expect((JSON.parse((await drtune('history', '--json')).out) as { runs: unknown[] }).runs).toHaveLength(1);
  });

  it('that fails is recorded with its reason', async () => {
    const result = await drtune('train', '--config', config('run.json'), '--set', 'lora.targets=["nowhere"]', '--name', 'bad', '--json');
    expect(result.code).toBe(1);
    expect(result.err.trim().split('\n')).toHaveLength(1);
    expect(JSON.parse((await drtune('history', 'show', 'bad', '--json')).out)).toMatchObject({ summary: { state: 'failed', reason: expect.stringContaining('No linear layer or convolution') as string } });
  });
});

describe('the demo', () => {
  it('tunes, compares on held-out prompts, and leaves sheet, figures and a run', async () => {
    const small = { model: tinyPipeline, 'rewards.1.model': tinyClip, iterations: 2, steps: 3, trainedSteps: 2, batch: 2, samplePrompts: 1, width: 24, height: 16, heldOutPrompts: ['a green tree', 'a boat'] };
    const result = await drtune('demo', '--out', file('demo'), ...wasm, ...Object.entries(small).flatMap(([key, value]) => ['--set', `${key}=${JSON.stringify(value)}`]));
    expect(result.code, result.err).toBe(0);
    expect(result.err).toMatch(/This engine is the slow one/);
    expect(result.out).toMatch(/mirror distance .* -> .*[+-]\d+ %/);
    const run = JSON.parse(readFileSync(file('demo/run.json'), 'utf8')) as { pairs: unknown[]; figures: { name: string }[]; met: boolean };
    expect(run.pairs).toHaveLength(2);
    expect(run.figures.map((each) => each.name)).toEqual(expect.arrayContaining(['mirror distance', 'CLIPScore', 'edge density']));
    expect((await sharp(file('demo/compare.png')).metadata()).width).toBeGreaterThan(200);
    expect(JSON.parse((await drtune('history', 'show', 'demo', '--json')).out)).toMatchObject({ summary: { state: 'finished' } });
  });
});

describe('models and doctor', () => {
  it('adds, verifies and removes a model', async () => {
    expect((await drtune('models', 'add', tinyPipeline)).code).toBe(0);
    expect((JSON.parse((await drtune('models', '--json')).out) as { models: { name: string }[] }).models.map((each) => each.name)).toEqual(['starter', 'pipeline']);
    expect(JSON.parse((await drtune('models', 'verify', 'pipeline', '--json')).out)).toMatchObject({ ok: true, problems: [] });
    expect((await drtune('models', 'remove', 'pipeline')).code).toBe(0);
    expect(await drtune('models', 'verify', file('nan'))).toMatchObject({ code: 1, out: expect.stringMatching(/unet has values that are no numbers .*, first in up_blocks/) as string });
  });

  it('reports the engines', async () => {
    const { out, code } = await drtune('doctor', '--json');
    expect(code).toBe(0);
    const { engines, measured } = JSON.parse(out) as { engines: { name: string; usable: boolean; why: string }[]; measured: Record<string, number | string> };
    expect(engines.map((each) => each.name)).toEqual(engineOrder(process.platform));
    for (const each of engines) expect(each.why).not.toBe('');
    expect(measured).toMatchObject({ engine: expect.any(String), device: expect.stringMatching(/./), running: false });
    expect(measured['imagesPerMinute']).toBeGreaterThan(0);
    expect(measured['memoryBytes']).toBeGreaterThan(1e7);
    expect(measured['peakMemoryBytes']).toBeGreaterThanOrEqual(measured['memoryBytes'] as number);
  });
});
