/** Addresses sit behind #: the same page works from Electron's own protocol and from the server. */
import { createRouter, createWebHashHistory } from 'vue-router';
import type { MessageKey } from './i18n.ts';

declare module 'vue-router' {
  interface RouteMeta {
    title?: MessageKey;
  }
}

export const PAGES = [
  { name: 'runs', path: '/', label: 'frame.runs' },
  { name: 'new', path: '/new', label: 'frame.newRun' },
  { name: 'compare', path: '/compare', label: 'frame.compare' },
  { name: 'models', path: '/models', label: 'frame.models' },
  { name: 'rewards', path: '/rewards', label: 'frame.rewards' },
  { name: 'settings', path: '/settings', label: 'frame.settings' },
] as const;

export const router = createRouter({
  history: createWebHashHistory(),
  routes: [
    { path: '/', name: 'runs', component: () => import('./pages/RunsPage.vue'), meta: { title: 'frame.runs' } },
    { path: '/new', name: 'new', component: () => import('./pages/NewRunPage.vue'), meta: { title: 'frame.newRun' } },
    { path: '/runs/:id', name: 'run', component: () => import('./pages/RunPage.vue'), meta: { title: 'frame.run' } },
    { path: '/compare', name: 'compare', component: () => import('./pages/ComparePage.vue'), meta: { title: 'frame.compare' } },
    { path: '/models', name: 'models', component: () => import('./pages/ModelsPage.vue'), meta: { title: 'frame.models' } },
    { path: '/rewards', name: 'rewards', component: () => import('./pages/RewardsPage.vue'), meta: { title: 'frame.rewards' } },
    { path: '/rewards/score', name: 'score', component: () => import('./pages/ScorePage.vue'), meta: { title: 'frame.score' } },
    { path: '/settings', name: 'settings', component: () => import('./pages/SettingsPage.vue'), meta: { title: 'frame.settings' } },
    { path: '/setup', name: 'setup', component: () => import('./pages/SetupPage.vue'), meta: { title: 'setup.title' } },
    { path: '/guides/:name?', name: 'guides', component: () => import('./pages/GuidesPage.vue'), meta: { title: 'frame.guides' } },
    { path: '/logs', name: 'logs', component: () => import('./pages/LogsPage.vue'), meta: { title: 'frame.logs' } },
    { path: '/:rest(.*)', redirect: '/' },
  ],
});
