import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../../../src-main/base/errors.ts';
import { cancelled } from '../../../src-main/base/work.ts';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { readFloatsSync, tensorCount } from '../../../src-main/engine/scope.ts';
import { tf, type Tensor2D } from '../../../src-main/engine/tf.ts';
import type { Adapter, LoraTarget } from '../../../src-main/nn/lora.ts';
import { disposeAdapter } from '../../../src-main/pipeline/adapter.ts';
import { encodePng, toBytes } from '../../../src-main/pipeline/images.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import { NoiseStreams } from '../../../src-main/pipeline/noise.ts';
import { pipelineFolder } from '../../golden/architectures/pipelines.ts';
import { denoise, initialNoise, sampleAt, sampling, textToImage } from '../../../src-main/pipeline/sample.ts';

const source = new URL('../../golden/models/fixtures/linear', import.meta.url).pathname;
let engine: Engine;
let root: string;
let folder: string;
beforeAll(async () => {
  engine = await openEngine({ prefer: 'wasm', home: drtuneHome() });
  root = mkdtempSync(join(tmpdir(), 'pipeline-'));
});
afterAll(() => rmSync(root, { recursive: true }));
beforeEach(() => {
  folder = join(root, 'model');
  rmSync(folder, { recursive: true, force: true });
  cpSync(source, folder, { recursive: true });
});

function edit(file: string, change: (json: Record<string, unknown>) => void): void {
  const json = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Record<string, unknown>;
  change(json);
  writeFileSync(join(folder, file), JSON.stringify(json));
}

async function refusal(): Promise<string> {
  const before = tensorCount();
  const error = await openPipeline(engine, folder).then(() => undefined, (e: unknown) => e);
  expect(error).toBeInstanceOf(AppError);
  expect((error as AppError).line).not.toContain('\n');
  expect(tensorCount()).toBe(before); // nothing half-loaded stays
  return (error as AppError).message;
}

describe('a model folder', () => {
  it.each<[string, () => void, string]>([
    ['is missing', () => rmSync(folder, { recursive: true }), 'There is no model'],
    ['is an empty file', () => { rmSync(folder, { recursive: true }); writeFileSync(folder, ''); }, 'not a usable safetensors file'],
    ['has no model_index.json', () => rmSync(join(folder, 'model_index.json')), 'no model_index.json'],
    ['says it is Stable Diffusion 1.5, with a network of SDXL', () => edit('model_index.json', (j) => { j['_class_name'] = 'StableDiffusionPipeline'; delete j['text_encoder_2']; }), 'the pipeline one text encoder'],
    ['is FLUX', () => edit('model_index.json', (j) => { j['_class_name'] = 'FluxPipeline'; j['transformer'] = ['diffusers', 'FluxTransformer2DModel']; }), 'whose network is a transformer'],
    ['is an inpainting model', () => edit('unet/config.json', (j) => { j['in_channels'] = 9; }), 'an inpainting network, which takes a mask'],
    ['is the refiner', () => edit('model_index.json', (j) => { j['text_encoder'] = [null, null]; }), 'the SDXL refiner'],
    ['has another VAE', () => edit('model_index.json', (j) => { j['vae'] = ['diffusers', 'AutoencoderTiny']; }), 'this version reads AutoencoderKL'],
    ['has no UNet', () => rmSync(join(folder, 'unet'), { recursive: true }), join('unet', 'config.json')],
    ['has a truncated VAE', () => truncateSync(join(folder, 'vae/diffusion_pytorch_model.fp16.safetensors'), 30_000), 'truncated'],
    ['has another width of text', () => edit('unet/config.json', (j) => { j['cross_attention_dim'] = 28; }), 'do not fit its config.json'],
    ['has weights of another size', () => edit('unet/config.json', (j) => { j['block_out_channels'] = [8, 16, 32]; }), 'of another shape'],
    ['has a broken config', () => writeFileSync(join(folder, 'vae/config.json'), '{'), 'is not JSON'],
    ['has no tokenizer', () => rmSync(join(folder, 'tokenizer_2'), { recursive: true }), 'neither tokenizer.json'],
    ['has an empty vocabulary', () => writeFileSync(join(folder, 'tokenizer/tokenizer.json'), '{"model":{"merges":[]}}'), 'holds no vocabulary'],
    ['has no scheduler', () => rmSync(join(folder, 'scheduler'), { recursive: true }), 'scheduler_config.json'],
  ])('%s: one line', async (_, spoil, words) => {
    spoil();
    expect(await refusal()).toContain(words);
  });

  it('is Stable Diffusion 1.5 with all that goes with it: a safety checker, an image processor, no image encoder', async () => {
    rmSync(folder, { recursive: true });
    pipelineFolder('sd1', root);
    cpSync(join(root, 'sd1'), folder, { recursive: true });
    edit('model_index.json', (j) => {
      j['safety_checker'] = ['stable_diffusion', 'StableDiffusionSafetyChecker'];
      j['feature_extractor'] = ['transformers', 'CLIPImageProcessor'];
      j['image_encoder'] = [null, null];
    });
    mkdirSync(join(folder, 'safety_checker'));
    const pipeline = await openPipeline(engine, folder);
    expect(pipeline.info).toMatchObject({ architecture: 'sd1', vaeFactor: 8 });
    expect(() => pipeline.encodePrompts(['a'], { negativePrompt: null, guidance: 1, width: 8, height: 8, cropTopLeft: [0, 0] })).toThrow('only SDXL is told of sizes');
    pipeline.dispose();
  });

  it('loads with extra files around', async () => {
    mkdirSync(join(folder, 'onnx'));
    const before = tensorCount();
    const pipeline = await openPipeline(engine, folder, { name: 'tiny' });
    expect(pipeline.info).toMatchObject({ name: 'tiny', vaeFactor: 2, latentChannels: 4, defaultWidth: 18, defaultHeight: 18 });
    expect(pipeline.info.weightBytes).toBe(pipeline.info.parameters * 4);
    pipeline.dispose();
    expect(tensorCount()).toBe(before);
  });
});

