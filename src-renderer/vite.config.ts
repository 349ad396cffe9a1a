/** The renderer's build; electron.vite.config.ts takes it over whole. */
import { fileURLToPath } from 'node:url';
import tailwindcss from '@tailwindcss/vite';
import vue from '@vitejs/plugin-vue';
import type { UserConfig } from 'vite';

const root = fileURLToPath(new URL('.', import.meta.url));

export const rendererConfig = {
  root,
  base: './',
  plugins: [vue(), tailwindcss()],
  build: {
    outDir: fileURLToPath(new URL('../out/renderer', import.meta.url)),
    emptyOutDir: true,
    target: 'es2023',
    // Fonts and pictures stay files: the content policy allows no data: fonts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: fileURLToPath(new URL('./index.html', import.meta.url)) },
  },
  // Only what is used of vue-i18n: no old interface, no traces for its developer tools.
  define: { __VUE_I18N_FULL_INSTALL__: false, __VUE_I18N_LEGACY_API__: false, __INTLIFY_PROD_DEVTOOLS__: false },
  server: { port: 5199, proxy: { '/ws': { target: 'http://127.0.0.1:5180', ws: true }, '/image': 'http://127.0.0.1:5180', '/resource': 'http://127.0.0.1:5180' } },
} satisfies UserConfig;

export default rendererConfig;
