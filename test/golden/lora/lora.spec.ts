/** LoRA files of every form against what diffusers and peft sample with them (make_lora.py). */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { readFloatsSync, scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor, type Tensor2D, type Tensor3D, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { ConfigReader } from '../../../src-main/models/config.ts';
import { openModelFiles } from '../../../src-main/models/files.ts';
import { loadUNet, unetForward, unetLoraTargets } from '../../../src-main/models/unet.ts';
import { unetConfig } from '../../../src-main/models/unet-config.ts';
import type { LoraModule, LoraSet } from '../../../src-main/nn/lora.ts';
import { combineLoras, disposeLoras } from '../../../src-main/pipeline/adapter.ts';
import { toChannelsFirst, toChannelsLast } from '../../../src-main/pipeline/images.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import { readLoras } from '../../../src-main/pipeline/lora-file.ts';
import { kohyaWriter, nameReader } from '../../../src-main/pipeline/lora/names.ts';
import { writeMerged } from '../../../src-main/pipeline/lora/merge.ts';
import { writeDiffusersLora, writeKohyaLora } from '../../../src-main/pipeline/lora/write.ts';
import type { Pipeline } from '../../../src-main/pipeline/pipeline.ts';
import { textToImage } from '../../../src-main/pipeline/sample.ts';
import { openSafetensors } from '../../../src-main/weights/safetensors.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';
import { pipelineFolder } from '../architectures/pipelines.ts';

const here = import.meta.dirname;
const fixture = readFixture(join(here, 'expected.safetensors'));
const tolerance = 1e-4;

/** LoRA files with strengths -> key of the latents. */
const cases: Array<{ base: 'sdxl' | 'sd1'; cells: [number, number]; samplings: Array<{ key: string; loras: Array<[string, number]> }> }> = [
  { base: 'sdxl', cells: [12, 8], samplings: [
    { key: 'base.sdxl', loras: [] },
    { key: 'kohya-sdxl', loras: [['kohya-sdxl.safetensors', 1]] },
    { key: 'locon-sdxl', loras: [['locon-sdxl.safetensors', 1]] },
    { key: 'two-sdxl', loras: [['kohya-sdxl.safetensors', 0.7], ['locon-sdxl.safetensors', -0.4]] },
    { key: 'alphas-sdxl', loras: [['alphas-sdxl.safetensors', 1]] },
  ] },
  { base: 'sd1', cells: [8, 6], samplings: [
    { key: 'base.sd1', loras: [] },
    { key: 'kohya-sd1', loras: [['kohya-sd1.safetensors', 1]] },
    { key: 'old-sd1', loras: [['old-sd1.safetensors', 1]] },
    { key: 'saved-sd1', loras: [['saved-sd1.safetensors', 1]] },
    { key: 'peft-sd1', loras: [['peft-sd1', 1]] },
    { key: 'rslora-sd1', loras: [['rslora-sd1/adapter_model.safetensors', 1]] },
  ] },
];

const root = mkdtempSync(join(tmpdir(), 'lora-golden-'));
let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: 'auto', home: drtuneHome() });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** As make_lora.py samples. */
function sample(pipeline: Pipeline, loras: LoraSet, cells: readonly [number, number]): Float32Array {
  return scope(() => {
    const { vaeFactor } = pipeline.info;
    const result = textToImage(pipeline, {
      prompts: [fixture.metadata['prompt']!], negativePrompt: fixture.metadata['negative']!, guidance: 3, width: cells[1] * vaeFactor, height: cells[0] * vaeFactor,
      scheduler: 'ddim', steps: 5, seed: 5, adapter: loras.unet ?? null, textAdapters: loras,
    })!;
    return Float32Array.from(readFloatsSync(toChannelsFirst(result.latents)));
  });
}

