/** DoRA and LoKr against peft: one pass, its gradient, sampled latents, and their way through every form of file. Fixture: make_methods.py. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { readFloatsSync, scope } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor, type Tensor2D, type Tensor3D, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { openModelFiles } from '../../../src-main/models/files.ts';
import { loadUNet, unetForward } from '../../../src-main/models/unet.ts';
import type { Adapter, LoraSet } from '../../../src-main/nn/lora.ts';
import { adapterHash, combineLoras, createAdapter, disposeAdapter, disposeLoras } from '../../../src-main/pipeline/adapter.ts';
import { factorization } from '../../../src-main/pipeline/lora/factorization.ts';
import { toChannelsFirst, toChannelsLast } from '../../../src-main/pipeline/images.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import { readLoras } from '../../../src-main/pipeline/lora-file.ts';
import { writeMerged } from '../../../src-main/pipeline/lora/merge.ts';
import { kohyaWriter } from '../../../src-main/pipeline/lora/names.ts';
import { writeDiffusersLora, writeKohyaLora, writePeftLora } from '../../../src-main/pipeline/lora/write.ts';
import type { Pipeline } from '../../../src-main/pipeline/pipeline.ts';
import { textToImage } from '../../../src-main/pipeline/sample.ts';
import { adapterParameters, withParameters } from '../../../src-main/train/parameters.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';
import { pipelineFolder } from '../architectures/pipelines.ts';

const here = import.meta.dirname;
const fixture = readFixture(join(here, 'methods.safetensors'));
const root = mkdtempSync(join(tmpdir(), 'methods-'));
let engine: Engine;
let base: string;
let pipeline: Pipeline;
beforeAll(async () => {
  engine = await openEngine({ prefer: 'auto', home: drtuneHome() });
  base = pipelineFolder('sd1', root);
  pipeline = await openPipeline(engine, base);
});
afterAll(() => {
  pipeline.dispose();
  rmSync(root, { recursive: true, force: true });
});

const read = (file: string): LoraSet => readLoras(join(here, file), pipeline.loraModules());

/** As make_lora.py samples. */
function sample(of: Pipeline, loras: LoraSet): Float32Array {
  return scope(() => {
    const { vaeFactor } = of.info;
    const result = textToImage(of, {
      prompts: [fixture.metadata['prompt']!], negativePrompt: fixture.metadata['negative']!, guidance: 3, width: 6 * vaeFactor, height: 8 * vaeFactor,
      scheduler: 'ddim', steps: 5, seed: 5, adapter: loras.unet ?? null, textAdapters: loras,
    })!;
    return Float32Array.from(readFloatsSync(toChannelsFirst(result.latents)));
  });
}

