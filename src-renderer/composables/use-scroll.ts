import { nextTick, onBeforeUnmount, type Ref } from 'vue';
import type { Router } from 'vue-router';

/** So long a page may take to be as high as it was. */
const LOADING_MS = 5000;

/** Pages scroll inside the frame, not with the window: a page that is opened begins at its top, the way back leads to where one was. */
export function useScroll(router: Router, main: Ref<HTMLElement | null>): void {
  const place = (): number => (window.history.state as { position?: number } | null)?.position ?? 0;
  const kept = new Map<number, number>();
  let at = place();
  let back = false;
  let turn = 0;
  async function scroll(to: number): Promise<void> {
    const mine = ++turn;
    await nextTick();
    const until = performance.now() + LOADING_MS;
    for (;;) {
      if (mine !== turn || !main.value) return;
      main.value.scrollTop = to;
      if (Math.abs(main.value.scrollTop - to) < 2 || performance.now() > until) return;
      await new Promise(requestAnimationFrame);
    }
  }
  const rest = (): void => void turn++; // whoever scrolls by hand is not scrolled
  const HANDS = ['wheel', 'pointerdown', 'keydown'] as const;
  for (const hand of HANDS) window.addEventListener(hand, rest, { passive: true });
  const off = [
    router.options.history.listen(() => (back = true)),
    router.beforeEach(() => void kept.set(at, main.value?.scrollTop ?? 0)),
    router.afterEach((to, from) => {
      const now = place();
      if (now !== at || to.path !== from.path) void scroll(back ? (kept.get(now) ?? 0) : 0);
      [at, back] = [now, false];
    }),
  ];
  onBeforeUnmount(() => {
    off.forEach((stop) => stop());
    for (const hand of HANDS) window.removeEventListener(hand, rest);
  });
}
