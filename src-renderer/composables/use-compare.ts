/** State of the compare page: the two sides, what each shows for a prompt and seed, and painting what is missing. */
import { watchDebounced } from '@vueuse/core';
import { computed, reactive, ref, watch } from 'vue';
import { useRoute, useRouter } from 'vue-router';
import { api, words } from '../api/client.ts';
import { useDetailsStore } from '../stores/details.ts';
import { pictureKey, subjects, type Subject } from '../stores/run-view.ts';
import { useRunsStore } from '../stores/runs.ts';
import { baseSide, canPaint, imageOf, nearestImage, newestStep, readSide, stepsOf, writeSide, type Side } from '../stores/sides.ts';
import { useToastsStore } from '../stores/toasts.ts';

export function useCompare() {
  const route = useRoute();
  const router = useRouter();
  const runs = useRunsStore();
  const details = useDetailsStore();
  const toasts = useToastsStore();
  const a = ref<Side | null>(null);
  const b = ref<Side | null>(null);
  const error = ref<{ message: string; hint: string | undefined } | null>(null);
  const loading = ref(true);
  const painting = reactive(new Set<string>());
  /** Prompts typed in here that have no picture yet. */
  const extra = ref<Subject[]>([]);

  const detailA = computed(() => (a.value ? details.byId.get(a.value.run) : undefined));
  const detailB = computed(() => (b.value ? details.byId.get(b.value.run) : undefined));

  async function open(): Promise<void> {
    loading.value = true;
    error.value = null;
    try {
      if (!runs.loaded) await runs.load();
      if (!runs.loaded) error.value = runs.error; // an empty list is not the same as one that cannot be read
      const asked = [route.query['run']].flat().filter((id): id is string => typeof id === 'string');
      const fallback = runs.list.find((run) => run.thumbnails !== null) ?? runs.list[0];
      const ids = asked.length > 0 ? asked : fallback ? [fallback.id] : [];
      const [given, other] = [readSide(route.query['a']), readSide(route.query['b'])];
      const [first, second] = await Promise.all([given?.run ?? ids[0], other?.run ?? ids[1] ?? ids[0]].map((id) => (id === undefined ? undefined : details.load(id))));
      if (first && second) {
        const step = typeof route.query['step'] === 'string' ? Number(route.query['step']) : undefined;
        a.value = given ?? (ids.length > 1 ? { run: first.summary.id, step: newestStep(first), strength: 1 } : baseSide(first.summary.id));
        b.value = other ?? { run: second.summary.id, step: step ?? newestStep(second), strength: 1 };
      }
    } catch (cause) {
      error.value = words(cause);
    }
    loading.value = false;
  }
  /** Addresses of its own making that are on their way. */
  let writing = 0;
  function writeAddress(): void {
    if (!a.value || !b.value || route.name !== 'compare') return;
    writing++;
    void router.replace({ path: '/compare', query: { a: writeSide(a.value), b: writeSide(b.value) } }).finally(() => writing--);
  }
  watch([a, b], writeAddress);
  /** A link to another comparison is followed here as well; one without runs, as the rail's, keeps this one. */
  watch(() => route.query, (query) => {
    if (writing > 0 || route.name !== 'compare' || !a.value || !b.value || (query['a'] === writeSide(a.value) && query['b'] === writeSide(b.value))) return;
    if (query['a'] ?? query['run']) void open();
    else writeAddress();
  });

  async function pickRun(side: 'a' | 'b', id: string): Promise<void> {
    try {
      const detail = details.byId.get(id) ?? (await details.load(id));
      const target = side === 'a' ? a : b;
      target.value = target.value?.step === 'base' ? baseSide(id) : { run: id, step: newestStep(detail), strength: target.value?.strength ?? 1 };
    } catch (cause) {
      toasts.fail(cause);
    }
  }

  const all = computed<Subject[]>(() => {
    const found = new Map<string, Subject>();
    for (const detail of [detailA.value, detailB.value]) for (const one of subjects(detail?.images ?? [])) if (!found.has(one.key)) found.set(one.key, one);
    for (const one of extra.value) if (!found.has(one.key)) found.set(one.key, one);
    return [...found.values()];
  });
  const imageA = (key: string) => imageOf(detailA.value, a.value, key);
  const imageB = (key: string) => imageOf(detailB.value, b.value, key);
  /** The picture of a side, or the nearest one that is there. */
  const nearA = (key: string) => imageA(key) ?? nearestImage(detailA.value, a.value, key);
  const nearB = (key: string) => imageB(key) ?? nearestImage(detailB.value, b.value, key);

  /** Paints both sides of a prompt and seed, as far as they are missing; false where that was not to be. */
  async function paint(prompt: string, seed: number): Promise<boolean> {
    const key = pictureKey({ prompt, seed });
    if (painting.has(key)) return true;
    painting.add(key);
    try {
      const wanted = [{ side: a.value, there: imageA(key) }, { side: b.value, there: imageB(key) }].filter((one) => one.side && !one.there && canPaint(one.side === a.value ? detailA.value : detailB.value, one.side)).map((one) => one.side!);
      const jobs = new Map<string, Side>();
      // One request paints base and tuned of a run: the base side needs none of its own where the tuned side asks anyway.
      for (const side of wanted.sort((one) => (one.step === 'base' ? 1 : -1))) {
        if (side.step === 'base' && [...jobs.values()].some((job) => job.run === side.run)) continue;
        jobs.set(writeSide(side), side);
      }
      for (const side of jobs.values()) {
        const rows = await api.request('runs.render', { id: side.run, prompt, seed, ...(side.step === 'base' ? { step: 0 } : { step: side.step, strength: side.strength, loraFrom: side.loraFrom ?? 0 }) });
        details.addImages(side.run, rows);
      }
      return true;
    } catch (cause) {
      toasts.fail(cause);
      return false;
    } finally {
      painting.delete(key);
    }
  }
  /** The pair in view is painted by itself once a slider has come to rest on a step or strength that has no picture. */
  const filled = ref<Subject | null>(null);
  const wanted = computed(() => {
    const one = filled.value;
    if (!one || painting.has(one.key)) return '';
    const missing = [{ side: a.value, there: imageA(one.key), detail: detailA.value }, { side: b.value, there: imageB(one.key), detail: detailB.value }].filter((each) => !each.there && canPaint(each.detail, each.side));
    return missing.length === 0 ? '' : `${one.key} ${missing.map((each) => writeSide(each.side!)).join(' ')}`;
  });
  let tried = '';
  watchDebounced(wanted, (now) => {
    if (now === '' || now === tried || !filled.value) return;
    tried = now; // what failed once is asked for by hand
    void paint(filled.value.prompt, filled.value.seed);
  }, { debounce: 350 });

  function add(prompt: string, seed: number): string {
    const key = pictureKey({ prompt, seed });
    if (!all.value.some((one) => one.key === key)) extra.value = [...extra.value, { key, prompt, seed, heldOut: true }];
    void paint(prompt, seed);
    return key;
  }
  return {
    a, b, detailA, detailB, error, loading, painting, filled, all, imageA, imageB, nearA, nearB, open, pickRun, paint, add,
    stepsA: computed(() => stepsOf(detailA.value)), stepsB: computed(() => stepsOf(detailB.value)),
  };
}
