/** The menu and its accelerators, and the tray's menu, as data. */
import type { MenuItemConstructorOptions } from 'electron';
import type { RunSummary } from '../contract/api.ts';
import { NATIVE, type NativeWords, type Role } from './native-words.ts';

export interface MenuActions {
  /** Shows a page of the app by its address behind #. */
  go(page: string): void;
  openFile(): void;
  openHome(): void;
  openLink(address: string): void;
}

const PAGES = [['runs', '/'], ['newRun', '/new'], ['compare', '/compare'], ['models', '/models'], ['rewards', '/rewards'], ['settings', '/settings']] as const;
const EDITING = ['cut', 'copy', 'paste', 'delete', 'selectAll'] as const;
const PAPER = 'https://arxiv.org/abs/2405.00760';

export function appMenu(actions: MenuActions, platform: NodeJS.Platform, packaged: boolean, words: NativeWords = NATIVE.en): MenuItemConstructorOptions[] {
  const isMac = platform === 'darwin';
  const line = { type: 'separator' as const };
  const own = (role: Role): MenuItemConstructorOptions => ({ role, label: words.roles[role] });
  const settings: MenuItemConstructorOptions = { label: `${words.settings}…`, accelerator: 'CmdOrCtrl+,', click: () => actions.go('/settings') };
  return [
    ...(isMac ? [{ label: 'DRTune Studio', submenu: [own('about'), line, settings, line, own('services'), line, own('hide'), own('hideOthers'), own('unhide'), line, own('quit')] }] : []),
    {
      label: words.file,
      submenu: [
        { label: words.newRun, accelerator: 'CmdOrCtrl+N', click: () => actions.go('/new') },
        { label: words.open, accelerator: 'CmdOrCtrl+O', click: () => actions.openFile() },
        { label: words.data, click: () => actions.openHome() },
        ...(isMac ? [] : [line, settings]),
        line, own(isMac ? 'close' : 'quit'),
      ],
    },
    { role: 'editMenu', label: words.edit, submenu: [own('undo'), own('redo'), line, ...EDITING.map(own)] },
    {
      label: words.go,
      submenu: PAGES.map(([key, page], index) => ({ label: words[key], accelerator: `CmdOrCtrl+${index + 1}`, click: () => actions.go(page) })),
    },
    {
      label: words.view,
      submenu: [
        own('resetZoom'), own('zoomIn'), own('zoomOut'), line, own('togglefullscreen'),
        ...(packaged ? [] : [line, { role: 'reload' as const }, { role: 'toggleDevTools' as const }]),
      ],
    },
    { role: 'windowMenu', label: words.window, submenu: isMac ? [own('minimize'), own('zoom'), line, own('front')] : [own('minimize'), own('close')] },
    {
      role: 'help',
      label: words.help,
      submenu: [
        { label: words.logs, accelerator: 'CmdOrCtrl+Shift+L', click: () => actions.go('/logs') },
        { label: words.paper, click: () => actions.openLink(PAPER) },
      ],
    },
  ];
}

/** Of a right click on text. @param can what is possible there now */
export function editingMenu(isEditable: boolean, can: Partial<Record<`can${Capitalize<(typeof EDITING)[number]>}`, boolean>>, words: NativeWords = NATIVE.en): MenuItemConstructorOptions[] {
  return (isEditable ? EDITING : ['copy' as const]).map((role) => ({ role, label: words.roles[role], enabled: can[`can${role.charAt(0).toUpperCase()}${role.slice(1)}` as keyof typeof can] ?? true }));
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
