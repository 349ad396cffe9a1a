/** Lists of prompts: lines, CSV, templates, sets. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { AppError } from '../../../src-main/base/errors.ts';
import { expandPrompt, expandPrompts, isPromptTable, MOST_VARIANTS, parsePrompts, textOfFile } from '../../../src-main/contract/prompts.ts';
import { promptSets } from '../../../src-main/app/prompt-sets.ts';
import { readPromptList, readPrompts } from '../../../src-main/train/prompts.ts';

const folder = mkdtempSync(join(tmpdir(), 'drtune-prompts-'));
afterAll(() => rmSync(folder, { recursive: true }));
const write = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const refusal = (act: () => unknown): string => {
  try {
    act();
    return 'accepted';
  } catch (error) {
    return (error as AppError).line ?? (error as Error).message;
  }
};

describe('a list of prompts', () => {
  it('has one a line; blank lines, comments and a byte-order mark do not count', () => {
    expect(parsePrompts('\uFEFFa cat\r\n\n # no\n  a dog, red, 3 \n')).toEqual([{ prompt: 'a cat' }, { prompt: 'a dog, red, 3' }]);
  });

  it('is CSV where the first line says so: quotation marks, commas and line breaks inside, seeds', () => {
    const csv = 'Seed, "Prompt",note\n7,"a ""big"" cat, red",x\n,a dog\n\n"12","two\nlines",\n3,,nothing\n';
    expect(parsePrompts(csv)).toEqual([{ prompt: 'a "big" cat, red', seed: 7 }, { prompt: 'a dog' }, { prompt: 'two lines', seed: 12 }]);
    expect(parsePrompts('prompt,seed\na,0')).toEqual([{ prompt: 'a', seed: 0 }]);
  });

  it.each<[string, string]>([
    ['semicolons, as Excel writes them in much of Europe', 'prompt;seed\na red, round apple;3\nb;\n'],
    ['tabs', 'seed\tprompt\n3\ta red, round apple\n\tb\n'],
    ['old Macintosh line ends', 'prompt,seed\r"a red, round apple",3\rb,\r'],
    ['comments and blank lines before', '\n# mine\nprompt,seed\n"a red, round apple",3\nb,\n'],
  ])('is a table with %s', (_, table) => expect(parsePrompts(table)).toEqual([{ prompt: 'a red, round apple', seed: 3 }, { prompt: 'b' }]));

  it('may be a table of one column, whose commas are its own', () => {
    expect(parsePrompts('"Prompt"\n"a ""big"" cat, red"\na dog, blue\n')).toEqual([{ prompt: 'a "big" cat, red' }, { prompt: 'a dog, blue' }]);
    expect(parsePrompts('prompt')).toEqual([{ prompt: 'prompt' }]); // one line is no table
    expect([isPromptTable('prompt;seed\na;1'), isPromptTable('a cat, big\na dog'), isPromptTable('prompt')]).toEqual([true, false, false]);
  });

  it('is read from UTF-8, UTF-16 and Windows\' Western letters, and from nothing that is no text', () => {
    const text = 'ein Löwe, 日本\n';
    expect(textOfFile(Buffer.from(`\uFEFF${text}`))).toBe(text);
    expect(textOfFile(Buffer.from(`\uFEFF${text}`, 'utf16le'))).toBe(text);
    expect(textOfFile(Buffer.from(`\uFEFF${text}`, 'utf16le').swap16())).toBe(text);
    expect(textOfFile(Buffer.from('ein Löwe', 'latin1'))).toBe('ein Löwe');
    expect(refusal(() => textOfFile(Buffer.from([137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13])))).toBe('The list is no text.');
  });

  it('says where a table is wrong', () => {
    expect(refusal(() => parsePrompts('# mine\n\nprompt;seed\n"two\nlines";1\na dog;x'))).toMatch(/Line 6 .*seed "x" is not a whole number/);
    expect(refusal(() => parsePrompts('prompt,seed\na cat,1\na dog,-1'))).toMatch(/Line 3 .*seed "-1" is not a whole number/);
    expect(refusal(() => parsePrompts('prompt,seed\n"a cat,1\na dog,2'))).toMatch(/Line 2 .*never closed/);
  });
});

describe('a template', () => {
  it.each<[string, string[]]>([
    ['a cat', ['a cat']],
    ['a {red|blue} cat', ['a red cat', 'a blue cat']],
    ['{a|b}{c|d}', ['ac', 'bc', 'ad', 'bd']],
    ['a {big |}cat', ['a big cat', 'a cat']],
    ['a {|very } {small|big} cat', ['a small cat', 'a very small cat', 'a big cat', 'a very big cat']],
    ['{a|{b|c} d}', ['a', 'b d', 'c d']],
    ['a \\{b\\|c\\} {d|e\\|f}', ['a {b|c} d', 'a {b|c} e|f']],
    ['a {b} | c', ['a {b} | c']],
    ['\\(a\\) {b|c} \\\\', ['\\(a\\) b \\\\', '\\(a\\) c \\\\']],
    ['{a|a}', ['a']],
  ])('%s', (text, prompts) => expect(expandPrompt(text, 0)).toEqual(prompts));

  it('with many choices becomes sixteen of them, by the seed alone', () => {
    const text = 'a {red|green|blue|black|white} {cat|dog|fox|owl} {in snow|at night|by the sea}';
    const some = expandPrompt(text, 5);
    expect(new Set(some).size).toBe(MOST_VARIANTS);
    expect(some.every((each) => /^a (red|green|blue|black|white) (cat|dog|fox|owl) (in snow|at night|by the sea)$/.test(each))).toBe(true);
    expect(expandPrompt(text, 5)).toEqual(some);
    expect(expandPrompt(text, 6)).not.toEqual(some);
    expect(expandPrompt('{a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q}', 2 ** 40)).toHaveLength(MOST_VARIANTS);
  });

  it('with a brace too many is refused in one line that names it', () => {
    expect(refusal(() => expandPrompt('a {red|blue cat', 0))).toBe('The "{" at character 3 of the prompt "a {red|blue cat" has no partner.');
    expect(refusal(() => expandPrompt('a red} cat', 0))).toBe('The "}" at character 6 of the prompt "a red} cat" has no partner.');
    expect(refusal(() => readPrompts(['fine', 'a {b|c'], 'held-out prompts'))).toBe('held-out prompts: The "{" at character 3 of the prompt "a {b|c" has no partner. Write \\{ for a brace that is no choice.');
  });

  it('that says what is there already adds nothing; seeds go to every variant', () => {
    expect(expandPrompts([{ prompt: 'a cat' }, { prompt: 'a {cat|dog}', seed: 4 }], 0)).toEqual([{ prompt: 'a cat' }, { prompt: 'a dog', seed: 4 }]);
  });
});

describe('what a config names', () => {
  it('is a list, a text file, a CSV file or a set', () => {
    expect(readPrompts(['a {b|c}'], 'prompts')).toEqual(['a b', 'a c']);
    expect(readPromptList(write('list.txt', '# mine\na\nb\n'), 'prompts', 0)).toEqual([{ prompt: 'a' }, { prompt: 'b' }]);
    expect(readPromptList(write('list.csv', 'prompt,seed\na,5\n'), 'prompts', 0)).toEqual([{ prompt: 'a', seed: 5 }]);
    expect(readPrompts('set:animals', 'prompts')).toHaveLength(45);
  });

  it('is a table in UTF-16', () => {
    const file = write('wide.csv', '');
    writeFileSync(file, Buffer.from('\uFEFFprompt;seed\r\nein Löwe;5\r\n', 'utf16le'));
    expect(readPromptList(file, 'prompts', 0)).toEqual([{ prompt: 'ein Löwe', seed: 5 }]);
  });

  it('is refused where there is none', () => {
    expect(refusal(() => readPrompts(['{|}'], 'prompts'))).toMatch(/The list of prompts holds no prompt: all its choices are empty/);
    expect(readPrompts([], 'held-out prompts')).toEqual([]);
    expect(refusal(() => readPrompts([`${'{a|'.repeat(200)}b${'}'.repeat(200)}`], 'prompts'))).toMatch(/choices within choices more than 100 deep/);
    expect(refusal(() => readPrompts(join(folder, 'none.txt'), 'prompts'))).toMatch(/none\.txt cannot be read\. A path in a config/);
    expect(refusal(() => readPrompts(write('empty.txt', '# only this\n'), 'prompts'))).toMatch(/empty\.txt holds no prompt/);
    expect(refusal(() => readPrompts('set:animal', 'prompts'))).toBe('There is no set of prompts "animal". There are: set:animals, set:animation, set:concept-art, set:painting, set:photo, set:starter, set:starter-unseen.');
    expect(refusal(() => readPrompts('set:../starter/README', 'prompts'))).toMatch(/There is no set/);
  });
});

describe('the sets that come with the app', () => {
  it('have a title, words, and prompts that are all different and no templates', () => {
    const sets = promptSets();
    expect(sets.map(({ name, prompts }) => `${name} ${prompts.length}`)).toEqual(['animals 45', 'animation 60', 'concept-art 60', 'painting 60', 'photo 60', 'starter 96', 'starter-unseen 32']);
    for (const { title, what, prompts } of sets) {
      expect(title.length * what.length).toBeGreaterThan(0);
      expect(new Set(prompts).size).toBe(prompts.length);
      expect(prompts.filter((each) => /[{}\\]/.test(each) || each.length > 200)).toEqual([]);
    }
  });
});
