/** The guides: every one whole, in each language of the same shape, and leading where the app leads. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const folder = join(import.meta.dirname, '../../src-renderer/guides');
const read = (name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as Record<string, unknown>;
const english = read('en.json');
const languages = readdirSync(folder).filter((name) => name.endsWith('.json'));

/** What a value is made of, texts left out. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shape);
  if (value !== null && typeof value === 'object') return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, part]) => [key, shape(part)]));
  return typeof value;
}
function texts(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return value !== null && typeof value === 'object' ? Object.values(value).flatMap(texts) : [];
}

describe('guides', () => {
  it('are there in the app\'s four languages', () => {
    expect(languages.sort()).toEqual(['de.json', 'en.json', 'ja.json', 'zh.json']);
  });
  it.each(languages)('%s has every guide, block and row, no text empty, names in pairs of backticks', (name) => {
    const guides = read(name);
    expect(shape(guides)).toEqual(shape(english));
    for (const text of texts(guides)) {
      expect(text.trim(), name).not.toBe('');
      expect(text.split('`').length % 2, text).toBe(1);
    }
  });
  it('are translated: but for names, no text is left in English', () => {
    const said = new Set(texts(english).filter((text) => /[a-z]{2,} [a-z]{2,}/.test(text.replaceAll(/`[^`]*`/g, ''))));
    expect(said.size).toBeGreaterThan(50);
    for (const name of languages.filter((each) => each !== 'en.json')) expect(texts(read(name)).filter((text) => said.has(text)), name).toEqual([]);
  });
});
