/** What the status bar and the Settings page show: engines, the engine pack, memory, disk, queue. */
import { statfs } from 'node:fs/promises';
import { cpus, platform, totalmem } from 'node:os';
import { availableBytes } from '../base/memory.ts';
import { AppError, errorLine } from '../base/errors.ts';
import type { HardwareInfo } from '../contract/hardware.ts';
import type { RewardInfo, Settings, SystemInfo } from '../contract/api.ts';
import { SCHEMA_VERSION } from '../history/migrations/index.ts';
import { Hardware } from './hardware.ts';
import { askHelper, type AnyAnswer, type LaunchHelper } from './helper.ts';
import type { FromHelper } from './helper-jobs.ts';
import { ownProcesses } from './own-processes.ts';
import { folderBytes } from '../base/disk.ts';
import { appVersion } from './version.ts';

type Facts = Extract<FromHelper, { type: 'facts' }>;
type PackProgress = SystemInfo['pack']['progress'];

export interface SystemOptions {
  home: string;
  launchHelper: LaunchHelper;
  queue: () => SystemInfo['queue'];
  settings: () => Settings;
  notices: () => readonly string[];
  publish: (system: SystemInfo) => void;
  /** Whether an installation was begun that was not given up: the next start goes on with it. */
  begun: { get(): boolean; set(on: boolean): void };
}

/** At most this often a "system" event goes out, ms. */
const EVERY_MS = 500;
/** Without news for so long nothing arrives. */
const SILENT_MS = 3000;
/** Counting the folder's bytes walks every file. */
const DISK_EVERY_MS = 30_000;

export class System {
  private readonly options: SystemOptions;
  private factsOnce: Promise<Facts> | null = null;
  private known: Facts | null = null;
  private progress: PackProgress = null;
  private progressAt = 0;
  private notice = '';
  private packError: string | null = null;
  private closed = false;
  private installing: AbortController | null = null;
  private timer: NodeJS.Timeout | null = null;
  private readonly machine = new Hardware();
  private homeBytes: { at: number; bytes: number } | null = null;

  constructor(options: SystemOptions) {
    this.options = options;
  }

  /** Engines, rewards and pack, asked once in a process of its own; a failure is shown and asked again next time. */
  facts(): Promise<Facts> {
    this.factsOnce ??= askHelper(this.options.launchHelper, { kind: 'facts', home: this.options.home }, 'facts', { timeoutMs: 120_000 }).then((facts) => {
      this.known = facts;
      this.changed();
      return facts;
    }).catch((error: unknown) => {
      this.factsOnce = null;
      throw error;
    });
    return this.factsOnce;
  }

  async rewards(): Promise<RewardInfo[]> {
    return (await this.facts()).rewards;
  }

  /** Waits a moment for the first probe, not longer: until it has answered the engines are "being tried". */
  async get(waitMs = 3000): Promise<SystemInfo> {
    let error: string | null = null;
    const probe = this.facts().catch((reason: unknown) => void (error = errorLine(reason)));
    if (!this.known) await Promise.race([probe, new Promise((resolve) => setTimeout(resolve, waitMs).unref())]);
    const pack = this.known?.pack ?? { installed: false, offered: false, bytes: 0, bytesThere: 0, bytesNeeded: 0, file: '' };
    const silent = Date.now() - this.progressAt > SILENT_MS;
    const progress = this.progress && silent ? { ...this.progress, bytesPerSecond: 0, etaSeconds: null } : this.progress;
    const { home, queue, notices } = this.options;
    return {
      appVersion: appVersion(), home, engines: this.engines(error),
      pack: { ...pack, progress, notice: this.notice, error: this.packError },
      memory: memoryNow(), disk: await this.disk(), cpus: cpus().length, platform: `${platform()} ${process.arch}`, historySchema: SCHEMA_VERSION,
      queue: queue(), notices: [...notices()],
    };
  }

  async hardware(): Promise<HardwareInfo> {
    return { ...(await this.machine.get()), memory: memoryNow(), disk: await this.disk() };
  }

  /** The engine a run with this choice will get, by name; null until it is known. */
  engineFor(choice: string): string | null {
    if (choice !== 'auto') return choice;
    return this.known?.engines.find((engine) => engine.usable)?.name ?? null;
  }

  /** Goes on with an installation that the end of the app interrupted. */
  goOn(): void {
    if (this.options.begun.get()) this.install();
  }

  /**
   * Starts the installation, or goes on with it; progress comes as events.
   * @param file the pack's file, where it was brought along @throws AppError('busy') while one is under way
   */
  install(file?: string): void {
    const { launchHelper, home, begun } = this.options;
    if (this.installing) throw new AppError('busy', 'The engine is already being installed.');
    const controller = new AbortController();
    this.installing = controller;
    [this.packError, this.notice] = [null, ''];
    begun.set(file === undefined);
    const { bytes, bytesThere } = this.known?.pack ?? { bytes: 0, bytesThere: 0 };
    this.progress = { phase: file === undefined ? 'download' : 'verify', bytes: file === undefined ? bytesThere : 0, total: bytes, bytesPerSecond: 0, etaSeconds: null };
    this.changed();
    const onMessage = (message: AnyAnswer): void => {
      if (message.type === 'notice') this.notice = message.line;
      if (message.type === 'progress') {
        this.progress = { ...message.progress, etaSeconds: message.progress.etaSeconds ?? null };
        [this.progressAt, this.notice] = [Date.now(), ''];
        if (message.progress.phase === 'download' && this.known) this.known.pack.bytesThere = message.progress.bytes;
      }
      this.changed();
    };
    askHelper(launchHelper, { kind: 'install', home, file }, 'installed', { onMessage, signal: controller.signal })
      // What the user stopped is no error: it waits to be gone on with.
      .catch((error: unknown) => void (this.packError = controller.signal.aborted ? null : errorLine(error)))
      .finally(() => {
        if (this.closed) return;
        begun.set(false);
        this.installing = null;
        this.progress = null;
        this.notice = '';
        this.factsOnce = null;
        void this.facts().catch(() => {}).finally(() => this.changed());
      });
  }

  cancelInstall(): void {
    this.installing?.abort();
  }

  /** Something the status bar shows has changed. */
  changed(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      void this.get(0).then((system) => this.options.publish(system)).catch(() => {});
    }, EVERY_MS);
    this.timer.unref();
  }

  close(): void {
    this.closed = true;
    if (this.timer) clearTimeout(this.timer);
    this.installing?.abort();
  }

  private engines(error: string | null): SystemInfo['engines'] {
    if (!this.known) return [{ name: 'auto', usable: false, version: '', device: '', why: error ?? 'being tried now', active: false }];
    const active = this.engineFor(this.options.settings().engine);
    return this.known.engines.map((engine) => ({ ...engine, active: engine.usable && engine.name === active }));
  }

  private async disk(): Promise<SystemInfo['disk']> {
    if (!this.homeBytes || Date.now() - this.homeBytes.at > DISK_EVERY_MS) this.homeBytes = { at: Date.now(), bytes: folderBytes(this.options.home) };
    return { homeBytes: this.homeBytes.bytes, freeBytes: await freeBytes(this.options.home) };
  }
}

export async function freeBytes(folder: string): Promise<number> {
  const disk = await statfs(folder);
  return disk.bavail * disk.bsize;
}

/** Bytes of this process and its children, and what is left on the machine. */
export function memoryNow(): SystemInfo['memory'] {
  return { usedBytes: ownProcesses()?.bytes ?? process.memoryUsage().rss, availableBytes: availableBytes(), totalBytes: totalmem() };
}
