/** Electron's side with Electron itself replaced: what the window may do, who may ask, how processes are started. */
import type { EventEmitter } from 'node:events';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { App } from '../../../src-main/app/open-app.ts';
import { tempHome } from '../../helpers/temp-home.ts';

type Listener = (...args: never[]) => unknown;
const state = vi.hoisted(() => ({
  handlers: new Map<string, Listener>(), windowOptions: [] as Record<string, never>[], opened: [] as string[], permission: {} as Record<string, Listener>,
  forks: [] as { entry: string; sent: unknown[]; child: unknown }[], openHandler: null as Listener | null, beforeRequest: null as Listener | null, dropped: null as Listener | null,
  focused: true, notes: [] as { title: string; body: string; emit(name: string): void }[], menus: [] as { label?: string; click?: () => void }[][], tips: [] as string[], boxes: [] as string[][], popups: [] as unknown[],
}));

vi.mock('electron', async () => {
  const { EventEmitter: Emitter } = await import('node:events');
  class BrowserWindow extends Emitter {
    webContents = Object.assign(new Emitter(), {
      mainFrame: { origin: 'app://studio' }, sent: [] as unknown[],
      send(...args: unknown[]) { this.sent.push(args); },
      setWindowOpenHandler: (handler: Listener) => (state.openHandler = handler),
    });
    progress: number[] = [];
    constructor(options: Record<string, never>) {
      super();
      state.windowOptions.push(options);
    }
    isDestroyed() { return false; }
    isFocused() { return state.focused; }
    isMinimized() { return true; }
    isMaximized() { return false; }
    maximize() {}
    restore() { this.did.push('restore'); }
    show() { this.did.push('show'); }
    focus() { this.did.push('focus'); }
    did: string[] = [];
    getNormalBounds() { return { x: 10, y: 20, width: 1000, height: 700 }; }
    setProgressBar(value: number) { this.progress.push(value); }
  }
  class Child extends Emitter {
    pid = undefined;
    stdout = null;
    stderr = null;
    sent: unknown[] = [];
    postMessage(message: unknown) { this.sent.push(message); }
    kill() { this.emit('exit', 9); }
  }
  return {
    BrowserWindow, nativeTheme: { shouldUseDarkColors: true }, shell: { openExternal: async (url: string) => {
      if (url.includes('nobrowser')) throw new Error('no browser');
      state.opened.push(url);
    } },
    dialog: { showErrorBox: (...lines: string[]) => state.boxes.push(lines) },
    screen: { getAllDisplays: () => [{ workArea: { x: 0, y: 0, width: 1920, height: 1080 } }] },
    Notification: class extends Emitter {
      static isSupported() { return true; }
      title: string;
      body: string;
      constructor({ title, body }: { title: string; body: string }) {
        super();
        this.title = title;
        this.body = body;
      }
      show() { state.notes.push(this); }
    },
    Menu: { buildFromTemplate: (items: never[]) => Object.assign(items, { popup: () => state.popups.push([...items]) }) },
    Tray: class extends Emitter {
      constructor(icon: string) {
        super();
        if (icon === 'none') throw new Error('no such place');
      }
      setToolTip(text: string) { state.tips.push(text); }
      setContextMenu(menu: never[]) { state.menus.push(menu); }
    },
    powerSaveBlocker: { start: vi.fn(() => 1), stop: vi.fn() },
    session: { defaultSession: {
      setPermissionRequestHandler: (handler: Listener) => (state.permission['request'] = handler),
      setPermissionCheckHandler: (handler: Listener) => (state.permission['check'] = handler),
      setDevicePermissionHandler: (handler: Listener) => (state.permission['device'] = handler),
      webRequest: { onBeforeRequest: (handler: Listener) => (state.beforeRequest = handler) },
    } },
    ipcMain: { handle: (channel: string, handler: Listener) => state.handlers.set(channel, handler), removeHandler: (channel: string) => state.handlers.delete(channel), on: (_: string, listener: Listener) => (state.dropped = listener), removeAllListeners: () => (state.dropped = null) },
    utilityProcess: { fork: (entry: string) => {
      const child = new Child();
      state.forks.push({ entry, sent: child.sent, child });
      return child;
    } },
  };
});

