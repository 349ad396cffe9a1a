import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Catalog } from '../../../src-main/app/catalog.ts';
import { crashWords, LastError } from '../../../src-main/app/crash-words.ts';
import { forecast } from '../../../src-main/app/forecast.ts';
import { modelFacts } from '../../../src-main/app/model-facts.ts';
import { fileInside, runFolder } from '../../../src-main/app/run-folders.ts';
import { folderBytes } from '../../../src-main/base/disk.ts';
import { diffRuns, exportPlace, purgeRun } from '../../../src-main/app/run-library.ts';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { availableBytes } from '../../../src-main/base/memory.ts';
import { memoryNow } from '../../../src-main/app/system.ts';
import { forecastSchema, modelInfoSchema, type ExportFormat } from '../../../src-main/contract/api.ts';
import { addModel, starterPipeline } from '../../../src-main/models/known.ts';
import { makeFakeModel, safetensors } from '../../helpers/fake-model.ts';
import { checkpoint, config, started, step, tempHome } from '../../helpers/temp-home.ts';

describe('why a trainer died, in words', () => {
  it.each([
    [{ code: null, signal: 'SIGKILL' }, '', /out of memory/, /batch|low/],
    [{ code: 137, signal: null }, '', /out of memory/, /batch|low/],
    [{ code: null, signal: 'SIGSEGV' }, '', /engine crashed \(SIGSEGV\)/, /wasm/],
    [{ code: null, signal: 'SIGABRT' }, 'std::bad_alloc', /bad_alloc/, /batch/],
    [{ code: 1, signal: null }, 'TypeError: x is not a function', /exit code 1\): TypeError/, /Log/],
    [{ code: null, signal: 'SIGTERM' }, '', /from outside \(SIGTERM\)/, /^$/],
  ])('%j', (exit, last, message, hint) => {
    const words = crashWords(exit, last);
    expect(words.message).toMatch(message);
    expect(words.hint).toMatch(hint);
  });

  it('keeps the line that tells most', () => {
    const last = new LastError();
    for (const line of ['loading', 'RangeError: out of memory.', '    at file.ts:3', 'bye']) last.see(line);
    expect(last.line).toBe('RangeError: out of memory');
  });
});

describe('files of a run', () => {
  it('stay inside their folder, by name and by link', () => {
    const home = tempHome();
    const folder = runFolder(home, 'run-1');
    mkdirSync(join(folder, 'samples'), { recursive: true });
    writeFileSync(join(home, 'secret'), 'x');
    writeFileSync(join(folder, 'samples', 'a.png'), 'abc');
    symlinkSync(join(home, 'secret'), join(folder, 'link.png'));
    expect(fileInside(folder, 'samples/a.png')).toBe(join(folder, 'samples', 'a.png'));
    for (const path of ['../secret', '../../secret', '/etc/passwd', 'link.png', 'a\0b', '', '.', 'samples/../../run-2/x']) {
      expect(() => fileInside(folder, path), path).toThrow(/leads out|gone/);
    }
    expect(() => fileInside(folder, 'samples/none.png')).toThrow(/gone/);
    expect(folderBytes(folder)).toBe(3);
    expect(folderBytes(join(home, 'nowhere'))).toBe(0);
    for (const id of ['..', '../x', 'a/b', '.hidden', '']) expect(() => runFolder(home, id), id).toThrow(/not the name of a run/);
  });
});

const readFacts = async (paths: readonly string[]) => paths.map(modelFacts);

