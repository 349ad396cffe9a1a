import { usePreferredDark } from '@vueuse/core';
import { computed, watchEffect, type Ref } from 'vue';
import type { Settings } from '#contract/api.ts';

/** Sets `data-theme` on the page; returns the theme that is shown. */
export function useTheme(choice: Ref<Settings['theme']>): Ref<'light' | 'dark'> {
  const prefersDark = usePreferredDark();
  const theme = computed(() => (choice.value === 'system' ? (prefersDark.value ? 'dark' : 'light') : choice.value));
  watchEffect(() => {
    document.documentElement.dataset['theme'] = theme.value;
  });
  return theme;
}
