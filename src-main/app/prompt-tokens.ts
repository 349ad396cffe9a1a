/** Counts a prompt's tokens with the model's own tokenizers, to show what will be cut off. No tensor is touched. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadClipTokenizer, type ClipTokenizer } from '../models/clip-tokenizer.ts';
import { readJson } from '../models/config.ts';
import type { TokenCount } from '../pipeline/pipeline.ts';

const PARTS = [['tokenizer', 'text_encoder'], ['tokenizer_2', 'text_encoder_2']] as const;

/** The last model's tokenizers: an editor asks on every pause of typing. */
let last: { folder: string; tokenizers: ClipTokenizer[] } | null = null;

/**
 * @param folder a diffusers folder
 * @returns the longest count among its tokenizers
 * @throws AppError('weights') where a tokenizer cannot be read
 */
export function promptCounter(folder: string): (prompt: string) => TokenCount {
  if (last?.folder !== folder) {
    const there = PARTS.filter(([tokenizer]) => existsSync(join(folder, tokenizer)));
    last = { folder, tokenizers: there.map(([tokenizer, encoder]) => loadClipTokenizer(join(folder, tokenizer), positions(join(folder, encoder, 'config.json')))) };
  }
  const { tokenizers } = last;
  return (prompt) => tokenizers.map((tokenizer) => count(tokenizer, prompt)).reduce((most, each) => (each.tokens > most.tokens ? each : most), { tokens: 0, limit: 77, cut: '' });
}

function count(tokenizer: ClipTokenizer, prompt: string): TokenCount {
  const ids = tokenizer.encodeAll(prompt);
  return { tokens: ids.length, limit: tokenizer.limit, cut: tokenizer.decode(ids.slice(tokenizer.limit - 1, -1)) };
}

function positions(configFile: string): number {
  const value = existsSync(configFile) ? readJson(configFile)['max_position_embeddings'] : undefined;
  return typeof value === 'number' ? value : 77;
}
