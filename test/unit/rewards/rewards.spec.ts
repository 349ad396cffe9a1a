import { beforeAll, describe, expect, it } from 'vitest';
import type { AppError } from '../../../src-main/base/errors.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { tf, type Scalar, type Tensor, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { sumRewards } from '../../../src-main/rewards/compose.ts';
import { trueJpegBitsPerPixel } from '../../../src-main/rewards/compressibility.ts';
import { LATER_REWARDS, REWARDS, rewardDefinition, rewardInfos } from '../../../src-main/rewards/index.ts';
import { jpegBitsPerPixel, padByEdge, quantisationTable } from '../../../src-main/rewards/jpeg.ts';
import { measurePictures } from '../../../src-main/rewards/measures.ts';
import { bicubicWeights, cropCentre, resizeShortSide } from '../../../src-main/rewards/resize.ts';
import { drawnPicture, drawnPictures, uniform } from '../../helpers/pictures.ts';

const PLAIN = ['symmetry', 'relative-symmetry', 'compressibility', 'incompressibility', 'brightness', 'colorfulness', 'detail'];
const open = async (name: string) => rewardDefinition(name).open(await openEngine({ prefer: 'wasm', home: '' }), {});

beforeAll(() => openEngine({ prefer: 'wasm', home: '' }));

describe('every reward without a network', () => {
  it.each(PLAIN)('%s: its gradient is the slope along random directions, and nothing leaks', async (name) => {
    const reward = await open(name);
    const images = scope(() => tf.add(tf.mul(drawnPictures(2, 11, 18, 3), 0.8), 0.1) as Tensor4D);
    const before = tensorCount();
    scope(() => {
      const grad = tf.grad((x: Tensor) => tf.sum(reward.score(x as Tensor4D, ['', ''])) as Scalar)(images);
      const next = uniform(5);
      const direction = tf.tensor(Float32Array.from({ length: images.size }, () => next() - 0.5), images.shape);
      const along = (s: number): number => tf.sum(reward.score(tf.add(images, tf.mul(direction, s)) as Tensor4D, ['', ''])).dataSync()[0]!;
      const slope = (along(2e-3) - along(-2e-3)) / 4e-3;
      const predicted = tf.sum(tf.mul(grad, direction)).dataSync()[0]!;
      expect(Math.abs(slope - predicted)).toBeLessThan(0.05 * Math.abs(predicted) + 2e-3);
    });
    expect(tensorCount()).toBe(before);
    images.dispose();
  });

  it.each(PLAIN)('%s: one value a picture, the same alone and in a batch', async (name) => {
    const reward = await open(name);
    const [a, b] = [drawnPicture(1, 16, 16), drawnPicture(2, 16, 16)];
    const together = reward.score(tf.concat([a, b], 0) as Tensor4D, ['', '']).dataSync();
    expect(together).toHaveLength(2);
    expect(reward.score(a, ['']).dataSync()[0]).toBeCloseTo(together[0]!, 5);
    expect(reward.score(b, ['']).dataSync()[0]).toBeCloseTo(together[1]!, 5);
  });
});

describe('symmetry', () => {
  it('is 0 for mirrored pictures, and relative symmetry does not care for the contrast', async () => {
    const half = drawnPicture(4, 10, 8);
    const mirrored = tf.concat([half, tf.reverse(half, 2)], 2) as Tensor4D;
    expect((await open('symmetry')).score(mirrored, ['']).dataSync()[0]).toBeCloseTo(0, 6);
    const relative = await open('relative-symmetry');
    const picture = drawnPicture(6, 12, 12);
    const faint = tf.add(tf.mul(picture, 0.5), 0.25) as Tensor4D;
    const plain = await open('symmetry');
    expect(plain.score(faint, ['']).dataSync()[0]! / plain.score(picture, ['']).dataSync()[0]!).toBeCloseTo(0.5, 3);
    expect(relative.score(faint, ['']).dataSync()[0]! / relative.score(picture, ['']).dataSync()[0]!).toBeGreaterThan(0.75);
  });
});

