/** How long prompts are for the text encoder, in words. */
import { t } from '../i18n.ts';

export interface TokenNote {
  readonly prompt: string;
  readonly tokens: number;
  readonly limit: number;
  readonly chunks: number;
  readonly cut: string;
}

/** "81/77 tokens" where one chunk is read, "81 tokens, 2 chunks" where more are. */
export function tokenWords({ tokens, limit, chunks }: TokenNote): string {
  return chunks > 1 ? t('newRun.tokensChunks', { tokens, chunks }) : t('newRun.tokens', { tokens, limit });
}

/** Where in the prompt the end begins that is not read; the prompt's length where the words cannot be found again (the tokenizer's text is in lower case and spaced anew). */
export function cutAt({ prompt, cut }: TokenNote): number {
  const letters = (text: string): string => text.toLowerCase().replace(/\s/g, '');
  const wanted = letters(cut).length;
  let seen = 0;
  for (let at = prompt.length; at > 0; at--) {
    if (!/\s/.test(prompt[at - 1]!)) seen += letters(prompt[at - 1]!).length;
    if (seen === wanted) return letters(prompt.slice(at - 1)) === letters(cut) ? at - 1 : prompt.length;
  }
  return prompt.length;
}