describe('models', () => {
  it('are described from their files without reading a tensor', () => {
    const home = tempHome();
    const facts = modelFacts(makeFakeModel(join(home, 'm')));
    expect(facts).toMatchObject({ architecture: 'sdxl', width: 64, height: 64, parameters: 24, precision: 'fp32', problems: [] });
  });

  it('that are cut off, foreign or incomplete say what is wrong', () => {
    const home = tempHome();
    const folder = makeFakeModel(join(home, 'm'));
    writeFileSync(join(folder, 'vae/diffusion_pytorch_model.safetensors'), safetensors().subarray(0, 60));
    expect(modelFacts(folder).problems).toEqual([expect.stringMatching(/vae\/diffusion_pytorch_model\.safetensors .*truncated/)]);
    writeFileSync(join(folder, 'unet/config.json'), '{');
    expect(modelFacts(folder).problems).toContainEqual(expect.stringMatching(/unet\/config\.json is not JSON/));
    writeFileSync(join(folder, 'model_index.json'), '{"_class_name":"FluxPipeline"}');
    expect(modelFacts(folder).problems).toEqual([expect.stringMatching(/is a FluxPipeline; this version reads/)]);
    expect(modelFacts(join(home, 'nothing')).problems).toEqual([expect.stringMatching(/There is no model/)]);
  });

  it('are listed with what the contract asks for, and a run on a broken one is refused', async () => {
    const home = tempHome();
    const recorder = RunRecorder.open(home);
    const catalog = new Catalog(home, recorder.records, readFacts);
    const folder = makeFakeModel(join(home, 'fake'));
    addModel(home, folder);
    const models = (await catalog.models()).map((model) => modelInfoSchema.parse(model));
    expect(models.map((model) => model.name)).toEqual(['starter', 'fake']);
    expect(models[0]).toMatchObject({ builtIn: true, usable: true, problem: null, licence: 'Apache-2.0', width: 64 });
    for (const preset of catalog.presets()) await catalog.check(preset.config);
    await catalog.check(config());
    writeFileSync(join(folder, 'unet/diffusion_pytorch_model.safetensors'), '');
    writeFileSync(join(folder, 'model_index.json'), '{"_class_name":"StableDiffusionXLPipeline" }');
    await expect(catalog.check(config())).rejects.toThrow(/"fake" cannot be used/);
    await expect(catalog.check(config({ model: 'nowhere' }))).rejects.toThrow(/no model "nowhere"/);
    await expect(catalog.check(config({ model: 'fake', prompts: '/no/such/file' }))).rejects.toThrow();
    recorder.close();
  });

  it('settings keep what is not changed', () => {
    const recorder = RunRecorder.open(tempHome());
    const catalog = new Catalog('/tmp', recorder.records, readFacts);
    catalog.setSettings({ engine: 'wasm' });
    expect(catalog.setSettings({ theme: 'dark' })).toEqual({ theme: 'dark', language: 'system', engine: 'wasm', notifications: true, updates: false, welcomed: false });
    recorder.close();
  });
});

