/** The contract over Electron's IPC: one channel each way, only for our own page. */
import { ipcMain, type BrowserWindow, type WebFrameMain } from 'electron';
import type { App } from '../app/open-app.ts';
import type { Reply } from '../contract/api.ts';
import { APP_ORIGIN } from './app-protocol.ts';
import { createDispatcher } from './dispatcher.ts';

/** Connects a window; returns how to disconnect. */
export function registerIpc(app: App, window: BrowserWindow, onDefect: (name: string, error: unknown) => void): () => void {
  const dispatch = createDispatcher(app.handlers, onDefect, (server, name, input) => app.servers.ask(server, name, input));
  ipcMain.handle('drtune:request', async (event, name: unknown, input: unknown, server: unknown): Promise<Reply<unknown>> => {
    if (!isOwnFrame(event.senderFrame, window)) return { ok: false, error: { code: 'denied', message: 'Only the app\'s own page may ask.' } };
    return dispatch(name, input, server);
  });
  ipcMain.on('drtune:dropped', (event, path: unknown) => {
    if (isOwnFrame(event.senderFrame, window) && typeof path === 'string' && path.length <= 4096) app.opened(path);
  });
  const send = (...event: unknown[]): void => {
    if (!window.isDestroyed()) window.webContents.send('drtune:event', ...event);
  };
  const unlisten = [app.on((name, payload) => send(name, payload)), app.servers.on((server, name, payload) => send(name, payload, server))];
  return () => {
    unlisten.forEach((stop) => stop());
    ipcMain.removeHandler('drtune:request');
    ipcMain.removeAllListeners('drtune:dropped');
  };
}

/** The window's top frame, showing app://studio. */
function isOwnFrame(frame: WebFrameMain | null, window: BrowserWindow): boolean {
  return frame !== null && !window.isDestroyed() && frame === window.webContents.mainFrame && frame.origin === APP_ORIGIN;
}
