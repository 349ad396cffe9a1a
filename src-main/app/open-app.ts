/** Puts the app together without a window: data folder lock, history, queue, handlers. Electron and `--serve` both start here. */
import { join } from 'node:path';
import { AppError } from '../base/errors.ts';
import { LogBook } from '../base/log-book.ts';
import type { EventName, EventPayload, Handlers } from '../contract/api.ts';
import type { GivenFile } from '../contract/desktop.ts';
import { openHistory } from '../history/database.ts';
import { lockHome } from '../history/lock.ts';
import { listModels, resourcesFolder } from '../models/known.ts';
import { Catalog } from './catalog.ts';
import { makeHandlers, type PickPath } from './handlers.ts';
import { askHelper, type LaunchHelper } from './helper.ts';
import { logRuns } from './logs.ts';
import { ModelHub } from './model-hub.ts';
import { OpenedPaths } from './opened-paths.ts';
import { fileInside } from './run-folders.ts';
import { RunRecorder } from './run-recorder.ts';
import { RunService } from './run-service.ts';
import type { SecretBox } from './secret-file.ts';
import { ServerLinks, type Wire } from './server-links.ts';
import { ServerList } from './server-list.ts';
import { System } from './system.ts';
import { TokenStore } from './token-store.ts';
import type { LaunchTrainer } from './trainer-port.ts';
import { Uploads } from './uploads.ts';
import { appVersion } from './version.ts';
import { Works } from './works.ts';

export interface AppOptions {
  home: string;
  launchTrainer: LaunchTrainer;
  launchHelper: LaunchHelper;
  /** What reaches other machines. */
  wire: Wire;
  stopGraceMs?: number;
  /** Where a token is kept encrypted; without it a token lasts until the app closes. */
  secrets?: SecretBox | null;
  /** The system's dialog; the served app has none. */
  pickPath?: PickPath;
  /** Files the system gave to the app, once. */
  takeGiven?: () => GivenFile[];
  /** Folders whose files pages may have read, instead of the user's home; see opened-paths.ts. */
  folders?: readonly string[] | undefined;
}

export type AppListener = <N extends EventName>(name: N, payload: EventPayload<N>) => void;

export interface App {
  readonly home: string;
  readonly handlers: Handlers;
  readonly service: RunService;
  /** Other machines' apps, as far as the user added them. */
  readonly servers: ServerLinks;
  /** The app's log, in the data folder's logs/. */
  readonly log: LogBook;
  /** Called with every event, already in the history; returns how to stop. */
  on(listener: AppListener): () => void;
  /** Tells every page. */
  readonly publish: AppListener;
  /** Path of a picture's file, checked to lie in its run's folder. */
  imageFile(id: number): string;
  /** The user chose this file or folder outside of the page: pages may name it from now on. */
  opened(path: string): void;
  /** Tells a second instance where this one is. */
  announce(address: string): void;
  /** Stops the running training with a checkpoint and closes the history. */
  close(graceMs?: number): Promise<void>;
}

const FOREIGN_EVERY_MS = 2000;
const STATUS_EVERY_MS = 5000;
/** Of the settings: an installation of the engine was begun. */
const BEGUN = 'engine-begun';

async function noDialog(): Promise<never> {
  throw new AppError('config', 'A served app has no dialog for files.', { hint: 'Type the path.' });
}

/** @throws AppError('busy') where another app has the data folder, AppError('history') where the history cannot be opened */
export function openApp(options: AppOptions): App {
  const { home } = options;
  const lock = lockHome(home);
  try {
    const history = openHistory(home, { locked: true });
    const log = new LogBook(join(home, 'logs'));
    const writeDown = logRuns(log);
    const listeners = new Set<AppListener>();
    const publish: AppListener = (name, payload) => [writeDown, ...listeners].forEach((listener) => listener(name, payload));
    for (const notice of history.notices) log.write('warning', 'history', notice);
    const recorder = new RunRecorder(history);
    for (const id of recorder.adoptRuns()) log.write('warning', 'history', `The run ${id} was found by its folder.`);
    const catalog = new Catalog(home, recorder.records, async (paths) => (await askHelper(options.launchHelper, { kind: 'models', paths: [...paths] }, 'models')).facts);
    const works = new Works((list) => publish('work', list));
    const service = new RunService({
      recorder, works, launch: options.launchTrainer, publish, onQueue: () => system.changed(),
      ...(options.stopGraceMs === undefined ? {} : { stopGraceMs: options.stopGraceMs }),
    });
    const system = new System({
      home, launchHelper: options.launchHelper, queue: () => service.queue(), settings: () => catalog.settings(), notices: () => history.notices,
      publish: (payload) => publish('system', payload),
      begun: { get: () => recorder.records.setting(BEGUN) === true, set: (on) => recorder.records.setSetting(BEGUN, on) },
    });
    const tokens = new TokenStore(home, options.secrets ?? null);
    const servers = new ServerLinks({ list: new ServerList(home, options.secrets ?? null), wire: options.wire, version: appVersion(), publish: (list) => publish('servers', list) });
    const hub = new ModelHub({ home, launchHelper: options.launchHelper, tokens, publish: (payload) => publish('models.downloads', payload) });
    const paths = new OpenedPaths({
      home, resources: resourcesFolder(), models: () => listModels(home), folders: options.folders,
      hint: options.pickPath ? 'Choose it with the button that opens a file, or drop it on the page.' : 'Start with --files FOLDER to open another folder to the pages.',
    });
    service.recover();
    system.goOn();
    const timers = [
      setInterval(() => service.watchForeign(), FOREIGN_EVERY_MS),
      setInterval(() => listeners.size > 0 && system.changed(), STATUS_EVERY_MS),
    ];
    for (const timer of timers) timer.unref();
    let closing: Promise<void> | null = null;
    const close = async (graceMs?: number): Promise<void> => {
      timers.forEach((timer) => clearInterval(timer));
      servers.close();
      system.close();
      works.close();
      hub.close();
      await service.close(graceMs);
      history.close();
      lock.release();
    };
    return {
      home, service, servers, log, publish,
      handlers: makeHandlers({ service, catalog, system, hub, tokens, works, uploads: new Uploads(home), servers, paths, log, pickPath: options.pickPath ?? noDialog, takeGiven: options.takeGiven ?? (() => []) }),
      on: (listener) => {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
      imageFile: (id) => {
        const image = recorder.images.get(id);
        return fileInside(recorder.runDir(image.runId), image.file);
      },
      opened: (path) => paths.open(path),
      announce: (address) => lock.announce(address),
      close: (graceMs) => (closing ??= close(graceMs)),
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}
