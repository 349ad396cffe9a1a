/** What a setting is called, by its path in the config. */
import { fromMain, t, type MessageKey } from '../i18n.ts';
import { SETTING_FIELDS } from './setting-fields.ts';

const BLOCKS: Record<string, MessageKey> = { model: 'ui.model', prompts: 'ui.prompts', heldOutPrompts: 'newRun.heldOutPrompts', rewards: 'frame.rewards', heldOutRewards: 'reward.alsoScore', normalize: 'reward.divideAll' };

export function settingLabel(path: string): string {
  const field = SETTING_FIELDS.find((one) => one.path === path);
  return field ? fromMain(field.label) : BLOCKS[path] ? t(BLOCKS[path]) : path;
}
