import './zod-setup.ts';
import './styles/index.css';
import { createPinia, disposePinia } from 'pinia';
import { createApp } from 'vue';
import { START_LOCATION } from 'vue-router';
import App from './App.vue';
import { api, connect, useTransport } from './api/client.ts';
import { i18n, keptLanguage, setLanguage } from './i18n.ts';
import { router } from './router.ts';

const mock = import.meta.env.DEV ? new URL(window.location.href).searchParams.get('mock') : null;
if (import.meta.env.DEV && mock !== null) {
  const { mockTransport } = await import('./dev/mock-transport.ts');
  useTransport(mockTransport(mock === 'empty' || mock === 'failing' ? mock : 'full'));
} else {
  connect();
}

await setLanguage(keptLanguage()).catch(() => undefined);

/** The app opens on the page of the first start until that was left once; whoever has runs knows the app. */
router.beforeEach(async (to, from) => {
  if (from !== START_LOCATION || to.fullPath !== '/' || api.server() !== null) return true;
  const isNew = async (): Promise<boolean> => !(await api.request('settings.get', {})).welcomed && (await Promise.all([false, true].map((deleted) => api.request('runs.list', { deleted, limit: 1 })))).every((runs) => runs.length === 0);
  return (await isNew().catch(() => false)) ? '/setup' : true;
});

/** Pages that were built anew while this window was open have other names: it is loaded again, once. */
router.onError((error: Error, to) => {
  if (!/dynamically imported module|module script failed/i.test(error.message) || Date.now() - Number(sessionStorage.getItem('drtune.reloaded')) < 10_000) return;
  sessionStorage.setItem('drtune.reloaded', String(Date.now()));
  window.location.hash = to.fullPath;
  window.location.reload();
});

function mount(): () => void {
  const pinia = createPinia();
  const app = createApp(App).use(pinia).use(router).use(i18n);
  app.mount('#app');
  return () => {
    app.unmount();
    disposePinia(pinia);
  };
}

let unmount = mount();
api.onServer((change) => {
  // A run, or what is compared, is of one machine; the page itself there is on each.
  const { name, path } = router.currentRoute.value;
  unmount();
  change();
  void router.replace(name === 'run' ? '/' : path).catch(() => undefined).then(() => {
    unmount = mount();
    document.getElementById('main')?.focus();
  });
});
