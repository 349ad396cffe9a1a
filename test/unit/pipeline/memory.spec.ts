/** Parts of a pipeline in half precision, leaving memory and coming back: the same pictures. */
import { cpSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { readFloatsSync, scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import type { Pipeline, PipelineMemory } from '../../../src-main/pipeline/pipeline.ts';
import { textToImage } from '../../../src-main/pipeline/sample.ts';
import { openSession } from '../../../src-main/train/session.ts';
import { singleGradient } from '../../../src-main/train/single-gradient.ts';
import { openSafetensors } from '../../../src-main/weights/safetensors.ts';
import { floatToHalf } from '../../../src-main/weights/half.ts';
import { writeTensors } from '../../../src-main/weights/write.ts';
import { tempHome } from '../../helpers/temp-home.ts';
import { tinyConfig, tinyPipeline } from '../../helpers/tiny.ts';

const files = ['unet/diffusion_pytorch_model', 'vae/diffusion_pytorch_model', 'text_encoder/model', 'text_encoder_2/model'];
const options = { negativePrompt: 'blurred', guidance: 2, width: 24, height: 16 };

/** The tiny pipeline with its weights in half precision. */
function halfPipeline(dtype: 'F16' | 'BF16'): string {
  const folder = join(tempHome(), 'half');
  cpSync(tinyPipeline, folder, { recursive: true });
  for (const file of files) {
    using source = openSafetensors(join(tinyPipeline, `${file}.safetensors`));
    const bits = (values: Float32Array<ArrayBuffer>): Uint16Array => (dtype === 'F16' ? floatToHalf(values) : Uint16Array.from(new Uint32Array(values.buffer), (each) => each >>> 16));
    writeTensors(join(folder, `${file}.safetensors`), [...source.entries.values()].map(({ name, shape }) => ({
      name, shape, dtype, read: () => new Uint8Array(bits(source.readFloats(name)).buffer),
    })));
  }
  return folder;
}

const keeping = (precision: 'float32' | 'stored' | 'half', leave: ('textEncoders' | 'vae')[] = [], memory: 'residuals' | 'recompute' = 'residuals'): PipelineMemory =>
  ({ unet: { precision, memory }, vae: { precision, memory }, text: precision, leave: new Set(leave) });

const picture = (pipeline: Pipeline): Float32Array => scope(() =>
  readFloatsSync(textToImage(pipeline, { ...options, prompts: ['a red apple', 'the house'], scheduler: 'euler', steps: 3, seed: 5 })!.image));

describe('a pipeline that saves memory', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ prefer: 'auto', home: drtuneHome() });
  });

  it.each(['F16', 'BF16'] as const)('paints the bits of float32 with weights kept in %s', async (dtype) => {
    const folder = halfPipeline(dtype);
    const [full, stored] = [await openPipeline(engine, folder), await openPipeline(engine, folder, { memory: keeping('stored', ['textEncoders', 'vae']) })];
    expect(picture(stored)).toEqual(picture(full));
    if (engine.half) expect(stored.info.weightBytes).toBeLessThan(0.6 * full.info.weightBytes);
    expect(stored.info.parameters).toBe(full.info.parameters);
    full.dispose();
    stored.dispose();
  });

  it('rounds float32 where told, and only a little', async () => {
    const [full, half] = [await openPipeline(engine, tinyPipeline), await openPipeline(engine, tinyPipeline, { memory: keeping('half') })];
    const [a, b] = [picture(full), picture(half)];
    const distance = Math.sqrt(a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0) / a.reduce((sum, x) => sum + x * x, 0));
    expect(distance).toBeLessThan(0.01);
    if (engine.half) expect(distance).toBeGreaterThan(0);
    full.dispose();
    half.dispose();
  });

  it('loads nothing before it is used, and frees what leaves', async () => {
    const before = tensorCount();
    const pipeline = await openPipeline(engine, tinyPipeline, { memory: keeping('float32', ['textEncoders', 'vae']) });
    expect(pipeline.info.parameters).toBeGreaterThan(10_000);
    expect(tensorCount()).toBe(before);
    pipeline.rememberPrompts(['a red apple', 'the house'], options);
    expect(tensorCount()).toBe(before); // encoded, and gone
    await pipeline.load();
    const withUNet = tensorCount();
    expect(withUNet).toBeGreaterThan(before + 50);
    picture(pipeline);
    expect(tensorCount()).toBe(withUNet); // the VAE has come and gone
    pipeline.dispose();
    expect(tensorCount()).toBe(before);
  });

  it('does not read the text encoders again for prompts it remembers', async () => {
    const folder = join(tempHome(), 'copy');
    cpSync(tinyPipeline, folder, { recursive: true });
    const full = await openPipeline(engine, folder);
    const pipeline = await openPipeline(engine, folder, { memory: keeping('float32', ['textEncoders']) });
    pipeline.rememberPrompts(['a red apple', 'the house'], options);
    renameSync(join(folder, 'text_encoder/model.safetensors'), join(folder, 'text_encoder/gone'));
    expect(picture(pipeline)).toEqual(picture(full));
    expect(() => pipeline.encodePrompts(['something else'], options)).toThrow(/text_encoder/);
    full.dispose();
    pipeline.dispose();
  });

  it('gives the same gradient however it keeps things, as the plan says', async () => {
    const deps = { engine, home: tempHome() };
    const gradientsOf = async (memory: 'fast' | 'low'): Promise<Map<string, Float32Array>> => {
      const session = await openSession(tinyConfig({ memory }), deps);
      const before = tensorCount();
      expect(session.plan).toMatchObject({ unet: memory === 'low' ? 'recompute' : 'residuals', picturesAtOnce: memory === 'low' ? 1 : 2 });
      const { gradients, x0 } = singleGradient(session, 'replay');
      const values = new Map([...gradients].map(([name, tensor]) => [name, readFloatsSync(tensor)]));
      for (const tensor of [x0, ...gradients.values()]) tensor.dispose();
      expect(tensorCount()).toBe(before);
      session.dispose();
      return values;
    };
    const [fast, low] = [await gradientsOf('fast'), await gradientsOf('low')];
    for (const [name, values] of fast) {
      const scale = Math.max(...values.map(Math.abs), 1e-12);
      low.get(name)!.forEach((value, i) => expect(Math.abs(value - values[i]!) / scale, name).toBeLessThan(1e-4));
    }
  });

  it('refuses what cannot fit before anything is loaded', async () => {
    const before = tensorCount();
    const session = await openSession(tinyConfig({}), { engine, home: tempHome() });
    const plan = { ...session.plan, fits: false, availableBytes: 1e9, peakBytes: 2e9, advice: ['memory low (0.8 GB)'] };
    session.dispose();
    await expect(openSession(tinyConfig({}), { engine, home: tempHome(), plan })).rejects.toThrow(/needs about 2\.0 GB.*1\.0 GB are available/);
    expect(tensorCount()).toBe(before);
  });
});