const { denyPermissions, keepRequestsHome, offerEditing, openOutside, openWindow } = await import('../../../src-main/ipc/electron-window.ts');
const { followRuns, notifyEnds, showTray } = await import('../../../src-main/ipc/electron-run-watch.ts');
const { recallWindow } = await import('../../../src-main/ipc/window-state.ts');
const { registerIpc } = await import('../../../src-main/ipc/register.ts');
const { utilityTrainer } = await import('../../../src-main/ipc/electron-processes.ts');
const { NATIVE } = await import('../../../src-main/ipc/native-words.ts');
const { powerSaveBlocker } = await import('electron');

function fakeApp(): App & { emit(name: string, payload: unknown): void; running: string | null; notifications: boolean; published: unknown[]; stopped: string[]; paths: string[]; relayed: unknown[]; emitRemote(...event: unknown[]): void } {
  const remote = new Set<(...event: unknown[]) => void>();
  const listeners = new Set<(name: string, payload: unknown) => void>();
  const app = {
    running: null as string | null, on: (listener: never) => (listeners.add(listener), () => listeners.delete(listener)),
    emit: (name: string, payload: unknown) => listeners.forEach((listener) => listener(name, payload)),
    relayed: [] as unknown[], emitRemote: (...event: unknown[]) => remote.forEach((listener) => listener(...event)),
    servers: { on: (listener: never) => (remote.add(listener), () => remote.delete(listener)), ask: async (...question: unknown[]) => (app.relayed.push(question), { ok: true, value: 'from there' }) },
    notifications: true, published: [] as unknown[], stopped: [] as string[], paths: [] as string[],
    handlers: {
      'settings.get': async () => ({ theme: 'dark', notifications: app.notifications }),
      'runs.stop': async ({ id }: { id: string }) => app.stopped.push(id),
    },
    publish: (...args: unknown[]) => void app.published.push(args), opened: (path: string) => void app.paths.push(path),
    service: { queue: () => ({ running: app.running, waiting: 0 }), recorder: { summary: () => ({ name: 'Mine', state: 'finished', reason: null, step: 5, iterations: 10 }) } },
  };
  return app as never;
}

beforeEach(() => state.handlers.clear());

