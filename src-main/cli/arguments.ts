/** Command-line arguments: known flags, the nearest one for a misspelt flag, numbers and ranges that are what they say. */
import { parseArgs } from 'node:util';
import { nearestKey } from '../contract/run.ts';

/** Wrong usage: exit code 2. */
export class UsageError extends Error {}

export interface FlagSpec {
  readonly type: 'string' | 'boolean';
  readonly multiple?: boolean;
}

export type FlagSpecs = Readonly<Record<string, FlagSpec>>;

/** What every command takes. */
const COMMON: FlagSpecs = { json: { type: 'boolean' }, help: { type: 'boolean' } };

export class Arguments {
  readonly positionals: readonly string[];
  readonly json: boolean;
  readonly help: boolean;
  private readonly values: Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

  /** @throws UsageError for a flag that is not in `specs`, or that lacks its value */
  constructor(argv: readonly string[], specs: FlagSpecs) {
    const options = { ...COMMON, ...specs };
    const { tokens } = parseArgs({ args: [...argv], options, strict: false, allowPositionals: true, tokens: true });
    for (const token of tokens) {
      if (token.kind !== 'option') continue;
      const spec = options[token.name];
      if (!spec) {
        const near = nearestKey(token.name, Object.keys(options));
        throw new UsageError(`Unknown option ${token.rawName}${near ? `: did you mean --${near}?` : `. Options: ${Object.keys(options).map((each) => `--${each}`).join(', ')}.`}`);
      }
      if (spec.type === 'string' && (token.value === undefined || token.value.startsWith('--'))) throw new UsageError(`--${token.name} needs a value.`);
      if (spec.type === 'boolean' && token.value !== undefined) throw new UsageError(`--${token.name} takes no value.`);
    }
    const parsed = parseArgs({ args: [...argv], options, strict: false, allowPositionals: true });
    this.values = parsed.values;
    this.positionals = parsed.positionals;
    this.json = parsed.values['json'] === true;
    this.help = parsed.values['help'] === true;
  }

  flag(name: string): boolean {
    return this.values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.values[name];
    return typeof value === 'string' ? value : undefined;
  }

  /** Every value of a flag that may be repeated. */
  texts(name: string): string[] {
    const value = this.values[name];
    return (Array.isArray(value) ? value : [value]).filter((each): each is string => typeof each === 'string');
  }

  /** @throws UsageError where it is not given */
  need(name: string): string {
    const value = this.text(name);
    if (value === undefined || value === '') throw new UsageError(`--${name} is missing.`);
    return value;
  }

  /** @throws UsageError unless it is a number in range; `whole` allows integers only */
  number(name: string, range: { min: number; max?: number; whole?: boolean }): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const number = Number(value);
    const { min, max = Number.MAX_SAFE_INTEGER, whole = false } = range;
    if (value.trim() === '' || !Number.isFinite(number) || number < min || number > max || (whole && !Number.isSafeInteger(number))) {
      const upper = range.max === undefined && !(Number.isFinite(number) && number > max) ? ' or more' : ` to ${max}`;
      throw new UsageError(`--${name} is "${value}", expected ${whole ? 'an integer' : 'a number'} of ${min}${upper}.`);
    }
    return number;
  }

  /** A path that must end where nothing follows: refuses surplus positionals. */
  allowPositionals(most: number): void {
    const surplus = this.positionals[most];
    if (surplus !== undefined) throw new UsageError(`Unexpected argument "${surplus}".`);
  }
}

/** Seeds such as "7", "0..3" (both ends included) or "1,5,9". @throws UsageError */
export function parseSeeds(text: string): number[] {
  const seeds = text.split(',').flatMap((part) => {
    const match = /^\s*(\d+)(?:\.\.(\d+))?\s*$/.exec(part);
    if (!match) throw new UsageError(`"${text}" names no seeds; write 7, 0..3 or 1,5,9.`);
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (to < from || to - from >= 10_000) throw new UsageError(`"${part}" is no range of seeds.`);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
  return seeds;
}
