/** The composition root with Electron replaced: what it sets up before a page is shown, and how it ends. */
import type { EventEmitter } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { config, until } from '../../helpers/temp-home.ts';

type Listener = (...args: never[]) => unknown;
const state = vi.hoisted(() => ({
  app: null as unknown, order: [] as string[], crash: null as Record<string, unknown> | null, schemes: [] as { scheme: string; privileges: Record<string, unknown> }[], serve: null as unknown, menu: null as unknown,
  requests: new Map<string, Listener>(), loaded: [] as string[], exits: [] as number[], window: null as unknown, did: [] as string[], hooks: new Set<string>(), paths: {} as Record<string, string>, theme: { shouldUseDarkColors: false, themeSource: '' },
}));

vi.mock('electron', async () => {
  const { EventEmitter: Emitter } = await import('node:events');
  class BrowserWindow extends Emitter {
    static getAllWindows() { return [state.window as BrowserWindow]; }
    static getFocusedWindow() { return null; }
    webContents = Object.assign(new Emitter(), { mainFrame: { origin: 'app://studio' }, sent: [] as unknown[], send(...args: unknown[]) { this.sent.push(args); }, setWindowOpenHandler: () => state.hooks.add('open') });
    constructor() {
      super();
      state.window = this;
      state.order.push('window');
    }
    isDestroyed() { return false; }
    isMinimized() { return true; }
    isMaximized() { return false; }
    isFocused() { return true; }
    getNormalBounds() { return { x: 1, y: 2, width: 1000, height: 700 }; }
    setProgressBar() {}
    restore() { state.did.push('restore'); }
    show() { state.did.push('show'); }
    focus() { state.did.push('focus'); }
    close() { this.emit('close'); }
    reload() { state.did.push('reload'); }
    async loadURL(url: string) {
      state.order.push('load');
      state.loaded.push(url);
    }
  }
  const app = Object.assign(new Emitter(), {
    getLocale: () => 'en', isPackaged: false, requestSingleInstanceLock: () => state.order.push('lock') > 0, whenReady: async () => {}, quit: () => app.emit('before-quit', { preventDefault: () => {} }), exit: (code: number) => void state.exits.push(code),
    setPath: (name: string, path: string) => {
      if (!existsSync(path)) throw new Error(`Electron makes no folder: ${path}`);
      state.paths[name] = path;
      if (name === 'userData') state.order.push('storage');
    },
    setAppUserModelId: (id: string) => (state.paths['id'] = id),
  });
  state.app = app;
  return {
    app, BrowserWindow, Notification: { isSupported: () => false }, nativeTheme: state.theme, shell: { openExternal: () => {}, openPath: () => {} }, dialog: { showErrorBox: (title: string) => state.did.push(title) },
    screen: { getAllDisplays: () => [{ workArea: { x: 0, y: 0, width: 1920, height: 1080 } }] }, powerSaveBlocker: { start: () => 1, stop: () => {} },
    safeStorage: { isEncryptionAvailable: () => false },
    crashReporter: { start: (options: Record<string, unknown>) => {
      state.crash = options;
      state.order.push('crash reporter');
    } },
    Menu: { buildFromTemplate: (items: unknown) => items, setApplicationMenu: (menu: unknown) => (state.menu = menu) },
    Tray: class extends Emitter { setToolTip() {} setContextMenu() {} },
    protocol: {
      registerSchemesAsPrivileged: (schemes: typeof state.schemes) => (state.schemes = schemes),
      handle: (_: string, listener: unknown) => {
        state.serve = listener;
        state.order.push('protocol');
      },
    },
    session: { defaultSession: {
      setPermissionRequestHandler: () => state.order.push('permissions'), setPermissionCheckHandler: () => state.hooks.add('check'), setDevicePermissionHandler: () => state.hooks.add('device'),
      webRequest: { onBeforeRequest: () => state.order.push('requests') },
    } },
    ipcMain: { handle: (name: string, listener: Listener) => state.requests.set(name, listener), on: () => {}, removeHandler: () => {}, removeAllListeners: () => {} },
    utilityProcess: { fork: () => Object.assign(new Emitter(), { pid: undefined, stdout: null, stderr: null, postMessage() {}, kill() {} }) },
  };
});