describe.each(['dora', 'lokr'] as const)('%s', (method) => {
  it('gives output and gradients of every matrix as peft does', () => {
    const unet = loadUNet(engine, openModelFiles(base));
    const set = read(`${method}-sd1`);
    scope(() => {
      const [x, cotangent] = ['sample', 'cotangent'].map((name) => toChannelsLast(fixture.tensor(name) as Tensor4D)) as [Tensor4D, Tensor4D];
      const text = fixture.tensor<Tensor3D>('text');
      const parameters = adapterParameters(set.unet!);
      expect(parameters.map(({ name }) => `${method}/${name}`).sort()).toEqual(fixture.names.filter((name) => name.startsWith(`${method}/`) && /lora_|lokr_/.test(name)).sort());
      for (const blocks of method === 'dora' ? [false, true] : [false]) {
        const forward = (adapter: Adapter): Tensor => (blocks
          ? unetForward(engine, unet.config, unet.weights, adapter, { sample: x, text, timestep: tf.tensor1d([431, 431]) })
          : unet.forward(adapter, { sample: x, text, timestep: 431 }));
        expect(relativeL2(readFloatsSync(toChannelsFirst(forward(set.unet!) as Tensor4D)), fixture.values(`${method}/output`))).toBeLessThan(1e-5);
        const gradients = tf.grads((...tensors: Tensor[]) => tf.sum(tf.mul(forward(withParameters(set.unet!, tensors as Tensor2D[])), cotangent)))(parameters.map((each) => each.tensor));
        parameters.forEach(({ name }, k) => expect(relativeL2(readFloatsSync(gradients[k]!), fixture.values(`${method}/${name}`)), name).toBeLessThan(3e-5));
      }
    });
    disposeLoras(set);
    unet.release();
  });

  it('samples as peft does', () => {
    const set = read(`${method}-sd1`);
    expect(relativeL2(sample(pipeline, set), fixture.values(`${method}-sd1`))).toBeLessThan(1e-4);
    expect(relativeL2(fixture.values(`${method}-sd1`), fixture.values('base.sd1'))).toBeGreaterThan(0.01);
    disposeLoras(set);
  });

  it('comes back from every form of file, and merged', async () => {
    const set = read(`${method}-sd1`);
    const expected = sample(pipeline, set);
    const modules = pipeline.loraModules();
    const at = (name: string): string => join(root, `${method}-${name}`);
    writeDiffusersLora(at('diffusers.safetensors'), set);
    writeKohyaLora(at('kohya.safetensors'), set, { nameOf: kohyaWriter(modules, false), baseVersion: 'sd_v1' });
    writePeftLora(at('peft'), set.unet!, { baseModel: base });
    for (const name of ['diffusers.safetensors', 'kohya.safetensors', 'peft']) {
      const again = readLoras(at(name), modules);
      expect(relativeL2(sample(pipeline, again), expected), name).toBeLessThan(name.startsWith('kohya') ? 1e-5 : 1e-6); // there the scale of whole factors goes into the first
      if (name !== 'kohya.safetensors') expect(adapterHash(again.unet!), name).toBe(adapterHash(set.unet!));
      disposeLoras(again);
    }
    writeMerged(openModelFiles(base), set, at('merged'), method);
    const merged = await openPipeline(engine, at('merged'));
    expect(relativeL2(sample(merged, {}), expected)).toBeLessThan(1e-3); // the base is in half precision: so is what is merged
    merged.dispose();
    disposeLoras(set);
  });

  it('at a strength lies on the way from the base to itself, and is refused where two adapt one module', () => {
    const set = read(`${method}-sd1`);
    const at = (strength: number): Float32Array => {
      const combined = combineLoras([{ set, strength }]);
      const sampled = sample(pipeline, combined);
      disposeLoras(combined);
      return sampled;
    };
    const [none, all] = [fixture.values('base.sd1'), fixture.values(`${method}-sd1`)];
    expect(relativeL2(at(0), none)).toBeLessThan(1e-4);
    expect(relativeL2(at(1), all)).toBeLessThan(1e-4);
    const half = at(0.5);
    expect(relativeL2(half, none)).toBeLessThan(relativeL2(all, none));
    expect(relativeL2(half, all)).toBeLessThan(relativeL2(none, all));
    expect(() => combineLoras([{ set, strength: 1 }, { set, strength: 1 }])).toThrow(/Two LoRAs adapt .*, and one of them is a DoRA or LoKr/);
    disposeLoras(set);
  });
});

it('reads a DoRA that diffusers saved, text encoder too', () => {
  const set = read('dora-saved-sd1.safetensors');
  expect(relativeL2(sample(pipeline, set), fixture.values('dora-saved-sd1'))).toBeLessThan(1e-4);
  disposeLoras(set);
});

it('begins a DoRA with the rows\' norms and a LoKr with peft\'s shapes, both changing nothing', () => {
  const targets = pipeline.loraTargets(['conv_in', 'to_q', 'ff.net.0.proj', 'proj_in']);
  const none = sample(pipeline, {});
  for (const method of ['dora', 'lokr'] as const) {
    const adapter = createAdapter(targets, { method, rank: 2, alpha: 3, seed: 1, norms: ({ path }) => pipeline.rowNorms('unet', path) });
    expect(relativeL2(sample(pipeline, { unet: adapter }), none)).toBeLessThan(1e-6);
    if (method === 'dora') expect(relativeL2(readFloatsSync(adapter.modules['conv_in']!.matrices.lora_magnitude_vector!), fixture.values('dora/conv_in norms'))).toBeLessThan(1e-6);
    else {
      const set = read('lokr-sd1');
      for (const [path, { matrices }] of Object.entries(set.unet!.modules) as Array<[string, NonNullable<Adapter['modules'][string]>]>) {
        const own = adapter.modules[path]?.matrices;
        if (own) expect(Object.entries(own).map(([name, tensor]) => [name, tensor.shape]), path).toEqual(Object.entries(matrices).map(([name, tensor]) => [name, tensor.shape]));
      }
      disposeLoras(set);
    }
    disposeAdapter(adapter);
  }
  // Values of peft 0.21's factorization.
  expect([[256, -1], [128, -1], [127, -1], [128, 4], [128, 5], [12, 5], [320, 8], [6, 4]].map(([size, factor]) => factorization(size!, factor!))).toEqual([[16, 16], [8, 16], [1, 127], [4, 32], [4, 32], [3, 4], [8, 40], [2, 3]]);
});