describe.each(cases)('LoRA on $base', ({ base, cells, samplings }) => {
  let pipeline: Pipeline;
  let before: number;
  beforeAll(async () => {
    before = tensorCount();
    pipeline = await openPipeline(engine, base === 'sdxl' ? join(here, '../models/fixtures/linear') : pipelineFolder('sd1', root));
  });
  afterAll(() => {
    pipeline.dispose();
    expect(tensorCount()).toBe(before);
  });

  it.each(samplings)('samples $key as diffusers does', ({ key, loras }) => {
    const sets = loras.map(([file, strength]) => ({ set: readLoras(join(here, file), pipeline.loraModules()), strength }));
    const all = combineLoras(sets);
    expect(relativeL2(sample(pipeline, all, cells), fixture.values(key))).toBeLessThan(tolerance);
    for (const set of [all, ...sets.map((each) => each.set)]) disposeLoras(set);
  });

  if (base === 'sdxl') it('gives the gradient of convolutions and embeddings as torch does, whole and block by block', () => {
    using files = new DisposableStack();
    const unet = loadUNet(engine, openModelFiles(join(here, '../models/fixtures/linear')));
    files.defer(() => unet.release());
    const loras = readLoras(join(here, 'locon-sdxl.safetensors'), pipeline.loraModules());
    files.defer(() => disposeLoras(loras));
    const { scale, modules } = loras.unet!;
    const keys = fixture.names.filter((name) => name.startsWith('gradient.'));
    expect(keys).toHaveLength(18);
    scope(() => {
      const given = (name: string): Tensor => fixture.tensor(name);
      const [sample, cotangent] = ['sample', 'cotangent'].map((name) => toChannelsLast(given(name) as Tensor4D)) as [Tensor4D, Tensor4D];
      const inputs = { sample, text: given('text') as Tensor3D, pooled: given('pooled') as Tensor2D, timeIds: tf.tensor2d([[12, 10, 0, 0, 12, 10]]) };
      for (const blocks of [false, true]) {
        const paths = Object.keys(modules);
        const gradients = tf.grads((...matrices: Tensor[]) => {
          const own: Record<string, LoraModule> = {};
          paths.forEach((path, i) => (own[path] = { ...modules[path]!, matrices: { 'lora_A.weight': matrices[2 * i] as Tensor2D, 'lora_B.weight': matrices[2 * i + 1] as Tensor2D } }));
          const adapter = { scale, modules: own };
          const out = blocks ? unetForward(engine, unet.config, unet.weights, adapter, { ...inputs, timestep: tf.tensor1d([431]) }) : unet.forward(adapter, { ...inputs, timestep: 431 });
          return tf.sum(tf.mul(out, cotangent));
        })(paths.flatMap((path) => [modules[path]!.matrices['lora_A.weight']!, modules[path]!.matrices['lora_B.weight']!]));
        for (const key of keys) {
          const [, path, matrix] = /^gradient\.(.+)\.lora_([AB])\.weight$/.exec(key) as unknown as [string, string, 'A' | 'B'];
          const ours = gradients[2 * paths.indexOf(path) + (matrix === 'A' ? 0 : 1)]!;
          expect(relativeL2(readFloatsSync(ours), fixture.values(key)), key).toBeLessThan(3e-5);
        }
      }
    });
  });

  it('comes back from diffusers\' and kohya\'s forms, text encoders and convolutions too', () => {
    const names = base === 'sdxl' ? ['kohya-sdxl', 'locon-sdxl'] : ['kohya-sd1', 'saved-sd1'];
    const modules = pipeline.loraModules();
    for (const name of names) {
      const set = readLoras(join(here, `${name}.safetensors`), modules);
      const expected = sample(pipeline, set, cells);
      const files = [join(root, `${name}-diffusers.safetensors`), join(root, `${name}-kohya.safetensors`)] as const;
      writeDiffusersLora(files[0], set);
      writeKohyaLora(files[1], set, { nameOf: kohyaWriter(modules, base === 'sdxl'), baseVersion: base === 'sdxl' ? 'sdxl_base_v1-0' : 'sd_v1' });
      for (const file of files) {
        const again = readLoras(file, modules);
        expect(Object.keys(again)).toEqual(Object.keys(set));
        expect(relativeL2(sample(pipeline, again, cells), expected), file).toBeLessThan(1e-6);
        disposeLoras(again);
      }
      if (name.startsWith('kohya') || name.startsWith('locon')) {
        // the very names that the file had
        expect([...openSafetensors(files[1]).entries.keys()].sort()).toEqual([...openSafetensors(join(here, `${name}.safetensors`)).entries.keys()].sort());
      }
      disposeLoras(set);
    }
  });
});

it('merges into text encoders too, open_clip\'s fused matrices among them, as a folder of a variant\'s names and as one file', async () => {
  const base = join(here, '../models/fixtures/linear');
  const sampled = async (model: string, lora?: string): Promise<Float32Array> => {
    const pipeline = await openPipeline(engine, model);
    const set = lora === undefined ? {} : readLoras(lora, pipeline.loraModules());
    try {
      return sample(pipeline, set, [12, 8]);
    } finally {
      disposeLoras(set);
      pipeline.dispose();
    }
  };
  const lora = join(here, 'kohya-sdxl.safetensors');
  const pipeline = await openPipeline(engine, base);
  const set = readLoras(lora, pipeline.loraModules());
  pipeline.dispose();
  const expected = await sampled(base, lora);
  const folder = join(root, 'merged');
  writeMerged(openModelFiles(base), set, folder, 'kohya-sdxl');
  expect(readdirSync(join(folder, 'text_encoder_2')).sort()).toEqual(['config.json', 'model.fp16.safetensors']);
  writeMerged(openModelFiles(base), set, `${folder}.safetensors`, 'kohya-sdxl');
  writeMerged(openModelFiles(base), {}, join(root, 'plain.safetensors'), '');
  writeMerged(openModelFiles(join(root, 'plain.safetensors')), set, join(root, 'again.safetensors'), 'kohya-sdxl');
  disposeLoras(set);
  // the base is in half precision: so is what is merged
  for (const path of [folder, `${folder}.safetensors`, join(root, 'again.safetensors')]) expect(relativeL2(await sampled(path), expected), path).toBeLessThan(1e-3);
  expect(relativeL2(await sampled(join(root, 'plain.safetensors')), expected)).toBeGreaterThan(0.05);
}, 60_000);

/** SDXL's levels and layers, as in make_lora.py. */
const sdxlConfig = {
  _class_name: 'UNet2DConditionModel', block_out_channels: [4, 8, 12], down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
  up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'], layers_per_block: 2, transformer_layers_per_block: [1, 2, 10], attention_head_dim: 2,
  cross_attention_dim: 6, norm_num_groups: 2, use_linear_projection: true, addition_embed_type: 'text_time', addition_time_embed_dim: 6,
  projection_class_embeddings_input_dim: 44, resnet_time_scale_shift: 'default', time_embedding_type: 'positional', attention_type: 'default',
};

it('reads every name of SDXL\'s original layout as diffusers does', () => {
  const lines = readFileSync(join(here, 'sdxl-names.txt'), 'utf8').trim().split('\n').map((line) => line.split(' ') as [string, string]);
  expect(lines.length).toBeGreaterThan(200);
  const config = join(root, 'config.json');
  writeFileSync(config, JSON.stringify(sdxlConfig));
  const unet = unetLoraTargets(unetConfig(new ConfigReader(config)));
  const place = nameReader({ unet });
  const write = kohyaWriter({ unet }, true);
  for (const [name, module] of lines) {
    expect(place(name)).toEqual({ part: 'unet', module });
    expect(write({ part: 'unet', module })).toBe(name);
  }
});
