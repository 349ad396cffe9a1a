/** The complete key lists of the real reward models (test/golden/rewards/networks/keys) against what the loaders expect, without weights. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../../../src-main/base/errors.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { blipConfig, loadBlip } from '../../../src-main/models/blip.ts';
import { clipConfigOfShapes, type ClipFiles } from '../../../src-main/models/clip-files.ts';
import { loadClipFiles } from '../../../src-main/models/clip-vision.ts';
import { ConfigReader } from '../../../src-main/models/config.ts';
import { openClipPrefix, openClipSource } from '../../../src-main/models/open-clip.ts';
import { renameYolos, yolosConfig, yolosParameters } from '../../../src-main/models/yolos.ts';
import { readLinearHead } from '../../../src-main/rewards/networks/linear-head.ts';
import { loadWeights } from '../../../src-main/weights/load.ts';
import type { TensorEntry, TensorSource } from '../../../src-main/weights/source.ts';

const folder = join(import.meta.dirname, '../../golden/rewards/networks/keys');
const refuse = (what: string): AppError => new AppError('weights', what);
const count = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

/** A source of the listed tensors that refuses to read; its error is thrown once names and shapes have all fitted. */
function listed(name: string, prefix = ''): TensorSource {
  const entries = new Map<string, TensorEntry>();
  for (const line of readFileSync(join(folder, `${name}.txt`), 'utf8').trim().split('\n').slice(1)) {
    const [pattern, list] = [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)];
    const last = /\{0\.\.(\d+)\}/.exec(pattern)?.[1];
    for (let i = 0; i <= Number(last ?? 0); i++) {
      const key = prefix + pattern.replace(/\{.*\}/, String(i));
      entries.set(key, { name: key, dtype: 'F16', shape: JSON.parse(list) as number[] });
    }
  }
  const read = (): never => {
    throw new Error('all names and shapes fit');
  };
  return { path: `/models/${name}.safetensors`, entries, readFloats: read, readRaw: read, close: () => undefined, [Symbol.dispose]: () => undefined };
}

const values = (source: TensorSource): number => [...source.entries.values()].reduce((sum, { shape }) => sum + count(shape), 0);
const files = (source: TensorSource, config: Record<string, unknown>): ClipFiles => ({
  path: source.path, layout: 'transformers', source, config: new ConfigReader('the shapes', config), preprocessor: new ConfigReader('none', {}),
  tokenizer: () => ({ limit: 77, encode: () => [], encodeAll: () => [], decode: () => '' }) as never,
});

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: 'wasm', home: '' });
});

describe('the key lists of the real models', () => {
  it.each(['', 'model.', 'state_dict.'])('HPS v2.1, an OpenCLIP ViT-H-14, below "%s"', (prefix) => {
    const source = listed('hpsv2.1', prefix);
    expect(source.entries.size).toBe(686);
    expect(values(source)).toBe(986_109_441);
    expect(openClipPrefix(source.entries.keys())).toBe(prefix);
    const seen = openClipSource(source, prefix, refuse);
    const config = clipConfigOfShapes(seen, 'gelu', refuse);
    expect(config).toMatchObject({
      projection_dim: 1024,
      vision_config: { hidden_size: 1280, num_attention_heads: 16, num_hidden_layers: 32, image_size: 224, patch_size: 14 },
      text_config: { hidden_size: 1024, num_attention_heads: 16, num_hidden_layers: 24, vocab_size: 49408, max_position_embeddings: 77, eos_token_id: 49407 },
    });
    expect(() => loadClipFiles(engine, files(seen, config))).toThrow('all names and shapes fit');
  });

  it('PickScore, a transformers CLIP-H, in which OpenCLIP\'s names become the same tensors', () => {
    const source = listed('pickscore');
    expect(values(source)).toBe(986_109_441);
    expect(() => loadClipFiles(engine, files(source, clipConfigOfShapes(source, 'gelu', refuse)))).toThrow('all names and shapes fit');
    const seen = openClipSource(listed('hpsv2.1'), '', refuse);
    const shapes = (of: TensorSource): string[] => [...of.entries].map(([name, { shape }]) => `${name} ${shape}`).sort();
    expect(shapes(seen)).toEqual(shapes(source));
  });

  it('OpenAI\'s CLIP L/14, with and without its text tower', () => {
    const source = listed('clip-l14');
    expect(values(source)).toBe(427_616_513);
    const config = clipConfigOfShapes(source, 'quick_gelu', refuse);
    expect(config).toMatchObject({ projection_dim: 768, vision_config: { num_attention_heads: 16 }, text_config: { num_attention_heads: 12 } });
    for (const text of [true, false]) expect(() => loadClipFiles(engine, files(source, config), { text })).toThrow('all names and shapes fit');
  });

  it('YOLOS-tiny', () => {
    const source = listed('yolos-tiny');
    expect(values(source)).toBe(6_488_736);
    const labels = Object.fromEntries(Array.from({ length: 91 }, (_, i) => [i, `thing ${i}`]));
    const config = yolosConfig(new ConfigReader('config.json', {
      model_type: 'yolos', hidden_size: 192, intermediate_size: 768, num_hidden_layers: 12, num_attention_heads: 3, image_size: [800, 1333], use_mid_position_embeddings: false, id2label: labels,
    }));
    const { shapes } = yolosParameters(config);
    expect([...shapes.values()].reduce((sum, shape) => sum + count(shape), 0)).toBe(6_488_736 - (2 * (192 * 192 + 192) + 4 * 192 + 4)); // less the boxes' head
    expect(() => loadWeights(source, shapes, { what: 'YOLOS', rename: renameYolos })).toThrow('all names and shapes fit');
  });

  it('ImageReward', () => {
    const source = listed('imagereward');
    expect(values(source)).toBe(446_666_465); // 512 of them are the positions 0, 1, 2, ...
    expect(blipConfig(source, new ConfigReader('none', {}))).toMatchObject({ vision: { heads: 16, layers: 24, imageSize: 224, patchSize: 16 }, text: { heads: 12, layers: 12, vocabulary: 30524 } });
    expect(() => loadBlip(engine, source)).toThrow('all names and shapes fit');
    const head = readLinearHead({ ...source, readFloats: (name) => new Float32Array(count(source.entries.get(name)!.shape)) });
    expect(head.weight).toHaveLength(768);
  });

  it('a tensor too few, too many or of another shape is named', () => {
    const change = (edit: (entries: Map<string, TensorEntry>) => void): string => {
      const source = listed('pickscore');
      const config = clipConfigOfShapes(source, 'gelu', refuse);
      const entries = new Map(source.entries);
      edit(entries);
      try {
        loadClipFiles(engine, files({ ...source, entries }, config));
      } catch (error) {
        return (error as Error).message;
      }
      return 'loaded';
    };
    const bias = 'vision_model.encoder.layers.31.mlp.fc2.bias';
    expect(change((entries) => entries.delete(bias))).toContain(`1 missing (${bias})`);
    expect(change((entries) => entries.set('vision_model.extra', { name: 'vision_model.extra', dtype: 'F16', shape: [2] }))).toContain('1 not expected (vision_model.extra)');
    expect(change((entries) => entries.set(bias, { name: bias, dtype: 'F16', shape: [3] }))).toContain(`${bias} is [3], expected [1280]`);
  });
});