const home = mkdtempSync(join(tmpdir(), 'drtune-main-'));
process.env['DRTUNE_HOME'] = home;
writeFileSync(join(home, 'mine.drtune'), JSON.stringify({ drtune: 1, name: 'Mine', config: config() }));
process.argv.push(join(home, 'mine.drtune'));
const uncaught = process.listeners('uncaughtException').slice();
const rejected = process.listeners('unhandledRejection').slice();
await import('../../../src-main/main.ts');
await vi.waitFor(() => expect(state.loaded.length).toBe(1), { timeout: 10_000 });
afterAll(() => {
  process.argv.pop();
  rmSync(home, { recursive: true, force: true });
  // The app's own last resort must not end the test runner's process later on.
  for (const [name, before] of [['uncaughtException', uncaught], ['unhandledRejection', rejected]] as const) for (const listener of process.listeners(name as 'uncaughtException')) if (!(before as unknown[]).includes(listener)) process.off(name, listener);
});

const window = (): EventEmitter & { webContents: { mainFrame: unknown; sent: unknown[] } } => state.window as never;
const ask = async (name: string, input: unknown): Promise<{ ok: boolean; value: unknown }> => (state.requests.get('drtune:request') as unknown as (event: unknown, ...args: unknown[]) => Promise<never>)({ senderFrame: window().webContents.mainFrame }, name, input);

describe('the desktop app', () => {
  it('guards everything before a page is loaded, and keeps crash reports here', () => {
    expect(state.order).toEqual(['storage', 'crash reporter', 'lock', 'permissions', 'requests', 'protocol', 'window', 'load']);
    expect(state.loaded).toEqual(['app://studio/index.html']);
    expect(state.crash).toMatchObject({ uploadToServer: false });
    expect(state.paths).toEqual({ userData: join(home, 'browser'), crashDumps: join(home, 'logs', 'crashes'), ...(process.platform === 'win32' && { id: 'studio.drtune.app' }) });
    expect(state.hooks).toEqual(new Set(['check', 'device', 'open']));
    expect(state.schemes).toMatchObject([{ scheme: 'app', privileges: { standard: true, secure: true } }]);
    expect(state.schemes[0]!.privileges).not.toHaveProperty('bypassCSP');
    expect(readFileSync(join(home, 'logs/app.log'), 'utf8')).toContain('info main: started');
  });

  it('hands over the file it was started with, and those of a second start', async () => {
    expect(await ask('files.given', {})).toMatchObject({ ok: true, value: [{ kind: 'settings', name: 'Mine' }] });
    state.did.length = 0;
    (state.app as EventEmitter).emit('second-instance', {}, ['electron', '--flag', 'models/x.safetensors'], '/elsewhere');
    expect(state.did).toEqual(['restore', 'show', 'focus']);
    expect(window().webContents.sent).toContainEqual(['drtune:event', 'files.given', { count: 1 }]);
    expect(await ask('files.given', {})).toEqual({ ok: true, value: [{ kind: 'model', path: '/elsewhere/models/x.safetensors' }] });
    (state.app as EventEmitter).emit('open-file', { preventDefault: () => {} }, '/mac/y.safetensors');
    expect(await ask('files.given', {})).toEqual({ ok: true, value: [{ kind: 'model', path: '/mac/y.safetensors' }] });
  });

  it('loads a page again that went away, but not for ever', () => {
    state.did.length = 0;
    for (let i = 0; i < 5; i++) (window().webContents as unknown as EventEmitter).emit('render-process-gone', {}, { reason: 'crashed' });
    expect(state.did).toEqual(['reload', 'reload']);
    expect(readFileSync(join(home, 'logs/app.log'), 'utf8')).toContain('error page: its process ended: crashed');
  });

  it('frame and dialogs follow the theme of the settings', async () => {
    await until(() => state.theme.themeSource === 'system', 'the first theme');
    await ask('settings.set', { theme: 'dark' });
    await until(() => state.theme.themeSource === 'dark', 'the chosen theme');
  });

  it('ends in order, once, also when its last window asks again: the window\'s place is kept and the data folder is free again', async () => {
    let held = 0;
    const asked = (): void => void (state.app as EventEmitter).emit('before-quit', { preventDefault: () => held++ });
    window().once('close', () => setImmediate(asked)); // window-all-closed quits
    asked();
    await until(() => state.exits.length > 0, 'the end');
    expect(held).toBe(2); // an end that is not held ends the process before the trainer has its checkpoint
    expect(state.exits).toEqual([0]);
    expect(existsSync(join(home, 'window.json'))).toBe(true);
  });
});
