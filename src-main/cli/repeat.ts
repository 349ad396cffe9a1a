/** A run made again from a manifest: whether it had the same inputs and engine, and came to the same weights. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { checkpointSums } from '../train/checkpoint.ts';
import type { Manifest } from '../train/manifest.ts';

function readManifest(file: string): Partial<Manifest> | null {
  try {
    const value = JSON.parse(readFileSync(file, 'utf8')) as Partial<Manifest>;
    return typeof value.inputs === 'object' && typeof value.config === 'object' && value.version === 1 ? value : null;
  } catch {
    return null;
  }
}

/** Steps of the checkpoints of both runs whose weights differ, and how many could be compared. */
function compareWeights(first: string, second: string): { compared: number; other: string[] } {
  const [before, now] = [checkpointSums(first), checkpointSums(second)];
  const both = [...before.keys()].filter((step) => now.has(step)).sort((a, b) => a - b);
  return { compared: both.length, other: both.filter((step) => before.get(step) !== now.get(step)).map((step) => `step ${step}`) };
}

/**
 * One line about a run that --config made again; null where the file is no manifest.
 * @param file what --config named @param runDir of the run made from it
 */
export function repeatLine(file: string, runDir: string): string | null {
  const [before, now] = [readManifest(file), readManifest(join(runDir, 'manifest.json'))];
  if (!before || !now) return null;
  const engine = ({ engine: one }: Partial<Manifest>): string => [one?.name, before.engine?.version && one?.version].filter(Boolean).join(' ');
  const differs = [
    ...(engine(before) === engine(now) ? [] : [`the engine is ${engine(now)}, it was ${engine(before)}`]),
    ...Object.entries(before.inputs!).filter(([name, sum]) => now.inputs![name] !== undefined && now.inputs![name] !== sum).map(([name]) => `${name} has changed`),
  ];
  const { compared, other } = compareWeights(dirname(file), runDir);
  const weights = compared === 0 ? '' : other.length === 0 ? ` and the same weights at ${compared} checkpoint${compared === 1 ? '' : 's'}, bit for bit` : `, but other weights at ${other.join(', ')}`;
  return differs.length > 0 ? `Made again, but not with the same: ${differs.slice(0, 3).join('; ')}${differs.length > 3 ? ` and ${differs.length - 3} more` : ''}.` : `Made again with the same inputs and engine${weights}.`;
}
