/** A command as one line of text and as its words; quotes keep spaces in a word. Pure. */

export function commandWords(text: string): string[] | undefined {
  const words = [...text.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, bare]) => double ?? single ?? bare!);
  return words.length > 0 ? words : undefined;
}

export const commandText = (words: readonly string[] = []): string => words.map((word) => (word === '' || /[\s"']/.test(word) ? (word.includes('"') ? `'${word}'` : `"${word}"`) : word)).join(' ');
