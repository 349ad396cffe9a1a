/** The menu and its accelerators, and the tray's menu, as data. */
import type { MenuItemConstructorOptions } from 'electron';
import type { RunSummary } from '../contract/api.ts';
import { NATIVE, type NativeWords } from './native-words.ts';

export interface MenuActions {
  /** Shows a page of the app by its address behind #. */
  go(page: string): void;
  openFile(): void;
  openHome(): void;
  openLink(address: string): void;
}

const PAGES = [['runs', '/'], ['newRun', '/new'], ['compare', '/compare'], ['models', '/models'], ['rewards', '/rewards'], ['settings', '/settings']] as const;
const PAPER = 'https://arxiv.org/abs/2405.00760';

export function appMenu(actions: MenuActions, platform: NodeJS.Platform, packaged: boolean, words: NativeWords = NATIVE.en): MenuItemConstructorOptions[] {
  const isMac = platform === 'darwin';
  const settings: MenuItemConstructorOptions = { label: `${words.settings}…`, accelerator: 'CmdOrCtrl+,', click: () => actions.go('/settings') };
  const own: MenuItemConstructorOptions = {
    label: 'DRTune Studio',
    submenu: [{ role: 'about' }, { type: 'separator' }, settings, { type: 'separator' }, { role: 'services' }, { type: 'separator' }, { role: 'hide' }, { role: 'hideOthers' }, { role: 'unhide' }, { type: 'separator' }, { role: 'quit' }],
  };
  return [
    ...(isMac ? [own] : []),
    {
      label: words.file,
      submenu: [
        { label: words.newRun, accelerator: 'CmdOrCtrl+N', click: () => actions.go('/new') },
        { label: words.open, accelerator: 'CmdOrCtrl+O', click: () => actions.openFile() },
        { label: words.data, click: () => actions.openHome() },
        ...(isMac ? [] : [{ type: 'separator' as const }, settings]),
        { type: 'separator' }, isMac ? { role: 'close' } : { role: 'quit' },
      ],
    },
    { role: 'editMenu' },
    {
      label: words.go,
      submenu: PAGES.map(([key, page], index) => ({ label: words[key], accelerator: `CmdOrCtrl+${index + 1}`, click: () => actions.go(page) })),
    },
    {
      label: words.view,
      submenu: [
        { role: 'resetZoom' }, { role: 'zoomIn' }, { role: 'zoomOut' }, { type: 'separator' }, { role: 'togglefullscreen' },
        ...(packaged ? [] : [{ type: 'separator' as const }, { role: 'reload' as const }, { role: 'toggleDevTools' as const }]),
      ],
    },
    { role: 'windowMenu' },
    {
      role: 'help',
      submenu: [
        { label: words.logs, accelerator: 'CmdOrCtrl+Shift+L', click: () => actions.go('/logs') },
        { label: words.paper, click: () => actions.openLink(PAPER) },
      ],
    },
  ];
}

export interface TrayActions { show(): void; stop(id: string): void; resume(id: string): void; quit(): void }

/** @param run the running one, or else the last that was stopped from here */
export function trayMenu(run: Pick<RunSummary, 'id' | 'name' | 'state' | 'step' | 'iterations'> | null, actions: TrayActions, words: NativeWords = NATIVE.en): MenuItemConstructorOptions[] {
  const about: MenuItemConstructorOptions[] = run
    ? [
      { label: trayLine(run, words), enabled: false },
      run.state === 'running'
        ? { label: words.pause, click: () => actions.stop(run.id) }
        : { label: words.resume, enabled: run.state === 'stopped', click: () => actions.resume(run.id) },
    ]
    : [{ label: words.idle, enabled: false }];
  return [{ label: words.show, click: () => actions.show() }, { type: 'separator' }, ...about, { type: 'separator' }, { label: words.quit, click: () => actions.quit() }];
}

export function trayLine({ name, state, step, iterations }: Pick<RunSummary, 'name' | 'state' | 'step' | 'iterations'>, words: NativeWords = NATIVE.en): string {
  const short = name.length > 40 ? `${name.slice(0, 39)}…` : name;
  return state === 'running' ? `${short}: ${Math.floor((100 * step) / Math.max(1, iterations))} %` : `${short}: ${words.states[state]}, ${words.of(step, iterations)}`;
}
