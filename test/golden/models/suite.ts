/** The golden ladder of models: the same checks on every engine, against what diffusers computed (make_models.py). */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { readFloatsSync, scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { tf, type Tensor, type Tensor2D, type Tensor3D, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { loadClip } from '../../../src-main/models/clip-vision.ts';
import { openModelFiles } from '../../../src-main/models/files.ts';
import { loadUNet, unetForward, type UNet } from '../../../src-main/models/unet.ts';
import type { Adapter, LoraModule } from '../../../src-main/nn/lora.ts';
import { disposeAdapter } from '../../../src-main/pipeline/adapter.ts';
import { toChannelsFirst, toChannelsLast } from '../../../src-main/pipeline/images.ts';
import { openPipeline } from '../../../src-main/pipeline/load.ts';
import { readLora } from '../../../src-main/pipeline/lora-file.ts';
import { initialNoise, textToImage } from '../../../src-main/pipeline/sample.ts';
import type { Pipeline } from '../../../src-main/pipeline/pipeline.ts';
import { readFixture, relativeL2, type Fixture } from '../../helpers/fixture.ts';

export const fixtures = fileURLToPath(new URL('fixtures', import.meta.url));

/** As in make_models.py. */
const prompts = ["a small Red apple, don't blur", 'robot 🤖 on a green café background!! of the sea and the house and a boat 12 3'];
const negativePrompt = 'ugly, blurry';

/** Block and model. */
const modelTolerance = 1e-5;
/** A whole sampling. */
const samplingTolerance = 1e-4;

interface Sampling { name: string; scheduler: string; steps: number; guidance: number; negativePrompt: string; lora: boolean }

const pipelines: Array<{ name: string; size: [number, number]; sampled: [number, number]; samplings: Sampling[] }> = [
  { name: 'linear', size: [9, 6], sampled: [12, 8], samplings: [
    { name: 'ddim', scheduler: 'ddim', steps: 7, guidance: 4.5, negativePrompt, lora: true },
    { name: 'ddimPlain', scheduler: 'ddim', steps: 5, guidance: 1, negativePrompt: '', lora: false },
    { name: 'euler', scheduler: 'euler', steps: 6, guidance: 3, negativePrompt: '', lora: true },
  ] },
  { name: 'conv', size: [7, 10], sampled: [6, 10], samplings: [
    { name: 'ddim', scheduler: 'ddim', steps: 6, guidance: 2.5, negativePrompt, lora: true },
    { name: 'ddimPlain', scheduler: 'ddim', steps: 4, guidance: 5, negativePrompt: '', lora: false },
  ] },
];

export function modelSuite(open: () => Promise<Engine>): void {
  describe.each(pipelines)('pipeline $name', ({ name, size, sampled, samplings }) => {
    let engine: Engine;
    let pipeline: Pipeline;
    let unet: UNet;
    let adapter: Adapter;
    let fixture: Fixture;
    let before: number;
    const folder = `${fixtures}/${name}`;
    const tensor = (key: string): Tensor => tf.tensor(fixture.values(key), fixture.shape(key));
    const image = (key: string): Tensor4D => scope(() => toChannelsLast(tensor(key) as Tensor4D));
    const differs = (ours: Tensor, key: string): number => relativeL2(readFloatsSync(ours), fixture.values(key));
    const imageDiffers = (ours: Tensor4D, key: string): number => scope(() => differs(toChannelsFirst(ours), key));

    beforeAll(async () => {
      engine = await open();
      before = tensorCount();
      fixture = readFixture(`${folder}/expected.safetensors`);
      pipeline = await openPipeline(engine, folder);
      unet = loadUNet(engine, openModelFiles(folder));
      adapter = readLora(`${folder}/lora.safetensors`, { targets: pipeline.loraModules().unet!, alpha: 5 });
    });
    afterAll(() => {
      disposeAdapter(adapter);
      unet.release();
      pipeline.dispose();
      expect(tensorCount()).toBe(before);
    });

    it('encodes prompts as both text encoders do', () => {
      const conditioning = pipeline.encodePrompts(prompts, { negativePrompt, guidance: 2, width: 24, height: 16 });
      expect(differs(conditioning.promptEmbeds, 'promptEmbeds')).toBeLessThan(modelTolerance);
      expect(differs(conditioning.pooledPromptEmbeds!, 'pooled')).toBeLessThan(modelTolerance);
      expect(differs(conditioning.negativePromptEmbeds!, 'negativePromptEmbeds')).toBeLessThan(modelTolerance);
      expect(differs(conditioning.negativePooledPromptEmbeds!, 'negativePooled')).toBeLessThan(modelTolerance);
      conditioning.dispose();
    });

    const factor = name === 'linear' ? 2 : 4;
    /** `blocks`: as networks too large to be traced whole run. */
    const forward = (lora: Adapter | null, timestep: number, blocks = false): Tensor4D => {
      const [H, W] = [size[0] * factor, size[1] * factor];
      const timeIds = tf.tensor2d(new Array<number[]>(2).fill([H, W, 0, 0, H, W]));
      const [sample, text, pooled] = [image('sample'), tensor('promptEmbeds') as Tensor3D, tensor('pooled') as Tensor2D];
      if (blocks) return unetForward(engine, unet.config, unet.weights, lora, { sample, text, pooled, timeIds, timestep: tf.fill([2], timestep) }) as Tensor4D;
      return unet.forward(lora, { sample, timestep, text, pooled, timeIds });
    };

    it.each([['unet', 431, false], ['unetLora', 431, true], ['unetBetween', 907.625, false]] as const)('runs the UNet: %s', (key, timestep, lora) => {
      scope(() => {
        expect(imageDiffers(forward(lora ? adapter : null, timestep), key)).toBeLessThan(modelTolerance);
        expect(imageDiffers(forward(lora ? adapter : null, timestep, true), key), 'block by block').toBeLessThan(modelTolerance);
      });
    });

    it.each([['traced whole', false], ['block by block', true]])('gives the gradient of every LoRA matrix, %s', (_, blocks) => {
      scope(() => {
        const paths = Object.keys(adapter.modules);
        const flat = paths.flatMap((path) => [adapter.modules[path]!.matrices['lora_A.weight']!, adapter.modules[path]!.matrices['lora_B.weight']!]);
        const cotangent = image('cotangent');
        const gradients = tf.grads((...matrices: Tensor[]) => {
          const modules: Record<string, LoraModule> = {};
          paths.forEach((path, i) => (modules[path] = { matrices: { 'lora_A.weight': matrices[2 * i] as Tensor2D, 'lora_B.weight': matrices[2 * i + 1] as Tensor2D } }));
          return tf.sum(tf.mul(forward({ scale: adapter.scale, modules }, 431, blocks), cotangent));
        })(flat);
        paths.forEach((path, i) => {
          expect(differs(gradients[2 * i]!, `gradient.${path}.lora_A.weight`), `${path}.lora_A`).toBeLessThan(modelTolerance * 3);
          expect(differs(gradients[2 * i + 1]!, `gradient.${path}.lora_B.weight`), `${path}.lora_B`).toBeLessThan(modelTolerance * 3);
        });
      });
    });

    it('decodes, with its gradient', () => {
      scope(() => {
        expect(imageDiffers(pipeline.decode(image('decodeIn')), 'decoded')).toBeLessThan(modelTolerance);
        const cotangent = image('decodeCotangent');
        const gradient = tf.grad((z) => tf.sum(tf.mul(pipeline.decode(z as Tensor4D), cotangent)))(image('decodeIn')) as Tensor4D;
        expect(imageDiffers(gradient, 'decodeGradient')).toBeLessThan(modelTolerance);
      });
    });

    it('encodes pictures', () => {
      scope(() => void expect(imageDiffers(pipeline.encode(image('picture')), 'encoded')).toBeLessThan(modelTolerance));
    });

    it('draws the noise that torch draws for seeds 40 and 41', () => {
      scope(() => void expect(imageDiffers(initialNoise(40, 2, sampled[0], sampled[1], pipeline.info.latentChannels), 'noise')).toBeLessThan(1e-6));
    });

    it.each(samplings)('samples $name: $scheduler, $steps steps, guidance $guidance, lora $lora', ({ name: key, scheduler, steps, guidance, negativePrompt: avoid, lora }) => {
      const alive = tensorCount();
      const [height, width] = [sampled[0] * factor, sampled[1] * factor];
      const result = textToImage(pipeline, { prompts, negativePrompt: avoid || null, guidance, width, height, scheduler, steps, seed: 40, adapter: lora ? adapter : null })!;
      expect(imageDiffers(result.latents, `${key}.latents`)).toBeLessThan(samplingTolerance);
      expect(imageDiffers(result.image, `${key}.image`)).toBeLessThan(samplingTolerance);
      for (const each of Object.values(result)) each.dispose();
      expect(tensorCount()).toBe(alive);
    });
  });

  it('CLIP: both embeddings and the gradient to the pixels', async () => {
    const engine = await open();
    const before = tensorCount();
    const fixture = readFixture(`${fixtures}/clip/expected.safetensors`);
    const clip = loadClip(engine, `${fixtures}/clip`);
    const image = (key: string): Tensor4D => toChannelsLast(tf.tensor4d(fixture.values(key), fixture.shape(key) as [number, number, number, number]));
    scope(() => {
      const differs = (ours: Tensor, key: string): number => relativeL2(readFloatsSync(ours), fixture.values(key));
      expect(differs(clip.encodeImage(image('pixels')), 'image')).toBeLessThan(modelTolerance);
      expect(differs(clip.encodeText(prompts), 'text')).toBeLessThan(modelTolerance);
      expect(clip.logitScale).toBeCloseTo(fixture.values('scale')[0]!, 4);
      const cotangent = tf.tensor(fixture.values('cotangent'), fixture.shape('cotangent'));
      const gradient = tf.grad((pixels) => tf.sum(tf.mul(clip.encodeImage(pixels as Tensor4D), cotangent)))(image('pixels')) as Tensor4D;
      expect(differs(toChannelsFirst(gradient), 'gradient')).toBeLessThan(modelTolerance);
    });
    expect(clip.preprocessor).toEqual({ resize: { shortestEdge: 20 }, crop: { height: 20, width: 20 }, mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.25], resample: 3, halfPixel: 'down' });
    clip.dispose();
    expect(tensorCount()).toBe(before);
  });
}
