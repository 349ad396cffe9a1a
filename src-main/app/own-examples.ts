/** The example pictures that rewards chose on this machine, beside those that come with the app; see worker/own-examples.ts. */
import { readFileSync } from 'node:fs';
import { ownExamplesFile } from '../base/paths.ts';
import { ownExamplesSchema, type OwnExamples, type RewardInfo } from '../contract/api.ts';

export const withOwnExamples = (home: string, rewards: readonly RewardInfo[]): RewardInfo[] => rewards.map((info) => ({ ...info, own: ownExamples(home, info.name) }));

/** None where there are none yet or the file is damaged: the next pictures that are scored write it anew. */
function ownExamples(home: string, name: string): OwnExamples | undefined {
  try {
    return ownExamplesSchema.parse(JSON.parse(readFileSync(ownExamplesFile(home, name), 'utf8')));
  } catch {
    return undefined;
  }
}
