/** Electron's entry and composition root: one instance, one window, the same app that `--serve` serves. */
import { app as electron, BrowserWindow, dialog, Menu, nativeTheme, protocol, shell } from 'electron';
import { join } from 'node:path';
import { openApp, type App } from './app/open-app.ts';
import { projectRoot } from './app/version.ts';
import { errorLine } from './base/errors.ts';
import { drtuneHome } from './base/paths.ts';
import { answerAppUrl, APP_ORIGIN } from './ipc/app-protocol.ts';
import { keepFilesIn, logCrashes, Reloads } from './ipc/electron-crash.ts';
import { utilityHelper, utilityTrainer } from './ipc/electron-processes.ts';
import { followRuns, notifyEnds, show, showTray } from './ipc/electron-run-watch.ts';
import { pickPath, pickGiven, systemSecrets } from './ipc/electron-services.ts';
import { denyPermissions, keepRequestsHome, offerEditing, openOutside, openWindow } from './ipc/electron-window.ts';
import { filesOf, GivenFiles } from './ipc/given-files.ts';
import { appMenu } from './ipc/menu.ts';
import { followLanguage, followSettings, NATIVE } from './ipc/native-words.ts';
import { registerIpc } from './ipc/register.ts';
import { serverWire } from './ipc/server-wire.ts';

/** A stopped trainer may take this long to write its checkpoint. */
const GRACE_MS = 30_000;
/** After an error nobody caught it has less. */
const FATAL_MS = 5000;
/** electron-builder.yml's: Windows tells by it whose notifications and taskbar button they are. */
const APP_ID = 'studio.drtune.app';

const home = drtuneHome();
const out = import.meta.dirname;
let app: App | null = null;
let given: GivenFiles | null = null;
/** Paths that came before the app was open. */
const early = filesOf(process.argv.slice(1), process.cwd());
let quitting = false;
/** Of dialogs; the menu and the tray have them too. */
let words = NATIVE.en;

if (process.platform === 'win32') electron.setAppUserModelId(APP_ID);
keepFilesIn(home);
protocol.registerSchemesAsPrivileged([{ scheme: 'app', privileges: { standard: true, secure: true, supportFetchAPI: true, codeCache: true } }]);

function start(): void {
  const root = projectRoot();
  app = openApp({
    home,
    // Another trainer is for tests: an installed app runs none but its own.
    launchTrainer: utilityTrainer((!electron.isPackaged && process.env['DRTUNE_TRAINER']) || join(out, 'trainer-process.js')),
    launchHelper: utilityHelper(join(out, 'helper-process.js')),
    wire: serverWire(),
    secrets: systemSecrets(),
    pickPath: (what) => pickPath(what, words),
    takeGiven: () => given?.take() ?? [],
  });
  const opened = app;
  logCrashes(opened.log, (error) => void fatal(error));
  opened.log.write('info', 'main', `started, Electron ${process.versions.electron}, ${process.platform} ${process.arch}`);
  given = new GivenFiles((path) => opened.opened(path), () => opened.publish('files.given', { count: 1 }));
  denyPermissions();
  keepRequestsHome();
  const files = { pages: join(root, 'out/renderer'), resources: join(root, 'resources'), imageFile: (id: number) => opened.imageFile(id), remote: (server: string, path: string) => opened.servers.file(server, path) };
  protocol.handle('app', (request) => answerAppUrl(request.url, request.method, files));
  const reloads = new Reloads();
  const window = openWindow(join(out, '../preload/index.cjs'), home, (reason) => {
    opened.log.write('error', 'page', `its process ended: ${reason}`);
    if (reason !== 'clean-exit' && reloads.again(Date.now())) window.reload();
  });
  registerIpc(opened, window, (name, error) => opened.log.write('error', 'request', `${name}: ${error instanceof Error ? error.stack : String(error)}`));
  offerEditing(window, () => words);
  followRuns(opened, window);
  notifyEnds(opened, window, electron.getLocale());
  showTray(opened, window, join(root, 'resources/icons', process.platform === 'darwin' ? 'trayTemplate.png' : 'tray.png'), () => electron.quit(), (line) => opened.log.write('warning', 'tray', line), electron.getLocale());
  const actions = {
    go: (page: string) => {
      show(window);
      opened.publish('go', { page });
    },
    openFile: () => void pickGiven(window, words).then((paths) => given?.add(paths)),
    openHome: () => void shell.openPath(home),
    openLink: (address: string) => void openOutside(address),
  };
  followSettings(opened, ({ theme }) => (nativeTheme.themeSource = theme));
  followLanguage(opened, electron.getLocale(), (next) => {
    words = next;
    Menu.setApplicationMenu(Menu.buildFromTemplate(appMenu(actions, process.platform, electron.isPackaged, words)));
  });
  electron.on('second-instance', (_, args, folder) => {
    show(window);
    given?.add(filesOf(args.slice(1), folder));
  });
  electron.on('activate', () => show(window));
  given.add(early.splice(0));
  void window.loadURL(`${APP_ORIGIN}/index.html`);
}

/** Training is stopped with a checkpoint before the app goes. */
function quit(event: { preventDefault(): void }): void {
  if (!app) return;
  event.preventDefault(); // the last window's end asks once more: only the exit below ends the app
  if (quitting) return;
  quitting = true;
  for (const window of BrowserWindow.getAllWindows()) window.close();
  void app.close(GRACE_MS).finally(() => electron.exit(0));
}

/** An error nobody caught: what it was is in the log, what was learnt is kept, and the app ends rather than go on in an unknown state. */
async function fatal(error: unknown): Promise<void> {
  if (quitting) return;
  quitting = true;
  await app?.close(FATAL_MS).catch(() => {}); // before the box, which holds this process until somebody answers it
  dialog.showErrorBox(words.ends, `${errorLine(error)}\n\n${words.endsBecause(join(home, 'logs'))}`);
  electron.exit(1);
}

if (electron.requestSingleInstanceLock()) {
  electron.on('before-quit', quit);
  electron.on('window-all-closed', () => electron.quit());
  // macOS gives files by this event, also before the app is ready.
  electron.on('open-file', (event, path) => {
    event.preventDefault();
    const paths = filesOf([path], '/');
    if (given) given.add(paths);
    else early.push(...paths);
  });
  electron.whenReady().then(start).catch((error: unknown) => {
    process.stderr.write(`${errorLine(error)}\n`);
    dialog.showErrorBox('DRTune Studio', errorLine(error));
    electron.exit(1);
  });
} else {
  process.stderr.write('DRTune Studio is already open: its window was brought to the front.\n');
  electron.exit(0);
}
