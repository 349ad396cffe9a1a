import './zod-setup.ts';
import './styles/index.css';
import { createPinia } from 'pinia';
import { createApp } from 'vue';
import App from './App.vue';
import { connect, useTransport } from './api/client.ts';
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
createApp(App).use(createPinia()).use(router).use(i18n).mount('#app');