describe('the window', () => {
  it('is sandboxed and isolated, without Node', () => {
    openWindow('/preload.cjs', '/nowhere');
    expect(state.windowOptions.at(-1)!['webPreferences']).toMatchObject({
      preload: '/preload.cjs', contextIsolation: true, sandbox: true, nodeIntegration: false, nodeIntegrationInWorker: false, webSecurity: true, webviewTag: false,
    });
  });

  it('goes nowhere: navigation away, new windows and webviews are stopped; https links open in the browser', () => {
    const window = openWindow('/preload.cjs', '/nowhere');
    const prevented = (url: string): boolean => {
      let stopped = false;
      window.webContents.emit('will-navigate', { url, preventDefault: () => (stopped = true) });
      return stopped;
    };
    expect(prevented('https://evil.example/')).toBe(true);
    expect(prevented('app://studio.evil.example/')).toBe(true);
    expect(prevented('file:///etc/passwd')).toBe(true);
    expect(prevented('app://studio/index.html#/new')).toBe(false);
    for (const event of ['will-redirect', 'will-frame-navigate', 'will-attach-webview']) {
      let stopped = false;
      window.webContents.emit(event, { url: 'https://evil.example/', preventDefault: () => (stopped = true) });
      expect(stopped, event).toBe(true);
    }
    const open = state.openHandler as unknown as (details: { url: string }) => { action: string };
    for (const url of ['https://example.org/', 'https://user:pass@example.org/', 'https://127.0.0.1/', 'file:///etc/passwd', 'javascript:alert(1)', 'app://studio/']) expect(open({ url })).toEqual({ action: 'deny' });
    expect(state.opened).toEqual(['https://example.org/']);
  });

  it('gets no permission but writing to the clipboard', () => {
    denyPermissions();
    const asked = (permission: string): boolean => {
      let answer = true;
      (state.permission['request'] as unknown as (w: null, p: string, a: (ok: boolean) => void) => void)(null, permission, (ok) => (answer = ok));
      return answer;
    };
    for (const permission of ['media', 'geolocation', 'notifications', 'usb', 'clipboard-read', 'openExternal', 'fileSystem']) expect(asked(permission), permission).toBe(false);
    expect(asked('clipboard-sanitized-write')).toBe(true);
    expect((state.permission['device'] as unknown as () => boolean)()).toBe(false);
  });

  it('lets requests of pages go nowhere but to the app, and to servers that were named', () => {
    keepRequestsHome(() => ['https://box.example:5180']);
    const passes = (url: string): boolean => {
      let cancelled = true;
      (state.beforeRequest as unknown as (details: { url: string }, answer: (reply: { cancel: boolean }) => void) => void)({ url }, ({ cancel }) => (cancelled = cancel));
      return !cancelled;
    };
    for (const url of ['app://studio/index.html', 'blob:app://studio/1', 'data:,x', 'https://box.example:5180/image/1']) expect(passes(url), url).toBe(true);
    for (const url of ['https://evil.example/', 'http://127.0.0.1:80/', 'file:///etc/passwd', 'app://other/', 'https://box.example:51801/', 'ws://evil.example/']) expect(passes(url), url).toBe(false);
  });

  it('a link that no browser takes is shown, and ends nothing', async () => {
    await openOutside('https://nobrowser.example/');
    expect(state.boxes).toEqual([['https://nobrowser.example/', 'no browser']]);
  });

  it('offers what text can do at a right click, in the language', () => {
    const window = openWindow('/p', '/nowhere');
    offerEditing(window, () => NATIVE.de);
    const click = (isEditable: boolean, selectionText: string, editFlags = {}): void => void window.webContents.emit('context-menu', {}, { isEditable, selectionText, editFlags });
    click(false, ' ');
    expect(state.popups).toEqual([]);
    click(false, 'words');
    click(true, '', { canPaste: false, canCut: true });
    expect(state.popups).toMatchObject([[{ role: 'copy', label: 'Kopieren' }], [{ role: 'cut', enabled: true }, { role: 'copy' }, { role: 'paste', label: 'Einfügen', enabled: false }, { role: 'delete' }, { role: 'selectAll' }]]);
  });

  it('keeps its place when it closes', () => {
    const home = tempHome();
    openWindow('/p', home).emit('close');
    expect(recallWindow(home, [{ x: 0, y: 0, width: 1920, height: 1080 }])).toEqual({ x: 10, y: 20, width: 1000, height: 700, maximized: false });
  });

  it('tells the end of a run when nobody looks, unless Settings say no; a click shows the run', async () => {
    const app = fakeApp();
    const window = openWindow('/p', '/nowhere') as unknown as { did: string[] };
    notifyEnds(app, window as never);
    const end = async (focused: boolean, notifications: boolean): Promise<number> => {
      const before = state.notes.length;
      Object.assign(state, { focused });
      app.notifications = notifications;
      app.emit('run.event', { runId: 'r', event: { type: 'finished' } });
      await new Promise((resolve) => setImmediate(resolve));
      return state.notes.length - before;
    };
    expect([await end(true, true), await end(false, false), await end(false, true)]).toEqual([0, 0, 1]);
    expect(state.notes[0]).toMatchObject({ title: 'Mine: finished', body: '5 of 10 iterations' });
    state.notes[0]!.emit('click');
    expect(window.did).toEqual(['restore', 'show', 'focus']);
    expect(app.published).toEqual([['go', { page: '/runs/r' }]]);
    app.handlers['settings.get'] = async () => Promise.reject(new Error('the history has gone'));
    expect(await end(false, true)).toBe(0); // an unhandled rejection would fail this file
  });

  it('has a tray with progress, pause and quit; a system without one is no error', () => {
    const app = fakeApp();
    const problems: string[] = [];
    const quits: number[] = [];
    showTray(app, openWindow('/p', '/nowhere'), 'tray.png', () => quits.push(1), (line) => problems.push(line));
    for (let step = 0; step <= 10; step++) app.emit('run.summary', { id: 'r', name: 'Mine', state: 'running', step, iterations: 100 });
    expect(state.tips.at(-1)).toBe('DRTune Studio\nMine: 10 %');
    expect(state.menus.length).toBe(4); // nothing, 0 %, 5 %, 10 %: an open menu is left alone in between
    state.menus.at(-1)!.find(({ label }) => label?.startsWith('Pause'))!.click!();
    state.menus.at(-1)!.find(({ label }) => label === 'Quit')!.click!();
    expect([app.stopped, quits]).toEqual([['r'], [1]]);
    expect(showTray(app, openWindow('/p', '/nowhere'), 'none', () => {}, (line) => problems.push(line))).toBeNull();
    expect(problems).toEqual(['No tray: no such place']);
  });

  it('shows progress and keeps the machine awake while a run is at work, and only then', () => {
    const app = fakeApp();
    const window = openWindow('/p', '/nowhere') as unknown as { progress: number[] };
    followRuns(app, window as never);
    app.running = 'r';
    app.emit('run.summary', { id: 'r', state: 'running', step: 5, iterations: 10 });
    app.emit('run.summary', { id: 'other', state: 'finished', step: 5, iterations: 10 });
    expect(window.progress).toEqual([0.5]);
    expect(powerSaveBlocker.start).toHaveBeenCalledTimes(1);
    app.emit('run.summary', { id: 'r', state: 'finished', step: 10, iterations: 10 });
    expect(window.progress).toEqual([0.5, -1]);
    expect(powerSaveBlocker.stop).toHaveBeenCalledTimes(1);
  });
});

