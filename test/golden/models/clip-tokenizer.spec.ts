import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadClipTokenizer } from '../../../src-main/models/clip-tokenizer.ts';
import { fixtures } from './suite.ts';

const { strings, ids } = JSON.parse(readFileSync(`${fixtures}/strings.json`, 'utf8')) as { strings: string[]; ids: Record<string, number[][]> };

describe('the tokenizer equals transformers', () => {
  it.each(Object.keys(ids))('%s: 2000 odd strings', (folder) => {
    const expected = ids[folder]!;
    const tokenizer = loadClipTokenizer(`${fixtures}/${folder}`, 77);
    expect(tokenizer.limit).toBe(expected[0]!.length);
    const wrong = strings.filter((text, i) => tokenizer.encode(text).join() !== expected[i]!.join());
    expect(wrong).toEqual([]);
  });

  it('says how long a prompt is and what is cut', () => {
    const tokenizer = loadClipTokenizer(`${fixtures}/linear/tokenizer`, 77);
    const all = tokenizer.encodeAll('a boat on the sea');
    expect(all[0]).toBe(tokenizer.encode('')[0]);
    expect(tokenizer.decode(all.slice(1, -1))).toBe('a boat on the sea');
  });
});
