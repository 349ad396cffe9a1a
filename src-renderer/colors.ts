/**
 * One colour for each reward across the app. These are chosen to be told apart from each other and from the accent of tuned
 * pictures on light and dark ground; a reward that is not listed keeps the colour the main process gives it.
 */
const KNOWN: Record<string, string> = {
  symmetry: '#0f9d8a', 'relative-symmetry': '#5a9e2f', incompressibility: '#8a6d3b', compressibility: '#b7791f', brightness: '#c9a400', colorfulness: '#d0488f', clipscore: '#7b61d1',
  pickscore: '#8a8f1a', 'hpsv2.1': '#c2572b', aesthetic: '#2f86c9', imagereward: '#a05195', objectness: '#6b7d1e',
};
const SPARE = ['#0f9d8a', '#c2572b', '#7b61d1', '#3f8f3f', '#d0488f', '#b7791f'];

export function rewardColor(name: string, given?: string): string {
  const known = KNOWN[name] ?? given;
  if (known) return known;
  let sum = 0;
  for (const letter of name) sum += letter.codePointAt(0)!;
  return SPARE[sum % SPARE.length]!;
}

/** Colours of runs drawn in one chart. */
export const RUN_COLORS = ['#3557d6', '#c2572b', '#0f9d8a', '#a05195', '#b7791f', '#3f8f3f', '#d0488f', '#62656a'];
