/** The app's one window: sandboxed, on our own origin, with nowhere else to go. */
import { BrowserWindow, nativeTheme, Notification, powerSaveBlocker, session, shell } from 'electron';
import type { App } from '../app/open-app.ts';
import { APP_ORIGIN } from './app-protocol.ts';

export function openWindow(preload: string): BrowserWindow {
  const window = new BrowserWindow({
    width: 1360, height: 900, minWidth: 900, minHeight: 600, show: false, title: 'DRTune Studio',
    backgroundColor: nativeTheme.shouldUseDarkColors ? '#161618' : '#f6f6f7', autoHideMenuBar: true,
    webPreferences: {
      preload, contextIsolation: true, sandbox: true, nodeIntegration: false, nodeIntegrationInWorker: false, nodeIntegrationInSubFrames: false,
      webSecurity: true, webviewTag: false, spellcheck: false, navigateOnDragDrop: false,
    },
  });
  const { webContents } = window;
  webContents.on('will-navigate', (event) => {
    if (!event.url.startsWith(`${APP_ORIGIN}/`)) event.preventDefault();
  });
  webContents.on('will-attach-webview', (event) => event.preventDefault());
  webContents.setWindowOpenHandler(({ url }) => {
    // Links out of the app open in the browser, and only on the web.
    if (url.startsWith('https://')) void shell.openExternal(url);
    return { action: 'deny' };
  });
  window.once('ready-to-show', () => window.show());
  return window;
}

/** No page may have a device, a location or anything else it could ask for; copying to the clipboard excepted. */
export function denyPermissions(): void {
  const allowed = new Set(['clipboard-sanitized-write']);
  session.defaultSession.setPermissionRequestHandler((_, permission, answer) => answer(allowed.has(permission)));
  session.defaultSession.setPermissionCheckHandler((_, permission) => allowed.has(permission));
  session.defaultSession.setDevicePermissionHandler(() => false);
}

/** While a run is at work the machine stays awake and the taskbar shows how far it is; its end is told if nobody looks. */
export function followRuns(app: App, window: BrowserWindow): () => void {
  let blocker: number | null = null;
  return app.on((name, payload) => {
    if (name !== 'run.summary' || window.isDestroyed()) return;
    const summary = payload as Extract<typeof payload, { iterations: number }>;
    const running = app.service.queue().running;
    if (summary.state === 'running' && summary.id === running) {
      window.setProgressBar(summary.step / Math.max(1, summary.iterations));
      blocker ??= powerSaveBlocker.start('prevent-app-suspension');
    } else if (running === null || summary.id === running) {
      window.setProgressBar(-1);
      if (blocker !== null) powerSaveBlocker.stop(blocker);
      blocker = null;
    }
  });
}

/** Tells the end of a run on the desktop where the user has left that on. */
export function notifyEnds(app: App, window: BrowserWindow): () => void {
  return app.on((name, payload) => {
    if (name !== 'run.event') return;
    const { event, runId } = payload as Extract<typeof payload, { event: unknown }>;
    if (event.type !== 'finished' || window.isDestroyed() || window.isFocused() || !Notification.isSupported()) return;
    void app.handlers['settings.get']({}).then(({ notifications }) => {
      if (!notifications) return;
      const summary = app.service.recorder.summary(runId);
      new Notification({ title: `${summary.name}: ${summary.state}`, body: summary.reason ?? `${summary.step} of ${summary.iterations} iterations` }).show();
    });
  });
}
