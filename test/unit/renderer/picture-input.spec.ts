import { describe, expect, it } from 'vitest';
import { isInlinePicture, shortPictures } from '../../../src-main/contract/run.ts';
import { commandText, commandWords } from '../../../src-renderer/stores/command-words.ts';
import { mainColors } from '../../../src-renderer/stores/picture-input.ts';

const pixels = (...parts: [count: number, color: [number, number, number]][]): Uint8ClampedArray =>
  Uint8ClampedArray.from(parts.flatMap(([count, [r, g, b]]) => Array.from({ length: count }, () => [r, g, b, 255])).flat());

describe('the main colours of a picture', () => {
  it('are its most frequent ones, near shades as one', () => {
    const picture = pixels([50, [26, 95, 208]], [30, [255, 255, 255]], [20, [250, 250, 251]], [10, [255, 140, 26]], [1, [0, 0, 0]]);
    expect(mainColors(picture, 3)).toEqual(['#1a5fd0', '#fdfdfd', '#ff8c1a']);
    expect(mainColors(picture, 8)).toHaveLength(4);
    expect(mainColors(picture, 1)).toEqual(['#1a5fd0']);
  });
});

describe('a command line', () => {
  it('becomes words and text again', () => {
    expect(commandWords('python3  "my scores/score.py" --fast')).toEqual(['python3', 'my scores/score.py', '--fast']);
    expect(commandWords('  ')).toBeUndefined();
    for (const words of [['a', 'b c', ''], ['say "hi"', "it's"], ['x']]) expect(commandWords(commandText(words))).toEqual(words);
    expect(commandText()).toBe('');
  });
});

describe('a picture within settings', () => {
  it('is known from a path, and shown by its size alone', () => {
    const url = `data:image/webp;base64,${'A'.repeat(4000)}==`;
    expect([isInlinePicture(url), isInlinePicture('/home/a/data:image.png')]).toEqual([true, false]);
    expect(shortPictures(JSON.stringify([{ reference: url, weight: 1 }]))).toBe('[{"reference":"picture of 4 kB","weight":1}]');
    expect(shortPictures('a prompt, data: none')).toBe('a prompt, data: none');
  });
});
