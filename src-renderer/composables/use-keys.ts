import { onBeforeUnmount, onMounted } from 'vue';

/** Keys that move a slider; all others are free while it has the focus. */
const SLIDES = /^(Arrow|Home|End|Page)/;

/** True where a key belongs to what is being typed. */
export function isTyping(target: EventTarget | null, key = ''): boolean {
  if (target instanceof HTMLInputElement && target.type === 'range') return SLIDES.test(key);
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && !(target instanceof HTMLInputElement && /^(checkbox|radio|button)$/.test(target.type)));
}

/** Single-key shortcuts of a page; never while typing, never with a modifier held. */
export function useKeys(down: Record<string, (event: KeyboardEvent) => void>, up: Record<string, (event: KeyboardEvent) => void> = {}): void {
  const listen = (map: typeof down) => (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target, event.key)) return;
    const action = map[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    action(event);
  };
  const onDown = listen(down);
  const onUp = listen(up);
  onMounted(() => {
    window.addEventListener('keydown', onDown);
    window.addEventListener('keyup', onUp);
  });
  onBeforeUnmount(() => {
    window.removeEventListener('keydown', onDown);
    window.removeEventListener('keyup', onUp);
  });
}
