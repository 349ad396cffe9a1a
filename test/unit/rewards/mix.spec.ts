/** Mixes: terms for some prompts only, spreads, hinges, and the crop before the reward. */
import { beforeAll, describe, expect, it } from 'vitest';
import { appliesTo, termKeys, type RewardTerm } from '../../../src-main/contract/run.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { scope, tensorCount } from '../../../src-main/engine/scope.ts';
import { tf, type Scalar, type Tensor, type Tensor4D } from '../../../src-main/engine/tf.ts';
import { cropped, openRewards, scoresOfPictures, spreadsOf, termMeans, withSpreads } from '../../../src-main/rewards/compose.ts';
import { drawnPictures } from '../../helpers/pictures.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: 'wasm', home: '' });
});

const PROMPTS = ['a cat', 'a Red Apple', 'an apple', 'a house'];
const images = (): Tensor4D => drawnPictures(4, 8, 10, 3);
const open = (terms: Partial<RewardTerm>[], normalize = false) => openRewards(engine, terms.map((each) => ({ name: 'brightness', weight: 1, ...each })), { normalize });
const slope = (f: (x: Tensor4D) => Tensor, x: Tensor4D): Tensor4D => tf.grad((y: Tensor) => tf.sum(f(y as Tensor4D)) as Scalar)(x) as Tensor4D;

describe('a term for some prompts', () => {
  it('counts for prompts that hold its text, or that stand in its list', () => {
    expect(PROMPTS.map((each) => appliesTo({ prompts: 'apple' }, each))).toEqual([false, true, true, false]);
    expect(PROMPTS.map((each) => appliesTo({ prompts: ['an apple', 'a cat'] }, each))).toEqual([true, false, true, false]);
    expect(appliesTo({}, 'anything')).toBe(true);
  });

  it('adds to those pictures alone, in value and gradient, and leaves no tensor behind', async () => {
    const x = images();
    const before = tensorCount();
    const [all, some] = [await open([{ weight: 2 }]), await open([{ weight: 2, prompts: 'apple' }])];
    scope(() => {
      const [whole, part] = [all.score(x, PROMPTS), some.score(x, PROMPTS)];
      const expected = [0, 1, 1, 0].map((on, i) => on * whole.total.dataSync()[i]!);
      part.total.dataSync().forEach((each, i) => expect(each).toBeCloseTo(expected[i]!, 6));
      expect(part.rows).toEqual({ brightness: [1, 2] });
      expect(scoresOfPictures(part).map(({ terms }) => Object.keys(terms))).toEqual([[], ['brightness'], ['brightness'], []]);
      expect(scoresOfPictures(part)[2]!.terms['brightness']).toBeCloseTo(whole.total.dataSync()[2]! / 2, 6);
      const perPicture = tf.sum(tf.abs(slope((y) => some.score(y, PROMPTS).total, x)), [1, 2, 3]).dataSync();
      expect(perPicture[0]).toBe(0);
      expect(perPicture[3]).toBe(0);
      expect(perPicture[1]).toBeCloseTo(2, 4);
      expect(perPicture[2]).toBeCloseTo(2, 4);
    });
    x.dispose();
    expect(tensorCount()).toBe(before - 1);
  });

  it('that counts for no picture of a batch costs nothing and is in no record', async () => {
    const sum = await open([{ prompts: 'zebra' }, { name: 'symmetry' }]);
    const scores = sum.score(images(), PROMPTS);
    expect(Object.keys(scores.terms)).toEqual(['symmetry']);
    expect(scores.rows).toEqual({ brightness: [] });
  });
});

describe('spreads', () => {
  it('make the weights of unlike rewards compare: every term has deviation 1 on the pictures it was measured on', async () => {
    const sum = await open([{ name: 'brightness' }, { name: 'symmetry', weight: 3, normalize: false }, { name: 'compressibility', prompts: 'a' }], true);
    expect(sum.terms.map((each) => each.normalize)).toEqual([true, false, true]);
    const x = images();
    const plain = scoresOfPictures(sum.score(x, PROMPTS)).map((each) => each.terms);
    const spreads = spreadsOf(plain);
    const counted = scoresOfPictures(withSpreads(sum, spreads).score(x, PROMPTS));
    const totals = counted.map(({ terms, total }) => total - 3 * terms['symmetry']!);
    const expected = plain.map((each) => each['brightness']! / spreads['brightness']! + each['compressibility']! / spreads['compressibility']!);
    totals.forEach((each, i) => expect(each).toBeCloseTo(expected[i]!, 3));
    expect(counted.map((each) => each.terms)).toEqual(plain);
  });

  it('are population deviations; a term that does not vary, or that one picture has, is left out', () => {
    expect(spreadsOf([{ a: 1, b: 5, c: 2 }, { a: 3, b: 5 }])).toEqual({ a: 1 });
    expect(termMeans([{ a: 1, c: 2 }, { a: 3 }])).toEqual({ a: 2, c: 2 });
  });

  it('come after the hinge', async () => {
    const sum = withSpreads(await open([{ target: 0.5, normalize: true }]), { brightness: 0.1 });
    const x = tf.concat([tf.fill([1, 4, 4, 3], 0.2), tf.fill([1, 4, 4, 3], 0.9)], 0) as Tensor4D;
    const totals = sum.score(x, ['', '']).total.dataSync();
    expect(totals[0]).toBeCloseTo(2, 4);
    expect(totals[1]).toBeCloseTo(5, 4);
  });
});

describe('terms of the same reward', () => {
  it('have keys of their own', () => {
    expect(termKeys([{ name: 'a' }, { name: 'b' }, { name: 'a' }, { name: 'a' }])).toEqual(['a', 'b', 'a#2', 'a#3']);
  });
});

describe('the crop before the reward', () => {
  it('takes the part that two numbers name, and its gradient is zero outside', async () => {
    const sum = await open([{}]);
    const x = images();
    const from = (down: number, right: number): number[] => [...cropped(sum, 3, [down, right]).score(x, PROMPTS).total.dataSync()];
    const part = (i: number, j: number): number[] => [...sum.score(tf.slice(x, [0, i, j, 0], [4, 5, 7, 3]), PROMPTS).total.dataSync()];
    expect(from(0, 0.999)).toEqual(part(0, 3));
    expect(from(0.5, 0.3)).toEqual(part(2, 1));
    const grad = slope((y) => cropped(sum, 3, [0.5, 0.3]).score(y, PROMPTS).total, x);
    const touched = tf.sum(tf.cast(tf.notEqual(grad, 0), 'float32')).dataSync()[0];
    expect(touched).toBe(4 * 5 * 7 * 3);
    expect(cropped(sum, 0, [0.5, 0.5])).toBe(sum);
    expect(() => cropped(sum, 8, [0, 0]).score(x, PROMPTS)).toThrow(/augment\.crop is 8, the pictures are 10 x 8/);
  });
});
