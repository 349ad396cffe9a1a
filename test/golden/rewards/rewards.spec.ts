/** Rewards against PyTorch: values and gradients with respect to pictures of odd, non-square size. Fixture: make_rewards.py. */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../../src-main/engine/select.ts';
import { scope } from '../../../src-main/engine/scope.ts';
import { tf, type Scalar, type Tensor, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { openClipFiles } from '../../../src-main/models/clip-files.ts';
import { openClipText } from '../../../src-main/models/open-clip.ts';
import { publishedClipTokenizer } from '../../../src-main/models/single-file/tokenizer.ts';
import { preprocess } from '../../../src-main/rewards/networks/clip-embeddings.ts';
import { rewardDefinition } from '../../../src-main/rewards/index.ts';
import { readFixture, relativeL2 } from '../../helpers/fixture.ts';

const fixture = readFixture(join(import.meta.dirname, 'rewards.safetensors'));
const clip = {
  resize: { shortestEdge: 16 }, crop: { height: 16, width: 16 },
  mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711],
} as const;

beforeAll(() => openEngine({ prefer: 'wasm', home: '' }));

const gradientOf = (f: (x: Tensor4D) => Tensor, x: Tensor4D): { value: Float32Array; grad: Float32Array } =>
  scope(() => {
    const value = f(x).dataSync() as Float32Array;
    const grad = tf.grad((y: Tensor) => tf.sum(f(y as Tensor4D)) as Scalar)(x).dataSync() as Float32Array;
    return { value, grad };
  });

describe('rewards equal PyTorch', () => {
  it.each(['symmetry', 'relative-symmetry', 'brightness', 'colorfulness', 'compressibility', 'detail'])('%s: value and picture gradient', async (name) => {
    const engine = await openEngine({ prefer: 'wasm', home: '' });
    const reward = await rewardDefinition(name).open(engine, {});
    const images = fixture.tensor<Tensor4D>('images');
    const { value, grad } = gradientOf((x) => reward.score(x, ['', '']), images);
    expect(relativeL2(value, fixture.values(`${name}.value`))).toBeLessThan(1e-5);
    expect(relativeL2(grad, fixture.values(`${name}.grad`))).toBeLessThan(1e-4);
    images.dispose();
  });

  it.each(['wide', 'tall'])('what CLIP sees of a %s picture', (shape) => {
    const images = fixture.tensor<Tensor4D>('images');
    const oriented = shape === 'tall' ? tf.transpose(images, [0, 2, 1, 3]) : images;
    const seen = preprocess(oriented, clip);
    expect(seen.shape).toEqual(fixture.shape(`preprocess-${shape}.value`));
    expect(relativeL2(seen.dataSync(), fixture.values(`preprocess-${shape}.value`))).toBeLessThan(1e-5);
    const ramp = tf.reshape(tf.sin(tf.range(0, seen.size, 1, 'float32')), seen.shape);
    const { grad } = gradientOf((x) => tf.mul(preprocess(x, clip), ramp), oriented);
    expect(relativeL2(grad, fixture.values(`preprocess-${shape}.grad`))).toBeLessThan(1e-4);
  });

  it('enlarges like PyTorch', () => {
    const seen = preprocess(fixture.tensor<Tensor4D>('upsample.images'), clip);
    expect(relativeL2(seen.dataSync(), fixture.values('upsample.value'))).toBeLessThan(1e-5);
  });
});

describe('CLIPScore of an OpenCLIP folder', () => {
  const folder = join(import.meta.dirname, 'open-clip');
  const golden = readFixture(join(import.meta.dirname, 'open-clip.safetensors'));
  const prompts = JSON.parse(golden.metadata['prompts']!) as string[];

  it.each(['', 'odd.'])('equals open_clip: value and picture gradient %s', async (shot) => {
    const engine = await openEngine({ prefer: 'wasm', home: '' });
    const reward = await rewardDefinition('clipscore').open(engine, { model: folder });
    const images = tf.slice(fixture.tensor<Tensor4D>('images'), [0, 0, 0, 0], golden.shape(`${shot}grad`) as [number, number, number, number]);
    const { value, grad } = gradientOf((x) => reward.score(x, prompts), images);
    expect(relativeL2(value, golden.values(`${shot}value`))).toBeLessThan(1e-4);
    expect(relativeL2(grad, golden.values(`${shot}grad`))).toBeLessThan(1e-3);
    reward.dispose();
  });

  it('reads prompts with curly quotes, ligatures, full width and entities as open_clip does', () => {
    const tokenizer = publishedClipTokenizer(77, '<|endoftext|>');
    const tokens = JSON.parse(golden.metadata['tokens']!) as number[][];
    const texts = JSON.parse(golden.metadata['texts']!) as string[];
    expect(texts.map((text) => tokenizer.encodeAll(openClipText(text)))).toEqual(tokens);
    const { source, tokenizer: open } = openClipFiles(folder);
    source.close();
    const own = open(16);
    expect(own.encode('it\u2019s')).toEqual(own.encode('it\'s'));
  });
});
