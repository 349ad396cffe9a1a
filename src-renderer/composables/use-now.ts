import { useIntervalFn } from '@vueuse/core';
import { ref, type Ref } from 'vue';

/** The time, refreshed so that elapsed times and "2 min ago" stay true. */
export function useNow(ms = 1000): Ref<number> {
  const now = ref(Date.now());
  useIntervalFn(() => (now.value = Date.now()), ms);
  return now;
}
