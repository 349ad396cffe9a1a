import { describe, expect, it } from 'vitest';
import { Arguments, parseSeeds } from '../../../src-main/cli/arguments.ts';
import { listPresets } from '../../../src-main/app/presets.ts';
import { applySet } from '../../../src-main/cli/config-file.ts';
import { promptFlags, readPromptFlags } from '../../../src-main/cli/prompt-flags.ts';
import { clock, ProgressLine, progressPrinter } from '../../../src-main/cli/progress.ts';
import { checkRun } from '../../../src-main/train/session.ts';

const flags = { out: { type: 'string' }, set: { type: 'string', multiple: true }, fast: { type: 'boolean' } } as const;

describe('arguments', () => {
  it('are values, repeated values, switches and positionals', () => {
    const args = new Arguments(['list', '--out', 'a b', '--set', 'x=1', '--fast', '--set=y=2', '--json'], flags);
    expect([args.positionals, args.text('out'), args.texts('set'), args.flag('fast'), args.json]).toEqual([['list'], 'a b', ['x=1', 'y=2'], true, true]);
  });

  it.each([
    [['--ouut', 'x'], /Unknown option --ouut: did you mean --out\?/],
    [['--out'], /--out needs a value/],
    [['--out', '--fast'], /--out needs a value/],
    [['--fast=1'], /--fast takes no value/],
  ])('%j is refused', (argv, words) => {
    expect(() => new Arguments(argv, flags)).toThrow(words);
  });

  it.each(['', 'x', '1e999', '-1', '2.5', 'NaN'])('"%s" is no whole number from 0', (text) => {
    expect(() => new Arguments(['--out', text], flags).number('out', { min: 0, whole: true })).toThrow(/expected an integer of 0 or more/);
  });
});

describe('seeds', () => {
  it('are one, a range with both ends, or a list', () => {
    expect([parseSeeds('7'), parseSeeds('0..3'), parseSeeds('1, 5,9..10')]).toEqual([[7], [0, 1, 2, 3], [1, 5, 9, 10]]);
    for (const wrong of ['', '3..1', 'a', '1..', '-1']) expect(() => parseSeeds(wrong)).toThrow();
  });
});

describe('--set', () => {
  it('sets JSON values, texts, nested keys and items of lists, and takes away with null', () => {
    const config: Record<string, unknown> = { rewards: [{ name: 'symmetry', weight: 1 }], width: 64 };
    for (const each of ['steps=3', 'model=a folder', 'lora.rank=8', 'rewards.0.weight=2', 'prompts=["a=b"]', 'width=null']) applySet(config, each);
    expect(config).toEqual({ rewards: [{ name: 'symmetry', weight: 2 }], steps: 3, model: 'a folder', lora: { rank: 8 }, prompts: ['a=b'] });
    expect(() => applySet(config, 'model.name=1')).toThrow(/not a group/);
    expect(() => applySet(config, '__proto__.x=1')).toThrow(/unknown key/);
    expect(() => applySet(config, '=1')).toThrow(/not key=value/);
  });
});

describe('presets', () => {
  it('are complete, can run, and train on no held-out prompt', () => {
    const presets = listPresets();
    expect(presets.map((each) => each.name)).toEqual(expect.arrayContaining(['demo', 'quick-look', 'symmetry', 'compressibility', 'colorful']));
    for (const { config } of presets) {
      const { prompts, heldOutPrompts } = checkRun(config, '/nowhere');
      expect(heldOutPrompts.filter((each) => prompts.includes(each))).toEqual([]);
      expect(heldOutPrompts.length).toBeGreaterThanOrEqual(16);
    }
  });
});

describe('progress', () => {
  it('of work is one line with its share and what is left, taken away at the end; elsewhere nothing that is over in ten seconds', () => {
    for (const isTTY of [true, false]) {
      let text = '';
      const line = new ProgressLine({ isTTY, columns: 60, write: (part: string) => (text += part) });
      line.tell({ what: 'loading the model', done: 1, total: 4 });
      line.tell({ what: 'opening' , done: 0, total: 0 });
      line.end();
      expect(text).toBe(isTTY ? '\rloading the model 25 %\x1b[K\ropening ...\x1b[K\r\x1b[K' : '');
    }
  });

  it('is one line that renews itself on a terminal and sparse lines elsewhere', () => {
    expect([clock(0), clock(67), clock(3725)]).toEqual(['0:00', '1:07', '1:02:05']);
    const step = { type: 'step', step: 1, reward: -0.5, terms: { symmetry: -0.5 }, kl: 0, gradNorm: 1, lr: 1, stepMs: 1000, skipped: false, memoryBytes: 0, etaSeconds: 9 } as const;
    for (const [isTTY, expected] of [[true, /^\r.*step 1\/.*0:09 left/], [false, /^step 1\/.*\n$/]] as const) {
      let text = '';
      progressPrinter({ isTTY, columns: 200, write: (part: string) => (text += part) })(step);
      expect(text).toMatch(expected);
      progressPrinter({ isTTY, columns: 200, write: (part: string) => (text += part) })({ ...step, reward: 0, terms: {}, skipped: true });
      expect(text).toMatch(/step 1\/\d*  left out  1\.0 s\/step/); // and no reward of 0, which was not measured
    }
  });
});

describe('flags of prompts', () => {
  const read = (...argv: string[]) => readPromptFlags(new Arguments(argv, { ...promptFlags, negative: { type: 'string' } }));

  it('default to what diffusers does', () => {
    expect(read()).toEqual({ longPrompts: 'truncate', promptSyntax: 'plain', clipSkip: 0, originalSize: undefined, cropTopLeft: undefined, targetSize: undefined });
  });

  it('are read', () => {
    expect(read('--long-prompts', 'chunk', '--prompt-syntax', 'a1111', '--clip-skip', '1', '--original-size', '1024x768', '--crop-top-left', '3, 11', '--target-size', '640X512')).toEqual({
      longPrompts: 'chunk', promptSyntax: 'a1111', clipSkip: 1, originalSize: [1024, 768], cropTopLeft: [3, 11], targetSize: [640, 512],
    });
  });

  it.each([
    [['--long-prompts', 'chunks'], /--long-prompts is "chunks", expected truncate or chunk: did you mean "chunk"\?/],
    [['--prompt-syntax', 'compel'], /expected plain or a1111/],
    [['--clip-skip', '0.5'], /--clip-skip is "0.5", expected an integer/],
    [['--original-size', '1024'], /expected WIDTHxHEIGHT/],
    [['--target-size', '0x8'], /expected WIDTHxHEIGHT/],
    [['--crop-top-left', '3x4'], /expected TOP,LEFT/],
  ])('are refused in one line: %j', (argv, words) => {
    expect(() => read(...argv)).toThrow(words);
  });

  it('keep an empty negative prompt apart from none', () => {
    expect(new Arguments(['--negative', ''], { negative: { type: 'string' } }).text('negative')).toBe('');
    expect(new Arguments([], { negative: { type: 'string' } }).text('negative')).toBeUndefined();
  });
});