describe('compressibility', () => {
  it('ranks a hundred pictures as real JPEG files do (Spearman above 0.95)', async () => {
    const [estimated, real]: [number[], number[]] = [[], []];
    for (let seed = 1; seed <= 100; seed++) {
      const picture = drawnPicture(seed, 72, 56);
      estimated.push(jpegBitsPerPixel(picture).dataSync()[0]!);
      real.push((await trueJpegBitsPerPixel(picture))[0]!);
      picture.dispose();
    }
    expect(spearman(estimated, real)).toBeGreaterThan(0.95);
  });

  it('pads by repeating the edge and scales the tables as libjpeg does', () => {
    const padded = padByEdge(tf.tensor4d([1, 2, 3, 4, 5, 6], [1, 2, 3, 1]), 4);
    expect([...padded.dataSync()]).toEqual([1, 2, 3, 3, 4, 5, 6, 6, 4, 5, 6, 6, 4, 5, 6, 6]);
    expect(quantisationTable('luminance', 50)[0]).toBe(16);
    expect(quantisationTable('luminance', 75).slice(0, 3)).toEqual([8, 6, 5]);
    expect(Math.min(...quantisationTable('chrominance', 100))).toBe(1);
  });
});

describe('the registry', () => {
  it('names the nearest reward for a misspelt one', () => {
    const line = (name: string): string => {
      try {
        return rewardDefinition(name).name;
      } catch (error) {
        return (error as AppError).line;
      }
    };
    expect(line('simmetry')).toContain('Did you mean "symmetry"?');
    expect(line('colourfulness')).toContain('Did you mean "colorfulness"?');
  });

  it('says which rewards come in a later version', () => {
    for (const { name } of LATER_REWARDS) expect(() => rewardDefinition(name)).toThrow(/not in this version/);
    expect(rewardInfos().filter((each) => each.usable)).toHaveLength(REWARDS.length);
  });
});

describe('the weighted sum', () => {
  it('weighs, hinges and reports every term by itself', async () => {
    const [symmetry, brightness] = [await open('symmetry'), await open('brightness')];
    const sum = sumRewards([
      { key: 'symmetry', weight: 2, target: undefined, reward: symmetry },
      { key: 'brightness', weight: -3, target: 0.25, reward: brightness },
    ]);
    const images = tf.fill([1, 4, 6, 3], 0.5) as Tensor4D;
    const { total, terms } = sum.score(images, ['']);
    expect(terms['brightness']!.dataSync()[0]).toBeCloseTo(0.5, 5);
    expect(terms['symmetry']!.dataSync()[0]).toBeCloseTo(0, 5);
    expect(total.dataSync()[0]).toBeCloseTo(-0.75, 5);
    const slope = tf.grad((x: Tensor) => tf.sum(sum.score(x as Tensor4D, ['']).total))(images);
    expect(tf.max(tf.abs(slope)).dataSync()[0]).toBeCloseTo(0, 6);
  });
});

describe('resizing', () => {
  it('has rows that sum to one, and leaves a picture of the right size as it is', () => {
    const weights = bicubicWeights(13, 5);
    for (let i = 0; i < 5; i++) expect(weights.slice(i * 13, (i + 1) * 13).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 6);
    const picture = drawnPicture(3, 8, 8);
    expect([...cropCentre(resizeShortSide(picture, 8), 8, 8).dataSync()]).toEqual([...picture.dataSync()]);
    expect(cropCentre(resizeShortSide(drawnPicture(3, 9, 20), 8), 6, 6).shape).toEqual([1, 6, 6, 3]);
  });
});

describe('measures of drift', () => {
  it('are zero for blank pictures and known for simple ones', () => {
    const blank = measurePictures(new Float32Array(2 * 4 * 4 * 3).fill(0.5), [2, 4, 4, 3]);
    expect(blank).toEqual({ edgeDensity: 0, saturation: 0, contrast: 0, colorEntropy: 0 });
    const stripes = Float32Array.from({ length: 4 * 4 * 3 }, (_, at) => (Math.floor(at / 3) % 2 === 0 ? 1 : 0));
    const measured = measurePictures(stripes, [1, 4, 4, 3]);
    expect(measured.edgeDensity).toBeCloseTo(1, 6);
    expect(measured.contrast).toBeCloseTo(0.5, 6);
    expect(measured.colorEntropy).toBeCloseTo(1, 6);
    expect(measurePictures(Float32Array.from([1, 0, 0]), [1, 1, 1, 3]).saturation).toBe(1);
  });
});

function spearman(a: readonly number[], b: readonly number[]): number {
  const rank = (values: readonly number[]): number[] => {
    const places = new Array<number>(values.length);
    values.map((value, i) => ({ value, i })).sort((x, y) => x.value - y.value).forEach(({ i }, place) => (places[i] = place));
    return places;
  };
  const [x, y] = [rank(a), rank(b)];
  const middle = (a.length - 1) / 2;
  const product = (p: number[], q: number[]): number => p.reduce((sum, value, i) => sum + (value - middle) * (q[i]! - middle), 0);
  return product(x, y) / product(x, x);
}
