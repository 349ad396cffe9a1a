/** Prompts of a config: a list, or a file with one prompt a line. */
import { readFileSync } from 'node:fs';
import { AppError } from '../base/errors.ts';

/**
 * @param source a list, or the path of a text file; blank lines and lines that begin with # are left out
 * @param what words for the error, e.g. "prompts"
 * @throws AppError('config') where the file cannot be read or holds no prompt
 */
export function readPrompts(source: readonly string[] | string, what: string): string[] {
  if (typeof source !== 'string') return [...source];
  let text: string;
  try {
    text = readFileSync(source, 'utf8');
  } catch (cause) {
    throw new AppError('config', `The file of ${what} ${source} cannot be read.`, { hint: 'A path in a config is relative to the config file.', cause });
  }
  const prompts = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
  if (prompts.length === 0) throw new AppError('config', `The file of ${what} ${source} holds no prompt.`, { hint: 'Write one prompt a line.' });
  return prompts;
}
