import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { readFloatsSync, scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { tf, type Tensor2D, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { inFull } from '../../../src-main/models/part-memory.ts';
import type { Adapter, LoraMatrices } from '../../../src-main/nn/lora.ts';
import { createAdapter, disposeAdapter } from '../../../src-main/pipeline/adapter.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import type { Pipeline } from '../../../src-main/pipeline/pipeline.ts';

const model = new URL('../../golden/models/fixtures/linear', import.meta.url).pathname;
const targets = ['to_q', 'to_k', 'to_v', 'to_out.0', 'proj_in', 'conv1', 'conv_in'];
let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ home: drtuneHome() });
});
afterAll(() => engine.dispose());

/** An adapter that does something: every matrix of small numbers, DoRA's magnitudes a tenth above the layer's own. */
function busy(pipeline: Pipeline, method: 'lora' | 'dora' | 'lokr'): Adapter {
  const made = createAdapter(pipeline.loraTargets(targets), { method, rank: 2, alpha: 3, seed: 1, norms: ({ path }) => pipeline.rowNorms('unet', path) });
  let seed = 0;
  const filled = (matrices: LoraMatrices): LoraMatrices => Object.fromEntries(Object.entries(matrices).map(([name, own]: [string, Tensor2D]) =>
    [name, scope(() => (name === 'lora_magnitude_vector' ? tf.mul(own, 1.1) : tf.randomNormal(own.shape, 0, 0.2, 'float32', ++seed)))]));
  const modules = Object.fromEntries(Object.entries(made.modules).map(([path, own]) => [path, { ...own!, matrices: filled(own!.matrices) }]));
  disposeAdapter(made);
  return { ...made, modules };
}

describe('a pipeline bound to an adapter and to prompts', () => {
  it.each(['residuals', 'recompute'] as const)('predicts what it predicts step by step (memory: %s), and leaves nothing behind', async (memory) => {
    const pipeline = await openPipeline(engine, model, { memory: { unet: { ...inFull, memory }, vae: inFull, text: 'float32', leave: new Set() } });
    await pipeline.load();
    for (const guidance of [1, 4]) {
      for (const method of [null, 'lora', 'dora', 'lokr'] as const) {
        const adapter = method && busy(pipeline, method);
        const conditioning = pipeline.encodePrompts(['a boat', 'the sea'], { negativePrompt: 'fog', guidance, width: 8, height: 12 });
        const latents = tf.randomNormal([2, 6, 4, 4], 0, 1, 'float32', 7) as Tensor4D;
        const before = tensorCount();
        const bound = pipeline.bind(adapter, conditioning);
        for (const timestep of [801, 3]) {
          const [own, expected, base] = [() => bound.predict(latents, timestep), ...[adapter, null].map((each) => () => pipeline.guide(pipeline.predictBranches(each, latents, timestep, conditioning), conditioning))]
            .map((predict) => values(predict)) as [Float32Array, Float32Array, Float32Array];
          expect(distance(own, expected)).toBeLessThan(3e-6); // another order of rounding
          if (adapter) expect(distance(expected, base)).toBeGreaterThan(1e-2);
        }
        bound.dispose();
        expect(tensorCount()).toBe(before);
        conditioning.dispose();
        latents.dispose();
        if (adapter) disposeAdapter(adapter);
      }
    }
    pipeline.dispose();
  });
});

function values(predict: () => Tensor4D): Float32Array {
  const tensor = scope(predict);
  const read = readFloatsSync(tensor);
  tensor.dispose();
  return read;
}

/** Relative L2. */
function distance(a: Float32Array, b: Float32Array): number {
  let [sum, norm] = [0, 0];
  for (let i = 0; i < b.length; i++) [sum, norm] = [sum + (a[i]! - b[i]!) ** 2, norm + b[i]! ** 2];
  return Math.sqrt(sum / norm);
}