describe('a pipeline', () => {
  it('refuses sizes that do not fit, and noise of another shape', async () => {
    const pipeline = await openPipeline(engine, folder);
    const options = { prompts: ['a'], guidance: 1, width: 8, height: 8, scheduler: 'ddim', steps: 1, seed: 0 };
    const before = tensorCount();
    expect(() => textToImage(pipeline, { ...options, width: 9 })).toThrow('The width is 9 pixels, expected a multiple of 2');
    expect(() => textToImage(pipeline, { ...options, scheduler: 'lcm', steps: 51 })).toThrow('this sampler has 50 at most');
    const noise = initialNoise(0, 1, 4, 3, 4);
    expect(() => textToImage(pipeline, { ...options, noise })).toThrow('expected [1,4,4,4]');
    noise.dispose();
    expect(tensorCount()).toBe(before);
    pipeline.dispose();
  });

  it('counts tokens and shows what is cut', async () => {
    const pipeline = await openPipeline(engine, folder);
    expect(pipeline.countTokens('a boat')).toEqual({ tokens: 4, limit: 11, chunks: 1, cut: '' });
    const long = pipeline.countTokens('a boat a boat a boat a boat a boat on the sea');
    expect(long.tokens).toBe(15);
    expect(long.cut).toBe('boat on the sea');
    const chunks = pipeline.countTokens('a boat a boat a boat a boat a boat on the sea', { longPrompts: 'chunk' });
    expect(chunks).toEqual({ tokens: 15, limit: 11, chunks: 2, cut: '' });
    pipeline.dispose();
  });

  it('can be stopped at any step, leaving nothing behind', async () => {
    const pipeline = await openPipeline(engine, folder);
    const options = { prompts: ['a', 'b'], guidance: 3, width: 8, height: 12, scheduler: 'euler', steps: 3, seed: 5 };
    const before = tensorCount();
    for (const stopAt of [0, 1, 2]) for (const { step } of sampling(pipeline, options)) if (step === stopAt) break;
    await expect(sampleAt({ at: () => Promise.reject(cancelled()) }, { what: 'painting', before: 0, total: 2 }, pipeline, options)).rejects.toMatchObject({ code: 'cancelled' });
    expect(tensorCount()).toBe(before);
    const noise = initialNoise(5, 2, 6, 4, 4);
    const conditioning = pipeline.encodePrompts(options.prompts, { negativePrompt: '', guidance: 3, width: 8, height: 12 });
    for (const { step } of denoise(pipeline, { adapter: null, conditioning, scheduler: pipeline.scheduler('ddim', 4), noise, streams: new NoiseStreams([5, 6], [6, 4, 4]) })) if (step === 1) break;
    conditioning.dispose();
    noise.dispose();
    expect(tensorCount()).toBe(before);
    pipeline.dispose();
  });

  it('begins with a LoRA late: every step before is the base model\'s, to the bit, prompts included', async () => {
    const pipeline = await openPipeline(engine, folder);
    const options = { prompts: ['a boat', 'the sea'], guidance: 3, width: 8, height: 12, scheduler: 'dpmpp2m', steps: 4, seed: 5 };
    const adapter = (modules: readonly LoraTarget[]): Adapter => ({
      scale: 1, modules: Object.fromEntries(modules.map(({ path, inFeatures, outFeatures }) => [path, { matrices: { 'lora_A.weight': tf.fill([1, inFeatures], 0.2) as Tensor2D, 'lora_B.weight': tf.fill([outFeatures, 1], 0.3) as Tensor2D } }])),
    });
    const lora = { adapter: adapter(pipeline.loraTargets(['to_q', 'to_v'])), textAdapters: { text_encoder: adapter(pipeline.loraModules().text_encoder!.filter(({ path }) => path.endsWith('v_proj'))) } };
    const latents = (more: object): number[][] => {
      const steps: number[][] = [];
      const painting = sampling(pipeline, { ...options, ...more });
      let next = painting.next();
      for (; !next.done; next = painting.next()) steps.push([...readFloatsSync(next.value.latents)]);
      tf.dispose(Object.values(next.value));
      return steps;
    };
    const [base, tuned, late] = [latents({}), latents(lora), latents({ ...lora, loraFrom: 2 })];
    expect(late.slice(0, 2)).toEqual(base.slice(0, 2));
    for (const step of [2, 3]) for (const other of [base, tuned]) expect(late[step]).not.toEqual(other[step]);
    expect(latents({ ...lora, loraFrom: 0 })).toEqual(tuned);
    expect(latents({ ...lora, loraFrom: 4 })).toEqual(base);
    expect(() => latents({ ...lora, loraFrom: 5 })).toThrow('sampling step 5, but there are 4');
    for (const each of [lora.adapter, lora.textAdapters.text_encoder]) disposeAdapter(each);
    pipeline.dispose();
  });

  it('gives picture i the seed + i', () => {
    const [pair, single] = [initialNoise(7, 2, 3, 5, 4), initialNoise(8, 1, 3, 5, 4)];
    expect(readFloatsSync(pair).slice(60)).toEqual(readFloatsSync(single));
    tf.dispose([pair, single]);
  });
});

describe('pictures', () => {
  it('become PNG files with their text inside', async () => {
    const image = tf.tensor4d([0, 0.5, 1, 2, -1, 0.25], [1, 1, 2, 3]);
    const png = await encodePng(image, { text: { prompt: 'ein Bär 🐻' } });
    image.dispose();
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    expect([info.width, info.height, info.channels]).toEqual([2, 1, 3]);
    expect([...data]).toEqual([0, 128, 255, 255, 0, 64]);
    expect(png.includes(Buffer.from('ein Bär 🐻'))).toBe(true);
  });

  it('round as numpy does', () => {
    expect([...toBytes(Float32Array.of(0.5 / 255, 1.5 / 255, 2.5 / 255))].every((v, i) => Math.abs(v - [0, 2, 2][i]!) <= 1)).toBe(true);
    expect([...toBytes(Float32Array.of(NaN, 0.5))]).toEqual([0, 128]);
  });
});
