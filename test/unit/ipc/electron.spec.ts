/** Electron's side with Electron itself replaced: what the window may do, who may ask, how processes are started. */
import type { EventEmitter } from 'node:events';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { App } from '../../../src-main/app/open-app.ts';

type Listener = (...args: never[]) => unknown;
const state = vi.hoisted(() => ({
  handlers: new Map<string, Listener>(), windowOptions: [] as Record<string, never>[], opened: [] as string[], permission: {} as Record<string, Listener>,
  forks: [] as { entry: string; sent: unknown[]; child: unknown }[], openHandler: null as Listener | null,
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
    isFocused() { return true; }
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
    BrowserWindow, nativeTheme: { shouldUseDarkColors: true }, shell: { openExternal: (url: string) => state.opened.push(url) },
    Notification: { isSupported: () => false },
    powerSaveBlocker: { start: vi.fn(() => 1), stop: vi.fn() },
    session: { defaultSession: {
      setPermissionRequestHandler: (handler: Listener) => (state.permission['request'] = handler),
      setPermissionCheckHandler: (handler: Listener) => (state.permission['check'] = handler),
      setDevicePermissionHandler: (handler: Listener) => (state.permission['device'] = handler),
    } },
    ipcMain: { handle: (channel: string, handler: Listener) => state.handlers.set(channel, handler), removeHandler: (channel: string) => state.handlers.delete(channel) },
    utilityProcess: { fork: (entry: string) => {
      const child = new Child();
      state.forks.push({ entry, sent: child.sent, child });
      return child;
    } },
  };
});

const { denyPermissions, followRuns, openWindow } = await import('../../../src-main/ipc/electron-window.ts');
const { registerIpc } = await import('../../../src-main/ipc/register.ts');
const { utilityTrainer } = await import('../../../src-main/ipc/electron-processes.ts');
const { powerSaveBlocker } = await import('electron');

function fakeApp(): App & { emit(name: string, payload: unknown): void; running: string | null } {
  const listeners = new Set<(name: string, payload: unknown) => void>();
  const app = {
    running: null as string | null, on: (listener: never) => (listeners.add(listener), () => listeners.delete(listener)),
    emit: (name: string, payload: unknown) => listeners.forEach((listener) => listener(name, payload)),
    handlers: { 'settings.get': async () => ({ theme: 'dark' }) },
    service: { queue: () => ({ running: app.running, waiting: 0 }) },
  };
  return app as never;
}

beforeEach(() => state.handlers.clear());

describe('the window', () => {
  it('is sandboxed and isolated, without Node', () => {
    openWindow('/preload.cjs');
    expect(state.windowOptions.at(-1)!['webPreferences']).toMatchObject({
      preload: '/preload.cjs', contextIsolation: true, sandbox: true, nodeIntegration: false, nodeIntegrationInWorker: false, webSecurity: true, webviewTag: false,
    });
  });

  it('goes nowhere: navigation away, new windows and webviews are stopped; https links open in the browser', () => {
    const window = openWindow('/preload.cjs');
    const prevented = (url: string): boolean => {
      let stopped = false;
      window.webContents.emit('will-navigate', { url, preventDefault: () => (stopped = true) });
      return stopped;
    };
    expect(prevented('https://evil.example/')).toBe(true);
    expect(prevented('app://studio.evil.example/')).toBe(true);
    expect(prevented('file:///etc/passwd')).toBe(true);
    expect(prevented('app://studio/index.html#/new')).toBe(false);
    const open = state.openHandler as unknown as (details: { url: string }) => { action: string };
    for (const url of ['https://example.org/', 'file:///etc/passwd', 'javascript:alert(1)', 'app://studio/']) expect(open({ url })).toEqual({ action: 'deny' });
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

  it('shows progress and keeps the machine awake while a run is at work, and only then', () => {
    const app = fakeApp();
    const window = openWindow('/p') as unknown as { progress: number[] };
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
    const window = openWindow('/p');
    const close = registerIpc(app, window, () => {});
    const ask = state.handlers.get('drtune:request') as unknown as (event: { senderFrame: unknown }, name: unknown, input: unknown) => Promise<unknown>;
    expect(await ask({ senderFrame: window.webContents.mainFrame }, 'settings.get', {})).toEqual({ ok: true, value: { theme: 'dark' } });
    for (const senderFrame of [null, { origin: 'app://studio' }, { origin: 'https://evil.example' }]) {
      expect(await ask({ senderFrame }, 'settings.get', {})).toMatchObject({ ok: false, error: { code: 'denied' } });
    }
    (window.webContents.mainFrame as { origin: string }).origin = 'https://evil.example';
    expect(await ask({ senderFrame: window.webContents.mainFrame }, 'settings.get', {})).toMatchObject({ error: { code: 'denied' } });
    app.emit('system', { a: 1 });
    expect((window.webContents as unknown as { sent: unknown[] }).sent).toEqual([['drtune:event', 'system', { a: 1 }]]);
    close();
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
  });
});
