/** Electron's bundles: the main process with its two child processes, the preload script as CommonJS for the sandbox, the pages. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'electron-vite';
import { rendererConfig } from './src-renderer/vite.config.ts';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

export default defineConfig({
  main: {
    build: {
      outDir: path('out/main'),
      rolldownOptions: {
        input: { main: path('src-main/main.ts'), 'trainer-process': path('src-main/worker/trainer-process.ts'), 'helper-process': path('src-main/app/helper-process.ts') },
        output: { format: 'es', entryFileNames: '[name].js', chunkFileNames: 'chunks/[name]-[hash].js' },
      },
    },
  },
  preload: {
    build: {
      outDir: path('out/preload'),
      // A sandboxed preload script cannot require packages: zod goes into the bundle.
      externalizeDeps: false,
      rolldownOptions: { input: { index: path('src-main/preload/index.ts') }, output: { format: 'cjs', entryFileNames: '[name].cjs' } },
    },
  },
  renderer: rendererConfig,
});
