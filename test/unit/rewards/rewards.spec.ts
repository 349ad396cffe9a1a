import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import type { AppError } from '../../../src-main/base/errors.ts';
import { resourcesFolder } from '../../../src-main/models/known.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { tf, type Scalar, type Tensor, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { sumRewards } from '../../../src-main/rewards/compose.ts';
import { trueJpegBitsPerPixel } from '../../../src-main/rewards/compressibility.ts';
import { checkTerm, openReward, REWARDS, rewardDefinition, rewardInfos } from '../../../src-main/rewards/index.ts';
import { jpegBitsPerPixel, padByEdge, quantisationTable } from '../../../src-main/rewards/jpeg.ts';
import { meanPairDistance, measurePictures, pictureDistance, reducePicture } from '../../../src-main/rewards/measures.ts';
import { parseColor, toOklab } from '../../../src-main/rewards/palette.ts';
import { cropCentre, resizeBicubic, resizeShortSide, resizeWeights } from '../../../src-main/rewards/resize.ts';
import { readPicture } from '../../../src-main/pipeline/read-picture.ts';
import { cutPicture, drawnPicture, drawnPictures, noisyPicture, uniform, writtenPicture } from '../../helpers/pictures.ts';

const PALETTE = ['#1b4332', '#ffb703', '#fdf0d5'];
const REFERENCE = join(import.meta.dirname, '../../golden/rewards/reference.png');
const SETTINGS: Readonly<Record<string, object>> = { palette: { palette: PALETTE }, reference: { reference: REFERENCE } };
/** Every reward without a network, also those added later. */
const PLAIN = REWARDS.filter((each) => !each.needsModel && !each.usesPrompt && !each.gradientFree).map((each) => each.name);
const open = async (name: string) => openReward(await openEngine({ prefer: 'wasm', home: '' }), { name, ...SETTINGS[name] });

beforeAll(() => openEngine({ prefer: 'wasm', home: '' }));

