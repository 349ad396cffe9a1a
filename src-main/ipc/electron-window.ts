/** The app's one window: sandboxed, on our own origin, with nowhere else to go. */
import { join } from 'node:path';
import { BrowserWindow, dialog, Menu, nativeTheme, screen, session, shell, type Session } from 'electron';
import { projectRoot } from '../app/version.ts';
import { errorLine } from '../base/errors.ts';
import { APP_ORIGIN } from './app-protocol.ts';
import { outwardAddress } from './links.ts';
import { editingMenu } from './menu.ts';
import type { NativeWords } from './native-words.ts';
import { keepWindow, LEAST, recallWindow } from './window-state.ts';

/** @param home where size and place are kept @param onGone told why the page's process ended */
export function openWindow(preload: string, home: string, onGone: (reason: string) => void = () => {}): BrowserWindow {
  const { maximized, ...place } = recallWindow(home, screen.getAllDisplays().map(({ workArea }) => workArea));
  const window = new BrowserWindow({
    ...place, minWidth: LEAST.width, minHeight: LEAST.height, show: false, title: 'DRTune Studio', icon: join(projectRoot(), 'resources/icons/icon.png'),
    backgroundColor: nativeTheme.shouldUseDarkColors ? '#161618' : '#f6f6f7', autoHideMenuBar: true,
    webPreferences: {
      preload, contextIsolation: true, sandbox: true, nodeIntegration: false, nodeIntegrationInWorker: false, nodeIntegrationInSubFrames: false,
      webSecurity: true, allowRunningInsecureContent: false, experimentalFeatures: false, webviewTag: false, spellcheck: false, navigateOnDragDrop: false,
    },
  });
  if (maximized) window.maximize();
  const keep = (): void => {
    if (!window.isDestroyed()) keepWindow(home, { ...window.getNormalBounds(), maximized: window.isMaximized() });
  };
  window.on('close', keep);
  stayHere(window);
  window.webContents.on('render-process-gone', (_, { reason }) => onGone(reason));
  window.once('ready-to-show', () => window.show());
  return window;
}

/** Of every way out of the page only links to the web are left, and they open in the browser. */
function stayHere({ webContents }: BrowserWindow): void {
  const hold = (event: { url: string; preventDefault(): void }): void => {
    if (!event.url.startsWith(`${APP_ORIGIN}/`)) event.preventDefault();
  };
  webContents.on('will-navigate', hold);
  webContents.on('will-redirect', hold);
  webContents.on('will-frame-navigate', (event) => hold(event));
  webContents.on('will-attach-webview', (event) => event.preventDefault());
  webContents.setWindowOpenHandler(({ url }) => {
    void openOutside(url);
    return { action: 'deny' };
  });
}

/** Opens a link in the browser, if it is one for it; where there is no browser, shows the address. */
export async function openOutside(address: string): Promise<void> {
  const outward = outwardAddress(address);
  if (outward === null) return;
  try {
    await shell.openExternal(outward);
  } catch (error) {
    dialog.showErrorBox(outward, errorLine(error));
  }
}

/** What a right click offers on text, which Electron leaves to the app. */
export function offerEditing(window: BrowserWindow, words: () => NativeWords): void {
  window.webContents.on('context-menu', (_, { isEditable, selectionText, editFlags }) => {
    if (isEditable || selectionText.trim() !== '') Menu.buildFromTemplate(editingMenu(isEditable, editFlags, words())).popup({ window });
  });
}

/** No page may have a device, a location or anything else it could ask for; copying to the clipboard excepted. */
export function denyPermissions(pages: Session = session.defaultSession): void {
  const allowed = new Set(['clipboard-sanitized-write']);
  pages.setPermissionRequestHandler((_, permission, answer) => answer(allowed.has(permission)));
  pages.setPermissionCheckHandler((_, permission) => allowed.has(permission));
  pages.setDevicePermissionHandler(() => false);
}

/** Besides the content policy: a page's requests go to the app, and nowhere else. @param also further origins, asked each time */
export function keepRequestsHome(also: () => readonly string[] = () => [], pages: Session = session.defaultSession): void {
  pages.webRequest.onBeforeRequest(({ url }, answer) => {
    const own = [`${APP_ORIGIN}/`, 'blob:', 'data:', 'devtools://'].some((start) => url.startsWith(start));
    answer({ cancel: !own && !also().some((origin) => url.startsWith(`${origin}/`)) });
  });
}
