/** Example pictures of rewards whose model is a download: of the base model's own pictures those each likes least and most, kept for the picker. */
import { basename } from 'node:path';
import sharp from 'sharp';
import { writeWhole } from '../base/atomic.ts';
import { ownExamplesFile } from '../base/paths.ts';
import type { OwnExamples } from '../contract/api.ts';
import type { RewardTerm, RunConfig } from '../contract/run.ts';

export interface ScoredBase {
  readonly prompt: string;
  readonly rewards: Readonly<Record<string, number>>;
  /** A picture file, or its path. */
  readonly file: Buffer | string;
}

/** Longer side in pixels of what is kept. */
const SIDE = 192;

/**
 * Writes the examples of each reward that has a model of its own and does not like all of these pictures alike; those of the pictures before are replaced.
 * @throws where a picture cannot be read or a file not be written
 */
export async function keepOwnExamples(home: string, config: Pick<RunConfig, 'model' | 'rewards' | 'heldOutRewards'>, pictures: readonly ScoredBase[]): Promise<void> {
  const terms = new Map<string, RewardTerm>([...config.rewards, ...config.heldOutRewards].reverse().map((term) => [term.name, term])); // the first of a name has the name as its key
  for (const { name, model, object } of terms.values()) {
    const sorted = pictures.filter(({ rewards }) => Number.isFinite(rewards[name])).sort((a, b) => a.rewards[name]! - b.rewards[name]!);
    const [low, high] = [sorted[0], sorted.at(-1)];
    if (model === undefined || !low || !high || low.rewards[name] === high.rewards[name]) continue;
    const kept: OwnExamples = { model: config.model, by: basename(model), ...(object !== undefined && { object }), low: await shown(low, name), high: await shown(high, name) };
    writeWhole(ownExamplesFile(home, name), JSON.stringify(kept));
  }
}

async function shown({ file, prompt, rewards }: ScoredBase, name: string): Promise<OwnExamples['low']> {
  const small = await sharp(file).resize(SIDE, SIDE, { fit: 'inside', withoutEnlargement: true }).webp({ quality: 80 }).toBuffer();
  return { url: `data:image/webp;base64,${small.toString('base64')}`, prompt, value: rewards[name]! };
}
