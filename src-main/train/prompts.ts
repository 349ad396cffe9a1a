/** Prompts of a config: a list, a file, or a set that comes with the app; templates in them are expanded. */
import { readFileSync } from 'node:fs';
import { AppError } from '../base/errors.ts';
import { expandPrompts, parsePrompts, PromptError, textOfFile, type PromptEntry } from '../contract/prompts.ts';
import type { RewardTerm, RunConfig } from '../contract/run.ts';
import { plainText } from '../models/prompt-syntax.ts';
import { promptFile } from '../models/prompt-sets.ts';
import type { PromptOptions } from '../pipeline/pipeline.ts';

/**
 * @param source a list; the path of a text file (one prompt a line, or CSV with a column "prompt" and perhaps "seed"); or "set:NAME"
 * @param what words for the error, e.g. "prompts"
 * @param seed chooses among the many variants of a template
 * @param seeds of sample pictures by prompt, for those that a list gives none
 * @throws AppError('config') where the file cannot be read or holds no prompt, or a template is wrong
 */
export function readPromptList(source: readonly string[] | string, what: string, seed: number, seeds: Readonly<Record<string, number>> = {}): PromptEntry[] {
  const seeded = (entry: PromptEntry): PromptEntry => (entry.seed === undefined && Object.hasOwn(seeds, entry.prompt) ? { ...entry, seed: seeds[entry.prompt]! } : entry);
  try {
    if (typeof source !== 'string') {
      const prompts = expandPrompts(source.map((prompt) => seeded({ prompt })), seed).map(seeded);
      if (source.length > 0 && prompts.length === 0) throw new AppError('config', `The list of ${what} holds no prompt: all its choices are empty.`, { hint: 'Write one prompt a line.' });
      return prompts;
    }
    const file = promptFile(source);
    const prompts = expandPrompts(parsePrompts(readText(file, what)).map(seeded), seed).map(seeded);
    if (prompts.length === 0) throw new AppError('config', `The file of ${what} ${file} holds no prompt.`, { hint: 'Write one prompt a line.' });
    return prompts;
  } catch (error) {
    if (error instanceof PromptError) throw new AppError('config', `${what}: ${error.message}`, { hint: error.hint, cause: error });
    throw error;
  }
}

function readText(file: string, what: string): string {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    throw new AppError('config', `The file of ${what} ${file} cannot be read.`, { hint: 'A path in a config is relative to the config file.', cause });
  }
  return textOfFile(bytes);
}

/** The prompts alone. @throws AppError('config') */
export function readPrompts(source: readonly string[] | string, what: string, seed = 0): string[] {
  return readPromptList(source, what, seed).map((each) => each.prompt);
}

/** How a config's prompts are to be encoded for pictures of a size. */
export function promptOptions(config: RunConfig, width: number, height: number): PromptOptions {
  const { negativePrompt, guidance, longPrompts, promptSyntax, clipSkip, originalSize, cropTopLeft, targetSize } = config;
  return { negativePrompt: negativePrompt || null, guidance, width, height, longPrompts, promptSyntax, clipSkip, originalSize, cropTopLeft, targetSize };
}

/** A prompt as rewards read it: without its emphasis. */
export function sentence(config: RunConfig, prompt: string): string {
  return plainText(prompt, config.promptSyntax);
}

/** A reward's term with the prompts it counts for as rewards read them. */
export function termOfSentences(config: RunConfig, term: RewardTerm): RewardTerm {
  return Array.isArray(term.prompts) ? { ...term, prompts: term.prompts.map((prompt) => sentence(config, prompt)) } : term;
}
