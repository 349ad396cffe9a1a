/** Scores of pictures by every reward at hand, asked for on the spot: a run measures only its own, and two runs may share none. Kept as long as the page. */
import { reactive, ref } from 'vue';
import type { ImageRow } from '#contract/api.ts';
import type { RewardTerm, RunConfig } from '#contract/run.ts';
import { api } from '../api/client.ts';
import { useCatalogStore } from '../stores/catalog.ts';
import { useToastsStore } from '../stores/toasts.ts';

async function base64(url: string): Promise<string> {
  const blob = await (await fetch(url)).blob();
  return new Promise((resolve, reject) => {
    const read = new FileReader();
    read.onload = () => resolve(String(read.result).replace(/^[^,]*,/, ''));
    read.onerror = () => reject(read.error!);
    read.readAsDataURL(blob);
  });
}

export function useScores() {
  const catalog = useCatalogStore();
  const toasts = useToastsStore();
  const found = reactive(new Map<number, Record<string, number>>());
  const scoring = ref(false);
  /** What the run measured, and what was asked for here. */
  const of = (image: ImageRow | null): Record<string, number> => (image ? { ...found.get(image.id), ...image.rewards } : {});

  /** The runs' own terms, with the models they name, and every other reward that needs nothing. */
  function terms(configs: readonly RunConfig[]): RewardTerm[] {
    const own = new Map(configs.flatMap((config) => [...config.rewards, ...config.heldOutRewards]).filter((term) => term.command === undefined).reverse().map((term) => [term.name, term]));
    const free = catalog.rewards.filter((info) => info.usable && !info.needsModel && info.takes.length === 0 && !own.has(info.name));
    return [...[...own.values()].map(({ prompts: _some, ...term }) => term), ...free.map(({ name }) => ({ name, weight: 1 }))];
  }
  async function score(images: readonly ImageRow[], configs: readonly RunConfig[], prompt: string): Promise<void> {
    scoring.value = true;
    try {
      const pictures = await Promise.all(images.map(async (image) => ({ name: String(image.id), data: await base64(api.imageUrl(image.id)) })));
      for (const one of await api.request('rewards.score', { rewards: terms(configs), prompt, pictures })) found.set(Number(one.name), one.scores);
    } catch (cause) {
      toasts.fail(cause);
    }
    scoring.value = false;
  }
  return { of, score, scoring };
}
