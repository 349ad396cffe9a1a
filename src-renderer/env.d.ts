import type { Transport } from '#contract/api.ts';

declare global {
  interface Window {
    /** Set by the preload script in Electron; absent in a browser. */
    drtune?: Transport;
  }
}
