/** Lists of prompts as people write them: one a line, CSV with a seed column, choices in braces. Pure text, for trainer and pages alike. */

export interface PromptEntry {
  readonly prompt: string;
  /** Seed of its sample pictures, where the list gives one. */
  readonly seed?: number;
}

/** What is wrong with a list or a template, in one line. */
export class PromptError extends Error {
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.name = 'PromptError';
    this.hint = hint;
  }
}

/** Text of a file: UTF-8, UTF-16 that says so (Windows' "Unicode"), otherwise Windows' Western letters. @throws PromptError for what is no text */
export function textOfFile(bytes: Uint8Array): string {
  const mark = `${bytes[0]} ${bytes[1]}`;
  const text = mark === '255 254' ? new TextDecoder('utf-16le').decode(bytes) : mark === '254 255' ? new TextDecoder('utf-16be').decode(bytes) : utf8Or1252(bytes);
  if (text.includes('\0')) throw new PromptError('The list is no text.', 'Save it as plain text or as CSV.');
  return text;
}

function utf8Or1252(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}

/**
 * Reads a list: a table (CSV, also with semicolons or tabs) where its first line names a column "prompt", otherwise one prompt a line. Blank lines
 * and, outside of tables, lines that begin with # are left out; so are both before a table.
 * @throws PromptError for a table that is not whole
 */
export function parsePrompts(text: string): PromptEntry[] {
  const clean = text.replace(/^\uFEFF/, '').replace(/\r\n?/g, '\n');
  const table = tableOf(clean);
  if (table) return parseTable(table);
  return clean.split('\n').map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#')).map((prompt) => ({ prompt }));
}

/** Whether a text is a table of prompts rather than one a line. */
export function isPromptTable(text: string): boolean {
  return tableOf(text.replace(/^\uFEFF/, '').replace(/\r\n?/g, '\n')) !== null;
}

interface Table {
  /** From its first line on, and how many lines lie before. */
  readonly text: string; readonly before: number;
  readonly columns: readonly string[];
  /** Null for one column, whose commas are the prompt's own. */
  readonly separator: string | null;
}

function tableOf(text: string): Table | null {
  const lines = text.split('\n');
  const before = lines.findIndex((line) => line.trim() !== '' && !line.startsWith('#'));
  if (before < 0 || before === lines.length - 1) return null;
  for (const separator of [',', ';', '\t']) {
    const columns = lines[before]!.split(separator).map((each) => each.trim().replace(/^"(.*)"$/, '$1').toLowerCase());
    if (columns.includes('prompt')) return { text: lines.slice(before).join('\n'), before, columns, separator: columns.length > 1 ? separator : null };
  }
  return null;
}

function parseTable(table: Table): PromptEntry[] {
  const [promptAt, seedAt] = [table.columns.indexOf('prompt'), table.columns.indexOf('seed')];
  return records(table).slice(1).flatMap(({ fields, line }) => {
    const prompt = (fields[promptAt] ?? '').trim().replace(/\s*\n\s*/g, ' ');
    if (prompt === '') return [];
    const seed = seedAt < 0 ? '' : (fields[seedAt] ?? '').trim();
    if (seed === '') return [{ prompt }];
    if (!/^\d{1,15}$/.test(seed)) throw new PromptError(`Line ${line} of the list: the seed "${seed}" is not a whole number from 0.`, 'Leave the field empty for a seed of its own.');
    return [{ prompt, seed: Number(seed) }];
  });
}

/** Records of a table with the line each begins on. Source: RFC 4180. */
function records({ text, before, separator }: Table): { fields: string[]; line: number }[] {
  const found: { fields: string[]; line: number }[] = [];
  let [fields, field, quoted, opened, line, start]: [string[], string, boolean, number, number, number] = [[], '', false, 0, before + 1, before + 1];
  const end = (): void => {
    fields.push(field);
    if (fields.some((each) => each !== '')) found.push({ fields, line: start });
    [fields, field, start] = [[], '', line + 1];
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (quoted) {
      if (c === '"' && text[i + 1] === '"') field += text[++i];
      else if (c === '"') quoted = false;
      else field += c;
    } else if (c === '"' && field.trim() === '') [quoted, opened, field] = [true, line, ''];
    else if (c === separator) [fields, field] = [[...fields, field], ''];
    else if (c === '\n') end();
    else field += c;
    if (c === '\n') line++;
  }
  if (quoted) throw new PromptError(`Line ${opened} of the list: a quotation mark is never closed.`, 'Write "" for a quotation mark inside quotation marks.');
  end();
  return found;
}

/** A template taken apart: text, and choices between further templates. */
type Part = string | readonly Template[];
type Template = readonly Part[];