describe('every reward without a network', () => {
  it.each(PLAIN)('%s: its gradient is the slope along a random direction and along its own, and nothing leaks', async (name) => {
    const reward = await open(name);
    const images = scope(() => tf.add(tf.mul(drawnPictures(2, 11, 18, 3), 0.8), 0.1) as Tensor4D);
    const before = tensorCount();
    scope(() => {
      const grad = tf.grad((x: Tensor) => tf.sum(reward.score(x as Tensor4D, ['', ''])) as Scalar)(images);
      const next = uniform(5);
      const random = tf.tensor(Float32Array.from({ length: images.size }, () => next() - 0.5), images.shape);
      for (const direction of [random, tf.mul(tf.sign(grad), 0.5)]) {
        const along = (s: number): number => tf.sum(reward.score(tf.add(images, tf.mul(direction, s)) as Tensor4D, ['', ''])).dataSync()[0]!;
        const slope = (along(5e-4) - along(-5e-4)) / 1e-3;
        const predicted = tf.sum(tf.mul(grad, direction)).dataSync()[0]!;
        expect(Math.abs(slope - predicted)).toBeLessThan(0.02 * Math.abs(predicted) + 1e-4);
      }
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

describe('picture files', () => {
  const grey = (): Uint8Array => Uint8Array.from({ length: 9 * 17 }, (_, i) => i);

  it('are read whatever they are: grey, 16 bits, transparent, turned by a camera', async () => {
    const first = async (file: Promise<Buffer>): Promise<{ size: number[]; pixel: number[] }> => {
      const picture = await readPicture(await file);
      return { size: picture.shape.slice(1, 3), pixel: Array.from(picture.dataSync().subarray(0, 3), (x) => Math.round(x * 255)) };
    };
    const raw = { raw: { width: 17, height: 9, channels: 1 } } as const;
    expect(await first(sharp(grey().fill(40), raw).toColourspace('b-w').png().toBuffer())).toEqual({ size: [9, 17], pixel: [40, 40, 40] });
    expect(await first(sharp(Uint16Array.from(grey(), () => 40 * 257), raw).toColourspace('grey16').png().toBuffer())).toEqual({ size: [9, 17], pixel: [40, 40, 40] });
    const clear = { width: 17, height: 9, channels: 4, background: { r: 255, g: 0, b: 0, alpha: 0.5 } } as const;
    expect(await first(sharp({ create: clear }).webp({ lossless: true }).toBuffer())).toEqual({ size: [9, 17], pixel: [255, 127, 127] });
    expect((await first(sharp(grey(), raw).jpeg().withMetadata({ orientation: 6 }).toBuffer())).size).toEqual([17, 9]);
  });

  it('that are cut are said to be in one short line', async () => {
    const whole = await sharp(grey(), { raw: { width: 17, height: 9, channels: 1 } }).jpeg().toBuffer();
    const line = await readPicture(whole.subarray(0, 150), 'cut.jpg').then(() => '', (error: AppError) => error.line);
    expect(line).toMatch(/^The picture cut\.jpg cannot be read: [^\n]{10,60}\. PNG, JPEG and WebP can be\.$/);
  });
});

describe('pictures far from the usual size', () => {
  it('large ones lose nothing to float32 sums: 3000 x 500, every pixel\'s mirror difference a third', async () => {
    const [width, height, next] = [3000, 500, uniform(7)];
    const values = Float32Array.from({ length: width * height * 3 }, () => next());
    let symmetry = 0;
    values.forEach((value, at) => (symmetry -= Math.abs(value - values[at + (width - 1 - 2 * (Math.floor(at / 3) % width)) * 3]!) / values.length));
    const images = tf.tensor4d(values, [1, height, width, 3]);
    const scores = await Promise.all(['symmetry', 'contrast', 'detail'].map(async (name) => (await open(name)).score(images, ['']).dataSync()[0]!));
    expect(scores[0]).toBeCloseTo(symmetry, 5);
    expect(scores[1]).toBeCloseTo(Math.sqrt((0.299 ** 2 + 0.587 ** 2 + 0.114 ** 2) / 12), 3);
    expect(scores[2]).toBeCloseTo(2 / 3, 3);
    images.dispose();
  });

  it.each([['sharpness', 3], ['detail', 2]])('%s says in one line that it needs %i pixels a side', async (name, least) => {
    const reward = await open(name);
    expect(() => reward.score(tf.zeros([1, 1, 40, 3]), [''])).toThrow(`The reward ${name} needs pictures of at least ${least} x ${least} pixels, this one is 40 x 1.`);
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

describe('symmetry along other axes', () => {
  it('is 0 for pictures made so, and only for those', async () => {
    const half = drawnPicture(4, 10, 8);
    const names = ['symmetry', 'symmetry-vertical', 'symmetry-rotational'];
    const made = [tf.concat([half, tf.reverse(half, 2)], 2), tf.concat([half, tf.reverse(half, 1)], 1), tf.concat([half, tf.reverse(half, [1, 2])], 2)] as Tensor4D[];
    const rewards = await Promise.all(names.map(open));
    rewards.forEach((reward, i) => made.forEach((picture, k) => {
      const value = reward.score(picture, ['']).dataSync()[0]!;
      if (i === k) expect(value).toBeCloseTo(0, 6);
      else expect(value).toBeLessThan(-0.02);
    }));
  });
});

describe('contrast and sharpness', () => {
  it('are known for a picture of stripes, and blurring takes sharpness away', async () => {
    const stripes = tf.tile(tf.tensor4d([0, 0, 0, 1, 1, 1], [1, 1, 2, 3]), [1, 6, 4, 1]) as Tensor4D;
    expect((await open('contrast')).score(stripes, ['']).dataSync()[0]).toBeCloseTo(0.5, 4);
    expect((await open('sharpness')).score(stripes, ['']).dataSync()[0]).toBeCloseTo(2, 4);
    const picture = drawnPicture(9, 24, 24);
    const blurred = tf.avgPool(picture, 3, 1, 'same') as Tensor4D;
    const sharpnessOf = async (x: Tensor4D) => (await open('sharpness')).score(x, ['']).dataSync()[0]!;
    expect(await sharpnessOf(blurred)).toBeLessThan(0.8 * (await sharpnessOf(picture)));
  });
});

describe('palette', () => {
  it('knows OKLab, finds a picture of its colours near, and has a finite slope at black', async () => {
    const lab = toOklab(tf.tensor2d([1, 1, 1, 1, 0, 0, 0, 0, 0], [3, 3])).arraySync();
    lab[0]!.forEach((each, i) => expect(each).toBeCloseTo([1, 0, 0][i]!, 3));
    lab[1]!.forEach((each, i) => expect(each).toBeCloseTo([0.628, 0.2249, 0.1258][i]!, 3));
    expect(lab[2]).toEqual([0, 0, 0]);
    const reward = await open('palette');
    const own = tf.tensor4d([...parseColor(PALETTE[0]!), ...parseColor(PALETTE[1]!)], [1, 1, 2, 3]);
    expect(reward.score(own, ['']).dataSync()[0]).toBeGreaterThan(-0.01);
    const black = tf.zeros([1, 3, 3, 3]) as Tensor4D;
    expect(reward.score(black, ['']).dataSync()[0]).toBeLessThan(-0.3);
    const slope = tf.grad((x: Tensor) => tf.sum(reward.score(x as Tensor4D, [''])))(black).dataSync();
    expect(Math.max(...slope.map(Math.abs))).toBeLessThan(10);
  });
});

describe('reference', () => {
  it('is best for the reference itself at any size, and does not mind fine noise', async () => {
    const reward = await open('reference');
    const own = await readPicture(REFERENCE);
    const value = (x: Tensor4D): number => reward.score(x, ['']).dataSync()[0]!;
    expect(value(own)).toBeGreaterThan(-0.002);
    expect(value(resizeBicubic(own, 60, 44))).toBeGreaterThan(-0.01);
    const noisy = tf.add(own, tf.mul(tf.sub(noisyPicture(3, own.shape[1], own.shape[2]), 0.5), 0.2)) as Tensor4D;
    expect(value(noisy)).toBeGreaterThan(-0.06);
    expect(value(tf.reverse(own, [1, 2]) as Tensor4D)).toBeLessThan(-0.1);
    const inline = await openReward(await openEngine({ prefer: 'wasm', home: '' }), { name: 'reference', reference: `data:image/png;base64,${readFileSync(REFERENCE).toString('base64')}` });
    expect(inline.score(noisy, ['']).dataSync()[0]).toBe(value(noisy));
    inline.dispose();
  });
});

describe('compressibility', () => {
  it('ranks two hundred pictures as real JPEG files do (Spearman above 0.9): the starter\'s, drawn ones, noise, writing', async () => {
    const sheet = await sharp(join(import.meta.dirname, '../../../resources/starter/samples.png')).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    const [estimated, real]: [number[], number[]] = [[], []];
    for (let seed = 1; seed <= 200; seed++) {
      const picture = seed % 5 < 2 ? cutPicture(seed, sheet.data, sheet.info, 88, 72) : seed % 5 === 2 ? noisyPicture(seed, 72, 56) : seed % 5 === 3 ? writtenPicture(seed, 56, 104) : drawnPicture(seed, 72, 56);
      estimated.push(scope(() => jpegBitsPerPixel(picture).dataSync()[0]!));
      real.push((await trueJpegBitsPerPixel(picture))[0]!);
      picture.dispose();
    }
    expect(spearman(estimated, real)).toBeGreaterThan(0.9);
    const ratio = estimated.reduce((sum, each, i) => sum + each / real[i]!, 0) / real.length;
    expect(ratio).toBeGreaterThan(0.5); // a file has a header that the estimate leaves out
    expect(ratio).toBeLessThan(1.1);
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

  it('refuses settings a reward does not take, and says what one needs', async () => {
    const line = async (term: { name: string; palette?: string[]; reference?: string }): Promise<string> => openReward(await openEngine({ prefer: 'wasm', home: '' }), term).then(() => 'opened', (error: AppError) => error.line);
    expect(await line({ name: 'brightness', palette: PALETTE })).toBe('The reward "brightness" takes no "palette". Leave it out, or use palette.');
    expect(await line({ name: 'palette' })).toMatch(/needs "palette".*#/);
    expect(await line({ name: 'palette', palette: ['red'] })).toMatch(/"red" is no colour.*#rrggbb/);
    expect(await line({ name: 'reference' })).toMatch(/needs "reference"/);
    expect(await line({ name: 'reference', reference: '/nowhere.png' })).toContain('There is no picture /nowhere.png.');
    expect(await line({ name: 'reference', reference: 'data:text/html,<p>' })).toMatch(/begins with "data:text\/html,<p>" and is no picture.*data:image\/png/);
    expect(await line({ name: 'reference', reference: 'data:image/png;base64,AAAA' })).toMatch(/cannot be read.*PNG, JPEG and WebP/);
    expect(await line({ name: 'reference', reference: import.meta.filename })).toMatch(/cannot be read.*PNG, JPEG and WebP/);
  });

  it('every reward but the own program has example pictures, and those that its model has not scored are said to be chosen by hand', () => {
    for (const { name, examples, needsModel } of rewardInfos()) {
      if (name === 'command') expect(examples).toBeNull();
      else expect([name, existsSync(join(resourcesFolder(), examples!.low)), existsSync(join(resourcesFolder(), examples!.high)), examples!.byHand ?? false]).toEqual([name, true, true, needsModel]);
    }
  });

  it('a reward without a model of its own says what to download', () => {
    const needy = rewardInfos().filter((each) => each.needsModel).map((each) => each.name);
    expect(needy).toEqual(['hpsv2.1', 'pickscore', 'aesthetic', 'imagereward', 'objectness']);
    for (const name of needy) expect(() => checkTerm({ name, head: name === 'aesthetic' ? 'head.pth' : undefined })).toThrow(new RegExp(`${name} needs a model of its own`));
    expect(() => checkTerm({ name: 'aesthetic', model: 'clip' })).toThrow(/needs "head"/);
    expect(() => checkTerm({ name: 'pickscore', model: 'clip', object: 'cat' })).toThrow(/takes no "object"/);
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
    const weights = resizeWeights(13, 5, 'bicubic');
    for (let i = 0; i < 5; i++) expect(weights.slice(i * 13, (i + 1) * 13).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 6);
    const picture = drawnPicture(3, 8, 8);
    expect([...cropCentre(resizeShortSide(picture, 8), 8, 8).dataSync()]).toEqual([...picture.dataSync()]);
    expect(cropCentre(resizeShortSide(drawnPicture(3, 9, 20), 8), 6, 6).shape).toEqual([1, 6, 6, 3]);
  });
});

describe('distances between pictures', () => {
  it('compare masses, not grain, and are means over pairs', () => {
    const [black, white] = [new Float32Array(64 * 40 * 3), new Float32Array(64 * 40 * 3).fill(1)];
    const checks = Float32Array.from({ length: 64 * 40 * 3 }, (_, at) => (Math.floor(at / 3) + Math.floor(at / 120)) % 2);
    const [a, b, c] = [black, white, checks].map((each) => reducePicture(each, 64, 40)) as [Float32Array, Float32Array, Float32Array];
    expect(a).toHaveLength(32 * 20 * 3);
    expect(pictureDistance(a, b)).toBeCloseTo(1, 6);
    expect(pictureDistance(a, c)).toBeCloseTo(0.5, 6);
    expect(Math.max(...c) - Math.min(...c)).toBeLessThan(1e-6);
    expect(meanPairDistance([a, b, a])).toBeCloseTo(2 / 3, 6);
    expect(meanPairDistance([a])).toBeUndefined();
    expect([...reducePicture(Float32Array.from([1, 2, 3, 4, 5, 6]), 1, 2)]).toEqual([1, 2, 3, 4, 5, 6]);
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
