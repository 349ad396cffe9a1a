/** A run made again from a manifest: whether it had the same inputs and engine, and came to the same weights. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { sha256Of } from '../base/atomic.ts';
import type { Manifest } from '../train/manifest.ts';

function readManifest(file: string): Partial<Manifest> | null {
  try {
    const value = JSON.parse(readFileSync(file, 'utf8')) as Partial<Manifest>;
    return typeof value.inputs === 'object' && typeof value.config === 'object' && value.version === 1 ? value : null;
  } catch {
    return null;
  }
}

/** Steps of the checkpoints of both runs whose LoRA differs, and how many could be compared. */
function compareWeights(first: string, second: string): { compared: number; other: string[] } {
  const lora = (runDir: string, name: string): string => join(runDir, 'checkpoints', name, 'lora.safetensors');
  const names = existsSync(join(first, 'checkpoints')) ? readdirSync(join(first, 'checkpoints')).filter((name) => existsSync(lora(first, name)) && existsSync(lora(second, name))) : [];
  return { compared: names.length, other: names.filter((name) => sha256Of(lora(first, name)) !== sha256Of(lora(second, name))) };
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
