import { cpSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { cancelled } from '../../../src-main/base/work.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { TorchGenerator } from '../../../src-main/engine/rng.ts';
import { readFloatsSync, scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor2D } from '../../../src-main/engine/tf.ts';
import { openModelFiles } from '../../../src-main/models/files.ts';
import type { Adapter, LoraModule, LoraSet } from '../../../src-main/nn/lora.ts';
import { createAdapter, disposeAdapter, disposeLoras } from '../../../src-main/pipeline/adapter.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import { readLoras } from '../../../src-main/pipeline/lora-file.ts';
import { exportRunLora, type ExportReport, type ExportRequest } from '../../../src-main/pipeline/lora/export.ts';
import { writeMerged } from '../../../src-main/pipeline/lora/merge.ts';
import { writeDiffusersLora } from '../../../src-main/pipeline/lora/write.ts';
import type { Pipeline } from '../../../src-main/pipeline/pipeline.ts';
import { textToImage } from '../../../src-main/pipeline/sample.ts';
import { openSafetensors, writeSafetensors } from '../../../src-main/weights/safetensors.ts';
import { relativeL2 } from '../../helpers/fixture.ts';
import { tinyPipeline } from '../../helpers/tiny.ts';

const root = mkdtempSync(join(tmpdir(), 'lora-export-'));
const at = (...names: string[]): string => join(root, ...names);
let engine: Engine;
/** What base and checkpoint paint, of another prompt and seed than the export's own check. */
let expected: Float32Array;

/** An adapter whose B is not zero, for some linear layers and convolutions. */
function adapterOf(pipeline: Pipeline, strength: number): Adapter {
  const adapter = createAdapter(pipeline.loraTargets(['to_q', 'to_out.0', 'conv1', 'proj_out']), { rank: 2, alpha: 3, seed: 1 });
  const generator = new TorchGenerator(2);
  const modules = Object.fromEntries(Object.entries(adapter.modules).map(([path, pair]) => {
    const b = pair!.matrices['lora_B.weight']!;
    b.dispose();
    return [path, { ...pair!, matrices: { ...pair!.matrices, 'lora_B.weight': tf.tensor2d(generator.randn(b.size).map((value) => value * strength), b.shape) } }];
  }));
  return { scale: adapter.scale, modules };
}

function sample(pipeline: Pipeline, set: LoraSet = {}): Float32Array {
  return scope(() => Float32Array.from(readFloatsSync(textToImage(pipeline, {
    prompts: ['the house'], negativePrompt: 'a cat', guidance: 3, width: 24, height: 16, scheduler: 'ddim', steps: 2, seed: 9, adapter: set.unet ?? null, textAdapters: set,
  })!.latents)));
}

beforeAll(async () => {
  engine = await openEngine({ prefer: 'auto', home: drtuneHome() });
  const pipeline = await openPipeline(engine, tinyPipeline);
  for (const [name, strength] of [['strong', 0.2], ['weak', 2e-5], ['zero', 0]] as const) {
    const adapter = adapterOf(pipeline, strength);
    writeDiffusersLora(at(`${name}.safetensors`), { unet: adapter });
    if (name === 'strong') expected = sample(pipeline, { unet: adapter });
    disposeAdapter(adapter);
  }
  pipeline.dispose();
}, 60_000);
afterAll(() => rmSync(root, { recursive: true, force: true }));

async function run(change: Partial<ExportRequest>): Promise<{ report: ExportReport; phases: string[] }> {
  const phases = new Set<string>();
  const report = await exportRunLora(engine, {
    model: { name: 'tiny', path: tinyPipeline }, checkpoint: at('strong.safetensors'), format: 'diffusers', out: at('out'), prompt: 'a red apple', run: 'r', step: 3, ...change,
  }, { at: async (what) => void phases.add(what) });
  return { report, phases: [...phases] };
}

async function painted(model: string, lora?: string): Promise<Float32Array> {
  const pipeline = await openPipeline(engine, model);
  const set = lora === undefined ? {} : readLoras(lora, pipeline.loraModules());
  try {
    return sample(pipeline, set);
  } finally {
    disposeLoras(set);
    pipeline.dispose();
  }
}

describe('an export', () => {
  it.each([
    ['diffusers', 'd', ['pytorch_lora_weights.safetensors']],
    ['diffusers', 'd.safetensors', null],
    ['kohya', 'k/style.safetensors', null],
    ['peft', 'p', ['adapter_config.json', 'adapter_model.safetensors']],
    ['merged', 'm', ['model_index.json', 'scheduler', 'text_encoder', 'text_encoder_2', 'tokenizer', 'tokenizer_2', 'unet', 'vae']],
    ['merged', 'm.safetensors', null],
  ] as const)('as %s in %s paints what the checkpoint paints, and leaves nothing else', async (format, name, inside) => {
    const alive = tensorCount();
    const { report, phases } = await run({ format, out: at('good', name) });
    expect(tensorCount()).toBe(alive);
    expect(phases.length).toBeGreaterThan(3);
    expect(report.difference).toBeLessThan(1e-5);
    expect(report.fromBase).toBeGreaterThan(0.01);
    expect(report.bytes).toBeGreaterThan(1000);
    if (inside) expect(readdirSync(at('good', name)).sort()).toEqual([...inside]);
    expect(readdirSync(at('good')).filter((each) => each.startsWith('.'))).toEqual([]);
    const ours = format === 'merged' ? await painted(report.path) : await painted(tinyPipeline, report.path);
    expect(relativeL2(ours, expected)).toBeLessThan(1e-5);
  });

  it('with a text encoder\'s LoRA is merged whole, though the file\'s names lack "text_model."', async () => {
    const pipeline = await openPipeline(engine, tinyPipeline);
    const [unet, drawn] = [adapterOf(pipeline, 0.2), createAdapter(pipeline.loraModules().text_encoder!, { rank: 2, alpha: 3, seed: 1 })];
    const moved = (own: LoraModule): LoraModule => ({ ...own, matrices: { ...own.matrices, 'lora_B.weight': tf.add<Tensor2D>(own.matrices['lora_B.weight']!, 0.3) } });
    const text: Adapter = { ...drawn, modules: Object.fromEntries(Object.entries(drawn.modules).map(([path, own]) => [path, moved(own!)])) };
    writeDiffusersLora(at('text.safetensors'), { unet, text_encoder: text });
    for (const adapter of [unet, drawn]) disposeAdapter(adapter);
    pipeline.dispose();
    const { report } = await run({ checkpoint: at('text.safetensors'), format: 'merged', out: at('text-merged') });
    expect(report.modules).toBe(Object.keys(unet.modules).length + Object.keys(text.modules).length);
    const [merged, beside, plain] = [await painted(report.path), await painted(tinyPipeline, at('text.safetensors')), await painted(tinyPipeline, at('strong.safetensors'))];
    expect([relativeL2(merged, beside) < 1e-5, relativeL2(beside, plain) > 1e-3]).toEqual([true, true]);
  });

  it('takes the place of an older one of its kind', async () => {
    const out = at('again.safetensors');
    writeFileSync(out, 'old');
    await run({ out });
    expect(openSafetensors(out).entries.size).toBeGreaterThan(10);
    expect(openSafetensors(out).metadata).toMatchObject({ drtune_run: 'r', drtune_step: '3' });
  });

  it('from a model in one file becomes one file and a folder', async () => {
    await run({ format: 'merged', out: at('one', 'base.safetensors') });
    const model = { name: 'one', path: at('one', 'base.safetensors') };
    const file = (await run({ format: 'merged', model, out: at('one', 'twice.safetensors') })).report;
    const folder = (await run({ format: 'merged', model, out: at('one', 'folder') })).report;
    for (const { path, difference } of [file, folder]) {
      expect(difference).toBeLessThan(1e-5);
      expect(relativeL2(await painted(path), await painted(model.path, at('strong.safetensors')))).toBeLessThan(1e-5);
    }
    expect(openModelFiles(at('one', 'folder')).architecture).toBe('sdxl');
  });

  it('keeps the base\'s half precision, whose rounding it allows for', async () => {
    const base = halved('half');
    const { report } = await run({ format: 'merged', model: { name: 'half', path: base }, out: at('half-merged') });
    expect(report.bound).toBe(5e-3);
    expect(report.difference).toBeGreaterThan(1e-6);
    const [before, after] = [base, at('half-merged')].map((folder) => openSafetensors(join(folder, 'unet', 'diffusion_pytorch_model.safetensors')));
    expect([...after!.entries.values()].map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual([...before!.entries.values()].map(({ name, dtype, shape }) => [name, dtype, shape]));
    expect(after!.readRaw('conv_in.weight')).toEqual(before!.readRaw('conv_in.weight'));
    const adapted = 'mid_block.resnets.0.conv1.weight';
    expect(after!.readRaw(adapted)).not.toEqual(before!.readRaw(adapted));
    // the same with the weights of every other form of the part left behind
    writeFileSync(join(base, 'unet', 'diffusion_pytorch_model.bin'), 'stale');
    mkdirSync(join(base, 'unet', 'onnx'));
    writeFileSync(join(base, 'README.md'), 'read me');
    symlinkSync(join(base, 'gone'), join(base, 'leads-nowhere'));
    renameSync(join(base, 'vae'), at('vae-elsewhere'));
    symlinkSync(at('vae-elsewhere'), join(base, 'vae'), 'junction');
    writeFileSync(join(base, 'whole-model.safetensors'), 'stale');
    const { unet } = await set(base);
    writeMerged(openModelFiles(base), { unet }, at('half-copy'), 'x');
    disposeAdapter(unet);
    expect(readdirSync(at('half-copy', 'vae')).sort()).toEqual(['config.json', 'diffusion_pytorch_model.safetensors']);
    expect(lstatSync(at('half-copy', 'vae')).isDirectory()).toBe(true);
    expect(readdirSync(at('half-copy', 'unet')).sort()).toEqual(['config.json', 'diffusion_pytorch_model.safetensors']);
    expect(existsSync(at('half-copy', 'README.md')) && !existsSync(at('half-copy', 'whole-model.safetensors'))).toBe(true);
  });

  it.each([
    ['of a LoRA that changes nothing', { checkpoint: 'zero' }, /changes nothing/],
    ['whose change is lost in rounding', { checkpoint: 'weak', format: 'merged', half: true }, /float16 rounds away what step 3 has learnt/],
    ['onto a model that is there', { format: 'merged', out: 'taken' }, /already something at .*taken/],
    ['of PEFT to a file', { format: 'peft', out: 'x.safetensors' }, /PEFT reads a folder/],
    ['of PEFT into a folder of other things', { format: 'peft', out: 'taken' }, /holds other things/],
    ['of a checkpoint for another model', { checkpoint: 'foreign' }, /does not fit: it has 1 modules that this model/],
    ['to a place that cannot be made', { out: 'strong.safetensors/x/y.safetensors' }, /strong\.safetensors\/x could not be written: \S*strong\.safetensors is a file\./],
  ] as Array<[string, { checkpoint?: string; format?: ExportRequest['format']; out?: string; half?: boolean }, RegExp]>)('%s is refused in one line and leaves nothing', async (_, change, words) => {
    mkdirSync(at('taken'), { recursive: true });
    writeFileSync(at('taken', 'mine.txt'), 'mine');
    writeSafetensors(at('foreign.safetensors'), { 'unet.a.b.lora_A.weight': { shape: [1, 1], data: new Float32Array(1) }, 'unet.a.b.lora_B.weight': { shape: [1, 1], data: new Float32Array(1) } });
    const model = { name: 'x', path: change.half ? halved(`half-${Math.random()}`) : tinyPipeline };
    const before = readdirSync(root).sort();
    const alive = tensorCount();
    const out = at(change.out ?? 'refused/x');
    await expect(run({ format: change.format ?? 'diffusers', out, model, checkpoint: at(`${change.checkpoint ?? 'strong'}.safetensors`) })).rejects.toThrow(words);
    expect(readdirSync(root).sort()).toEqual(before);
    expect(readFileSync(at('taken', 'mine.txt'), 'utf8')).toBe('mine');
    expect(tensorCount()).toBe(alive);
  });

  it.each([
    ['peft', 'x', 'loading the model'], ['peft', 'x', 'painting with the checkpoint'], ['peft', 'x', 'writing'], ['kohya', 'x.safetensors', 'painting with what was written'],
    ['merged', 'x', 'merging and writing'], ['merged', 'x.safetensors', 'merging and writing'], ['merged', 'x', 'painting with what was written'],
  ] as const)('as %s in %s that is cancelled while %s leaves nothing', async (format, name, place) => {
    const alive = tensorCount();
    const before = readdirSync(root).sort();
    let told = 0;
    const job = exportRunLora(engine, { model: { name: 'tiny', path: tinyPipeline }, checkpoint: at('strong.safetensors'), format, out: at('stopped', name), prompt: 'a', run: 'r', step: 1 }, {
      at: async (what) => {
        if (what === place && ++told === 2 - Number(what === 'writing')) throw cancelled();
      },
    });
    await expect(job).rejects.toMatchObject({ code: 'cancelled' });
    expect(readdirSync(root).sort()).toEqual(before);
    expect(tensorCount()).toBe(alive);
  });
});

async function set(model: string): Promise<{ unet: Adapter }> {
  const pipeline = await openPipeline(engine, model);
  const { unet } = readLoras(at('strong.safetensors'), pipeline.loraModules());
  pipeline.dispose();
  return { unet: unet! };
}

/** The tiny pipeline with its UNet in half precision. */
function halved(name: string): string {
  const folder = at(name);
  cpSync(tinyPipeline, folder, { recursive: true });
  const file = join(folder, 'unet', 'diffusion_pytorch_model.safetensors');
  using source = openSafetensors(file);
  const tensors = Object.fromEntries([...source.entries.values()].map((entry) => [entry.name, { shape: entry.shape, data: source.readFloats(entry.name) }]));
  writeSafetensors(file, tensors, { dtype: 'F16', metadata: { format: 'pt' } });
  return folder;
}
