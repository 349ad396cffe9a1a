/** Models, rewards and presets: lists that rarely change. */
import { defineStore } from 'pinia';
import { computed, shallowRef } from 'vue';
import type { ModelInfo, Preset, PromptSet, RewardInfo } from '#contract/api.ts';
import { api, words } from '../api/client.ts';
import { rewardColor } from '../colors.ts';
import { fromMain } from '../i18n.ts';

export const useCatalogStore = defineStore('catalog', () => {
  const models = shallowRef<ModelInfo[]>([]);
  const rewards = shallowRef<RewardInfo[]>([]);
  const presets = shallowRef<Preset[]>([]);
  const promptSets = shallowRef<PromptSet[]>([]);
  const loaded = shallowRef(false);
  const error = shallowRef<{ message: string; hint: string | undefined } | null>(null);
  const rewardByName = computed(() => new Map(rewards.value.map((reward) => [reward.name, reward])));

  async function load(): Promise<void> {
    try {
      const [presetList, setList] = await Promise.all([api.request('presets.list', {}), api.request('prompts.sets', {}), loadModels(), loadRewards()]);
      presets.value = presetList;
      promptSets.value = setList;
      loaded.value = true;
      error.value = null;
    } catch (cause) {
      error.value = words(cause);
    }
  }
  async function loadRewards(): Promise<void> {
    rewards.value = (await api.request('rewards.list', {})).map((reward) => ({ ...reward, color: rewardColor(reward.name, reward.color) }));
  }
  let asked = 0;
  /** A list asked for later is never replaced by one asked for before. */
  async function loadModels(): Promise<void> {
    const own = ++asked;
    const list = await api.request('models.list', {});
    if (own === asked) models.value = list;
  }
  /** Grey until the list is there: a reward has one colour, and does not come by it in front of the user. */
  const color = (name: string): string => (!loaded.value && !error.value) ? 'var(--line-strong)' : rewardColor(name, rewardByName.value.get(name)?.color);
  const title = (name: string): string => fromMain(rewardByName.value.get(name)?.title ?? name);
  return { models, rewards, presets, promptSets, loaded, error, rewardByName, load, loadModels, loadRewards, color, title };
});
