/** What the desktop shows of a run at work: progress in taskbar and tray, a machine that stays awake, a word at the end. */
import { Menu, Notification, powerSaveBlocker, Tray, type BrowserWindow } from 'electron';
import type { App } from '../app/open-app.ts';
import type { EventPayload, RunSummary } from '../contract/api.ts';
import { trayLine, trayMenu } from './menu.ts';
import { followLanguage, NATIVE, nativeWords } from './native-words.ts';

/** While a run is at work the machine stays awake and the taskbar shows how far it is; its end is told if nobody looks. */
export function followRuns(app: App, window: BrowserWindow): () => void {
  let blocker: number | null = null;
  return app.on((name, payload) => {
    if (name !== 'run.summary' || window.isDestroyed()) return;
    const summary = payload as EventPayload<'run.summary'>;
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

/** Tells the end of a run on the desktop where the user has left that on; a click shows the run. Why it failed is English here: the page says it in the language. */
export function notifyEnds(app: App, window: BrowserWindow, system = 'en'): () => void {
  const kept = new Set<Notification>(); // one that nobody holds hears no click
  return app.on((name, payload) => {
    if (name !== 'run.event') return;
    const { event, runId } = payload as EventPayload<'run.event'>;
    if (event.type !== 'finished' || window.isDestroyed() || window.isFocused() || !Notification.isSupported()) return;
    void app.handlers['settings.get']({}).then(({ notifications, language }) => {
      if (!notifications) return;
      const words = nativeWords(language, system);
      const summary = app.service.recorder.summary(runId);
      const notification = new Notification({ title: `${summary.name}: ${words.states[summary.state]}`, body: (words === NATIVE.en ? summary.reason : null) ?? words.of(summary.step, summary.iterations) });
      kept.add(notification);
      notification.on('click', () => {
        show(window);
        app.publish('go', { page: `/runs/${runId}` });
      });
      notification.show();
    }).catch(() => undefined); // a history that has gone is told elsewhere
  });
}

export function show(window: BrowserWindow): void {
  if (window.isDestroyed()) return;
  if (window.isMinimized()) window.restore();
  window.show();
  window.focus();
}

/** An icon beside the clock with the run's progress, pause and resume, and quit. @returns null where the system has no such place */
export function showTray(app: App, window: BrowserWindow, icon: string, quit: () => void, onProblem: (line: string) => void, system = 'en'): Tray | null {
  let tray: Tray;
  try {
    tray = new Tray(icon);
  } catch (error) {
    onProblem(`No tray: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
  const tell = (error: unknown): void => onProblem(error instanceof Error ? error.message : String(error));
  const actions = {
    show: () => show(window), quit,
    stop: (id: string) => void app.handlers['runs.stop']({ id }).catch(tell),
    resume: (id: string) => void app.handlers['runs.resume']({ id }).catch(tell),
  };
  let shown: RunSummary | null = null;
  let menuOf = '';
  let words = NATIVE.en;
  const draw = (): void => {
    const line = shown ? trayLine(shown, words) : words.idle;
    tray.setToolTip(`DRTune Studio\n${line}`);
    // A menu that is open must not be replaced at every step: on Linux that closes it.
    const key = `${words.quit} ${shown?.id} ${shown?.state} ${shown ? Math.floor((20 * shown.step) / Math.max(1, shown.iterations)) : ''}`;
    if (key === menuOf) return;
    menuOf = key;
    tray.setContextMenu(Menu.buildFromTemplate(trayMenu(shown, actions, words)));
  };
  tray.on('click', () => show(window));
  app.on((name, payload) => {
    if (name !== 'run.summary') return;
    const summary = payload as EventPayload<'run.summary'>;
    if (summary.state === 'running' || summary.id === shown?.id) {
      shown = summary;
      draw();
    }
  });
  draw();
  followLanguage(app, system, (next) => {
    words = next;
    draw();
  });
  return tray;
}
