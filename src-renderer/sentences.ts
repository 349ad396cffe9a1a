/**
 * The main process speaks English: its sentences go into the history, into logs, to the command line and to other machines. Here they are read back
 * to the sentence they were made from and what was filled in, "{0} is no folder." and a path, and said in another language.
 */

/** English sentence with numbered holes -> the same in another language. `{0#}` writes the numbers of that hole as the language does. */
export type Sentences = Readonly<Record<string, string>>;

/** What kind of thing went wrong, by an error's code: the title of one whose sentence has no translation. */
export const KINDS = {
  config: 'error.config', weights: 'error.weights', engine: 'error.engine', network: 'error.network', disk: 'error.disk', history: 'error.history', run: 'error.run', busy: 'error.busy',
  'not-found': 'error.notFound', denied: 'error.denied', cancelled: 'work.cancelled', internal: 'error.internal',
} as const;

interface Pattern {
  readonly said: string;
  /** What stands between the holes. */
  readonly parts: readonly string[];
  readonly longest: string;
  readonly whole: RegExp;
  /** The sentence with more after it. */
  readonly head: RegExp;
  /** Of its own, beside the holes. */
  readonly letters: number;
  readonly ends: boolean;
}

/** Letters a sentence has to have of its own before anything may stand in its holes; of a shorter one they hold one word, a number with its unit, or what is known. */
const ENOUGH = 12;
const ONE_WORD = /^(\S*|[\d.]+ \S+)$/;
/** Pieces that are looked up for one text at most: what takes more is none of the app's. */
const MOST_PIECES = 120;
/** Longer texts are not sentences of the app's. */
const LONGEST = 1000;
/** What joins lists. */
const LIST = '; ';
const JOINTS = [LIST, ', and ', ', '];

export class Translator {
  private readonly table: Sentences;
  private readonly patterns: readonly Pattern[];
  private readonly kept = new Map<string, string | null>();
  /** Pieces that may still be looked up, 0 between texts. */
  private pieces = 0;
  private readonly number: (digits: string) => string;
  private readonly space: string;

  /** @param number writes digits such as "0.52" as the language does @param space what stands between sentences */
  constructor(table: Sentences, number: (digits: string) => string, space: string) {
    this.table = table;
    this.number = number;
    this.space = space;
    this.patterns = Object.entries(table).filter(([text]) => !JOINTS.includes(text)).map(([text, said]) => patternOf(text, said)).sort((a, b) => b.letters - a.letters || b.parts.join('').length - a.parts.join('').length);
  }

  /** The text in the language, null where the table does not know it. */
  say(text: string): string | null {
    const kept = this.kept.get(text);
    if (kept !== undefined || text.length > LONGEST) return kept ?? null;
    const first = this.pieces === 0;
    if (first) this.pieces = MOST_PIECES;
    else if (--this.pieces === 1) return null;
    const said = this.find(text) ?? this.withStop(text);
    if (this.kept.size > 2000) this.kept.clear();
    if (first || this.pieces > 1) this.kept.set(text, said);
    if (first) this.pieces = 0;
    return said;
  }

  /** A sentence that was taken into another without its full stop. */
  private withStop(text: string): string | null {
    return /[.!?]$/.test(text) || !text.includes(' ') ? null : (this.find(`${text}.`)?.replace(/[.。]$/, '') ?? null);
  }

  private find(text: string): string | null {
    if (Object.hasOwn(this.table, text)) return this.table[text]!;
    for (const pattern of this.patterns) {
      const found = this.match(pattern, text);
      if (found !== null) return found;
    }
    return this.several(text);
  }

  /** The sentence alone, or with others after it. */
  private match(pattern: Pattern, text: string): string | null {
    if (!text.includes(pattern.longest) || !pattern.parts.every((part) => text.includes(part))) return null;
    const head = pattern.ends ? pattern.head.exec(text) : null;
    const rest = head?.at(-1);
    const after = rest === undefined ? null : this.say(rest);
    if (head && after !== null) {
      const said = this.fill(pattern, head.slice(1, -1));
      if (said !== null) return said + this.space + after;
    }
    const whole = pattern.whole.exec(text);
    // A sentence without an end of its own does not run on over the rest of a list.
    const list = whole && pattern.parts.at(-1) === '' && text.includes(LIST) ? this.list(text, LIST) : null;
    return list ?? (whole && this.fill(pattern, whole.slice(1)));
  }

  private fill({ said, letters, parts }: Pattern, found: readonly string[]): string | null {
    const holes = this.apart(parts, found);
    const known = holes.map((each) => (each === '' ? '' : this.say(each)));
    if (letters < ENOUGH && holes.some((each, at) => known[at] === null && !ONE_WORD.test(each.trim()))) return null;
    return said.replace(/\{(\d)(#?)\}/g, (_, at: string, counts: string) => {
      const text = known[Number(at)] ?? holes[Number(at)] ?? '';
      return counts ? text.replace(/\d+(\.\d+)?/g, (digits) => this.number(digits)) : text;
    });
  }

  /** Holes with nothing between them: what is known of their end belongs to the second, " at step 5". */
  private apart(parts: readonly string[], found: readonly string[]): string[] {
    const holes = [...found];
    for (let at = 1; at < holes.length; at++) {
      if (parts[at] !== '' || holes[at - 1] !== '') continue;
      const both = holes[at]!;
      const cut = [...both.matchAll(/\W/g)].find(({ index }) => this.say(both.slice(index)) !== null)?.index ?? both.length;
      [holes[at - 1], holes[at]] = [both.slice(0, cut), both.slice(cut)];
    }
    return holes;
  }

  private list(text: string, joint: string): string | null {
    for (let cut = text.indexOf(joint); cut >= 0; cut = text.indexOf(joint, cut + 1)) {
      const [first, rest] = [this.say(text.slice(0, cut)), this.say(text.slice(cut + joint.length))];
      if (first !== null && rest !== null) return first + (this.table[joint] ?? joint) + rest;
    }
    return null;
  }

  /** A list, or sentences one after another: each by itself. */
  private several(text: string): string | null {
    for (const joint of JOINTS) {
      const list = this.list(text, joint);
      if (list !== null) return list;
    }
    return this.sentences(text, (first, rest) => (first === null || rest === null ? null : first + this.space + rest));
  }

  /** As {@link say}; where only some of its sentences are known, the others stay as they are. */
  sayPartly(text: string): string | null {
    return this.say(text) ?? (text.length > LONGEST ? null : this.sentences(text, (first, rest, [english, after]) => (first === null && rest === null ? null : (first ?? english) + (first === null ? ' ' : this.space) + (rest ?? after))));
  }

  /** What is made of the first cut after a sentence of which something can be made. */
  private sentences(text: string, join: (first: string | null, rest: string | null, english: readonly [string, string]) => string | null): string | null {
    for (const { index } of text.matchAll(/[.!?] (?=\S)/g)) {
      const english = [text.slice(0, index + 1), text.slice(index + 2)] as const;
      const said = join(this.say(english[0]), this.say(english[1]), english);
      if (said !== null) return said;
    }
    return null;
  }
}

function patternOf(text: string, said: string): Pattern {
  const parts = text.split(/\{\d\}/);
  const longest = parts.reduce((a, b) => (b.length > a.length ? b : a));
  const literal = parts.map((each) => each.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)).join('(.*?)');
  return {
    said, parts, longest, whole: new RegExp(`^${literal}$`, 's'), head: new RegExp(`^${literal} (.+)$`, 's'), letters: parts.join('').replace(/[^\p{L}]/gu, '').length, ends: /[.!?]$/.test(text),
  };
}