describe('forecast', () => {
  const model = { architecture: 'sdxl', problems: [], width: 64, height: 64, bytes: 100, parameters: 1e6, precision: 'fp32', licence: '' };

  it('says that nothing was measured before the first run', () => {
    const recorder = RunRecorder.open(tempHome());
    const result = forecastSchema.parse(forecast(config(), { recorder, model, engine: 'wasm', availableBytes: 8e9, freeBytes: 1e11 }));
    expect(result).toMatchObject({ seconds: null, fits: true });
    expect(result.secondsBasis).toMatch(/nothing was measured/);
    recorder.close();
  });

  it('scales measured steps with iterations, batch and sampling steps', () => {
    const recorder = RunRecorder.open(tempHome());
    const base = config({ iterations: 100, sampleEvery: 0, samplePrompts: 0 });
    const id = recorder.createRun({ name: 'before', config: base });
    recorder.record(id, started());
    for (let n = 1; n <= 20; n++) recorder.record(id, step(n, { stepMs: 500, memoryBytes: 5e7 }));
    const ask = (change: Parameters<typeof config>[0]) => forecast(config({ iterations: 100, sampleEvery: 0, samplePrompts: 0, ...change }), { recorder, model, engine: 'wasm', availableBytes: 8e9, freeBytes: 1e11 });
    expect(ask({}).seconds).toBeCloseTo(50, 5);
    expect(ask({ iterations: 200 }).seconds).toBeCloseTo(100, 5);
    expect(ask({ batch: 8 }).seconds).toBeCloseTo(100, 5);
    expect(ask({ steps: 50 }).seconds!).toBeGreaterThan(60);
    expect(ask({ sampleEvery: 10, samplePrompts: 4 }).seconds!).toBeGreaterThan(50);
    expect(ask({}).memoryBytes).toBe(5e7); // of the same shape: measured
    expect(ask({}).secondsBasis).toBe('from 20 measured steps of "before"');
    expect(forecast(base, { recorder, model, engine: 'tensorflow', availableBytes: 1, freeBytes: 1 })).toMatchObject({ seconds: null, fits: false });
    recorder.close();
  });

  it('gives advice where it does not fit', () => {
    const recorder = RunRecorder.open(tempHome());
    const facts = modelFacts(starterPipeline());
    const ask = (batch: number, freeBytes = 1e11) => forecast(config({ batch, width: 1024, height: 1024 }), { recorder, model: facts, engine: 'tensorflow', availableBytes: 4e9, freeBytes });
    const result = ask(32, 10);
    expect(forecastSchema.parse(result)).toMatchObject({ fits: false, plan: { fits: false } });
    expect(result.advice.join(' ')).toMatch(/batch 1 \(\d\.\d GB\).*memory low, width \d+, height \d+ \(.*disk/i);
    expect(result.memoryBytes).toBe(Math.max(...result.plan!.phases.map((each) => each.bytes)));
    recorder.close();
  });
});

describe('runs that are not at work', () => {
  it('are compared setting by setting', () => {
    const recorder = RunRecorder.open(tempHome());
    const a = recorder.createRun({ name: 'a', config: config() });
    const b = recorder.createRun({ name: 'b', config: config({ batch: 2, lora: { rank: 4 } }) });
    expect(diffRuns(recorder, a, b)).toEqual([{ key: 'lora.rank', a: '16', b: '4' }, { key: 'batch', a: '4', b: '2' }]);
    expect(() => diffRuns(recorder, a, 'nope')).toThrow(/no run "nope"/);
    recorder.close();
  });

  it('are exported under a safe name and read back, for diffusers and for PEFT', () => {
    const home = tempHome();
    const recorder = RunRecorder.open(home);
    const id = recorder.createRun({ name: '../weird / näme', config: config() });
    expect(() => exportPlace(recorder, id, 'diffusers', false)).toThrow(/no checkpoint/);
    const file = join(recorder.runDir(id), 'checkpoints', 'step-3.safetensors');
    mkdirSync(dirname(file));
    writeFileSync(file, '');
    recorder.record(id, checkpoint(3));
    const place = (format: ExportFormat, single = false): string => {
      const { out, ...rest } = exportPlace(recorder, id, format, single);
      expect(rest).toEqual({ checkpoint: file, step: 3 });
      expect(dirname(out)).toBe(join(home, 'exports'));
      return basename(out).replace(id.slice(-6), 'ID');
    };
    expect(place('diffusers')).toBe('weird-na-me-ID-step-3.safetensors');
    expect(place('kohya')).toBe('weird-na-me-ID-step-3-kohya.safetensors');
    expect(place('peft')).toBe('weird-na-me-ID-step-3-peft');
    expect(place('merged')).toBe('weird-na-me-ID-step-3-merged');
    mkdirSync(join(home, 'exports'));
    writeFileSync(exportPlace(recorder, id, 'merged', true).out, '');
    expect(place('merged', true)).toBe('weird-na-me-ID-step-3-2-merged.safetensors');
    expect(() => exportPlace(recorder, id, 'diffusers', false, 9)).toThrow(/no checkpoint at step 9/);
    recorder.close();
  });

  it('are purged from the trash only', () => {
    const recorder = RunRecorder.open(tempHome());
    const id = recorder.createRun({ name: 'x', config: config() });
    recorder.record(id, step(1));
    expect(() => purgeRun(recorder, id)).toThrow(/not in the trash/);
    recorder.runs.set(id, { deleted_at: 1 });
    purgeRun(recorder, id);
    expect(() => recorder.detail(id)).toThrow(/no run/);
    expect(recorder.history.db.prepare('SELECT count(*) FROM steps').pluck().get()).toBe(0);
    recorder.close();
  });
});

it('memory is told in plausible bytes', () => {
  const memory = memoryNow();
  expect(memory.usedBytes).toBeGreaterThan(10e6);
  expect(availableBytes()).toBeLessThanOrEqual(memory.totalBytes);
});
