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
import { folderBytes } from './run-folders.ts';
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
}

/** At most this often a "system" event goes out, ms. */
const EVERY_MS = 500;
/** Counting the folder's bytes walks every file. */
const DISK_EVERY_MS = 30_000;

export class System {
  private readonly options: SystemOptions;
  private factsOnce: Promise<Facts> | null = null;
  private known: Facts | null = null;
  private progress: PackProgress = null;
  private packError: string | null = null;
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
    const pack = this.known?.pack ?? { installed: false, offered: false, bytes: 0 };
    const { home, queue, notices } = this.options;
    return {
      appVersion: appVersion(), home, engines: this.engines(error),
      pack: { ...pack, progress: this.progress, error: this.packError },
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

  /** Starts the installation; progress comes as events. @throws AppError('busy') while one is under way */
  install(): void {
    if (this.installing) throw new AppError('busy', 'The engine is already being installed.');
    const controller = new AbortController();
    this.installing = controller;
    this.packError = null;
    this.progress = { phase: 'download', bytes: 0, total: this.known?.pack.bytes ?? 0, bytesPerSecond: 0, etaSeconds: 0 };
    this.changed();
    const onMessage = (message: AnyAnswer): void => {
      if (message.type !== 'progress') return;
      this.progress = { ...message.progress, etaSeconds: message.progress.etaSeconds ?? 0 };
      this.changed();
    };
    askHelper(this.options.launchHelper, { kind: 'install', home: this.options.home }, 'installed', { onMessage, signal: controller.signal })
      .catch((error: unknown) => void (this.packError = errorLine(error)))
      .finally(() => {
        this.installing = null;
        this.progress = null;
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
