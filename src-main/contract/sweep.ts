/** Sweeps: one run for each value of a setting; of several settings as a grid, or as a list whose values go together. Pure. */

export interface Sweep { readonly key: string; readonly values: readonly string[] }
export interface Assignment { readonly key: string; readonly value: string }

/** More runs than this are hardly meant. */
export const MOST_RUNS = 200;

/** Values separated by commas, or a JSON list (needed where a value has a comma of its own). */
export function sweepValues(text: string): string[] {
  if (text.trimStart().startsWith('[')) {
    try {
      const list: unknown = JSON.parse(text);
      if (Array.isArray(list)) return list.map((each) => JSON.stringify(each));
    } catch {
      // not a JSON list: values with brackets in them
    }
  }
  return text.split(',').map((each) => each.trim()).filter((each) => each !== '');
}

/** How many runs they make; NaN for a list whose settings have different numbers of values. */
export function sweepCount(sweeps: readonly Sweep[], as: 'grid' | 'list'): number {
  const counts = sweeps.map(({ values }) => values.length);
  if (as === 'grid' || counts.length === 0) return counts.reduce((product, n) => product * n, 1);
  return counts.every((n) => n === counts[0]) ? counts[0]! : Number.NaN;
}

/** What each run assigns, the last setting of a grid changing fastest; the count is to be checked before. */
export function sweepRuns(sweeps: readonly Sweep[], as: 'grid' | 'list'): Assignment[][] {
  if (as === 'list' && sweeps.length > 0) return sweeps[0]!.values.map((_, i) => sweeps.map(({ key, values }) => ({ key, value: values[i]! })));
  return sweeps.reduce<Assignment[][]>((runs, { key, values }) => runs.flatMap((run) => values.map((value) => [...run, { key, value }])), [[]]);
}

/**
 * Sets one key of a config in place, e.g. "lora.rank" to "8", "rewards.0.weight" to "2"; null takes it out. The value is JSON, or a text where it is none.
 * @returns what is wrong, or null
 */
export function assign(config: Record<string, unknown>, { key, value: text }: Assignment): string | null {
  const path = key.split('.');
  if (['__proto__', 'constructor', 'prototype'].some((each) => path.includes(each))) return 'unknown key';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = text;
  }
  let place = config;
  for (const part of path.slice(0, -1)) {
    const next = Object.hasOwn(place, part) ? place[part] : (place[part] = {});
    if (typeof next !== 'object' || next === null) return `"${part}" is not a group of settings`;
    place = next as Record<string, unknown>;
  }
  const last = path.at(-1)!;
  if (value === null) delete place[last];
  else place[last] = value;
  return null;
}