const DEEPEST = 100;

/**
 * Takes {a|b} apart; groups may stand in one another. Braces without | are text, as are \{ \| \} anywhere.
 * @throws PromptError naming the brace that has no partner
 */
function parseTemplate(text: string): Template {
  interface Open { readonly at: number; readonly parts: Part[][] }
  const stack: Open[] = [{ at: -1, parts: [[]] }];
  const add = (part: Part): void => {
    const parts = stack.at(-1)!.parts.at(-1)!;
    if (typeof part === 'string' && typeof parts.at(-1) === 'string') parts.push(`${parts.pop() as string}${part}`);
    else parts.push(part);
  };
  const lone = (brace: string, at: number): PromptError =>
    new PromptError(`The "${brace}" at character ${at + 1} of the prompt "${shortened(text)}" has no partner.`, `Write \\${brace} for a brace that is no choice.`);
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === '\\' && i + 1 < text.length) {
      const next = text[++i]!;
      add('{|}'.includes(next) ? next : c + next); // any other escape is the prompt's own
    } else if (c === '{') {
      if (stack.length > DEEPEST) throw new PromptError(`The prompt "${shortened(text)}" has choices within choices more than ${DEEPEST} deep.`, 'Write fewer braces.');
      stack.push({ at: i, parts: [[]] });
    }
    else if (c === '|' && stack.length > 1) stack.at(-1)!.parts.push([]);
    else if (c === '}') {
      if (stack.length === 1) throw lone('}', i);
      const { parts } = stack.pop()!;
      if (parts.length > 1) add(parts);
      else for (const part of ['{', ...parts[0]!, '}']) add(part);
    } else add(c);
  }
  if (stack.length > 1) throw lone('{', stack.at(-1)!.at);
  return stack[0]!.parts[0]!;
}

const shortened = (text: string): string => (text.length > 60 ? `${text.slice(0, 57)}...` : text);

/** Most prompts that one template becomes. */
export const MOST_VARIANTS = 16;

/** How many different choices a template offers; counted up to a thousand million. */
function countOf(template: Template): number {
  return template.reduce<number>((product, part) => (typeof part === 'string' ? product : Math.min(1e9, product * part.reduce((sum, each) => sum + countOf(each), 0))), 1);
}

/** The choice of that number, 0 to countOf - 1. */
function choiceOf(template: Template, number: number): string {
  let rest = number;
  let text = '';
  for (const part of template) {
    if (typeof part === 'string') {
      text += part;
      continue;
    }
    const counts = part.map(countOf);
    const total = counts.reduce((sum, each) => sum + each, 0);
    let at = rest % total;
    rest = Math.floor(rest / total);
    const taken = counts.findIndex((each) => (at < each ? true : ((at -= each), false)));
    text += choiceOf(part[taken]!, at);
  }
  return text;
}

/**
 * The prompts a template stands for: all its choices where there are few, otherwise 16 of them drawn by the seed, none twice; in
 * the order of the template. A prompt without choices is itself. Runs of spaces that an empty choice leaves become one.
 * @throws PromptError for a brace without partner
 */
export function expandPrompt(text: string, seed: number): string[] {
  if (!/[{}]/.test(text)) return [text];
  const template = parseTemplate(text);
  const count = countOf(template);
  const numbers = count <= MOST_VARIANTS ? Array.from({ length: count }, (_, i) => i) : drawn(count, MOST_VARIANTS, seed, text);
  return [...new Set(numbers.map((number) => choiceOf(template, number).replace(/ {2,}/g, ' ').trim()))].filter((each) => each !== '');
}

/** `wanted` different numbers below `count`, ascending: a function of seed and text. */
function drawn(count: number, wanted: number, seed: number, text: string): number[] {
  let state = (seed >>> 0) ^ Math.imul(Math.floor(seed / 2 ** 32) + 1, 0x9e3779b1);
  for (const character of text) state = Math.imul(state ^ character.codePointAt(0)!, 16777619) >>> 0;
  const taken = new Set<number>();
  while (taken.size < wanted) {
    // splitmix32
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    taken.add(Math.floor((((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32) * count));
  }
  return [...taken].sort((a, b) => a - b);
}

/** All templates of a list expanded; a prompt that is there already is left out. @throws PromptError */
export function expandPrompts(entries: readonly PromptEntry[], seed: number): PromptEntry[] {
  const found = new Map<string, PromptEntry>();
  for (const entry of entries) {
    for (const prompt of expandPrompt(entry.prompt, seed)) if (!found.has(prompt)) found.set(prompt, { ...entry, prompt });
  }
  return [...found.values()];
}
