/** The main process never loads TensorFlow.js: a native crash must end a run, not the app. Nor does it download: of the hub's room it reads records and names. */
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '../../..');

/** Files that run when `entry` is imported; `import type` does not count, a dynamic import does. */
function reached(entry: string, seen = new Set<string>()): Set<string> {
  if (seen.has(entry)) return seen;
  seen.add(entry);
  const source = readFileSync(entry, 'utf8');
  const imports = [...source.matchAll(/^(?:import|export)\s+(?!type\b)(?:[^'";]*?from\s+)?'(\.[^']+)'/gm), ...source.matchAll(/\bimport\('(\.[^']+)'\)/g)];
  for (const [, path] of imports) reached(join(dirname(entry), path!), seen);
  return seen;
}

it.each(['serve.ts', 'main.ts'])('src-main/%s reaches no file that computes', (entry) => {
  const files = [...reached(join(root, 'src-main', entry))].map((file) => relative(join(root, 'src-main'), file));
  expect(files).toContain('app/run-service.ts');
  expect(files).toContain('models/clip-tokenizer.ts');
  // Of the forecast, which counts what adapters and optimisers keep; and a manifest read for a run made again.
  const arithmetic = ['train/memory-plan.ts', 'train/memory-estimate.ts', 'train/trained-size.ts', 'pipeline/lora/factorization.ts', 'train/manifest.ts', ...['index', 'optimizer', 'adamw', 'adamw-8bit', 'adafactor', 'prodigy'].map((name) => `train/optimizers/${name}.ts`)];
  expect(files.filter((file) => /^(engine|nn|pipeline|rewards|train|schedulers)\//.test(file) && !arithmetic.includes(file))).toEqual([]);
  for (const file of files) expect(readFileSync(join(root, 'src-main', file), 'utf8'), file).not.toMatch(/from '(@tensorflow|koffi|sharp|undici|yauzl)/);
});