describe('the channel', () => {
  it('answers the window\'s own top frame and nobody else', async () => {
    const app = fakeApp();
    const window = openWindow('/p', '/nowhere');
    const close = registerIpc(app, window, () => {});
    const ask = state.handlers.get('drtune:request') as unknown as (event: { senderFrame: unknown }, name: unknown, input: unknown, server?: unknown) => Promise<unknown>;
    expect(await ask({ senderFrame: window.webContents.mainFrame }, 'settings.get', {})).toEqual({ ok: true, value: { theme: 'dark', notifications: true } });
    for (const senderFrame of [null, { origin: 'app://studio' }, { origin: 'https://evil.example' }]) {
      expect(await ask({ senderFrame }, 'settings.get', {})).toMatchObject({ ok: false, error: { code: 'denied' } });
    }
    const drop = state.dropped as unknown as (event: { senderFrame: unknown }, path: unknown) => void;
    for (const path of ['/m/a.safetensors', 5, 'x'.repeat(5000)]) drop({ senderFrame: window.webContents.mainFrame }, path);
    drop({ senderFrame: { origin: 'app://studio' } }, '/m/b.safetensors');
    expect(app.paths).toEqual(['/m/a.safetensors']);
    expect(await ask({ senderFrame: window.webContents.mainFrame }, 'settings.set', { theme: 'pink' })).toMatchObject({ ok: false, error: { code: 'config' } });
    (window.webContents.mainFrame as { origin: string }).origin = 'https://evil.example';
    expect(await ask({ senderFrame: window.webContents.mainFrame }, 'settings.get', {})).toMatchObject({ error: { code: 'denied' } });
    expect(await ask({ senderFrame: window.webContents.mainFrame }, 'runs.list', {}, '0123456789ab')).toMatchObject({ error: { code: 'denied' } });
    (window.webContents.mainFrame as { origin: string }).origin = 'app://studio';
    expect(app.relayed).toEqual([]);
    expect(await ask({ senderFrame: window.webContents.mainFrame }, 'runs.list', {}, '0123456789ab')).toEqual({ ok: true, value: 'from there' });
    expect(app.relayed).toEqual([['0123456789ab', 'runs.list', {}]]);
    app.emit('system', { a: 1 });
    app.emitRemote('0123456789ab', 'system', { b: 2 });
    expect((window.webContents as unknown as { sent: unknown[] }).sent).toEqual([['drtune:event', 'system', { a: 1 }], ['drtune:event', 'system', { b: 2 }, '0123456789ab']]);
    close();
    app.emitRemote('0123456789ab', 'system', {});
    expect((window.webContents as unknown as { sent: unknown[] }).sent).toHaveLength(2);
    expect(state.handlers.size).toBe(0);
  });
});

describe('a utility process', () => {
  it('gets its messages once it is up and tells its end', () => {
    const port = utilityTrainer('/out/trainer-process.js')();
    const { child, sent } = state.forks.at(-1)! as unknown as { child: EventEmitter; sent: unknown[] };
    const exits: unknown[] = [];
    const messages: unknown[] = [];
    port.onMessage((message) => messages.push(message));
    port.onExit((exit) => exits.push(exit));
    port.send({ type: 'stop' });
    expect(sent).toEqual([]);
    child.emit('spawn');
    expect(sent).toEqual([{ type: 'stop' }]);
    child.emit('message', { type: 'done' });
    child.emit('error', 'FatalError', 'v8::heap', '');
    expect(messages).toEqual([{ type: 'done' }, { type: 'log', line: 'Error: FatalError at v8::heap' }]);
    port.kill();
    expect(exits).toEqual([{ code: 9, signal: null }]);
    port.send({ type: 'stop' });
    expect(sent).toHaveLength(1);
    Object.assign(child, { pid: 2 ** 22 + 1 }); // ended, and its number still known: above what Linux gives
    expect(() => port.kill()).not.toThrow();
  });
});
