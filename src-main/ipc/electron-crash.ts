/** What Electron itself writes, in the data folder; reports of crashes are kept there and sent nowhere. */
import { app as electron, crashReporter } from 'electron';
import { join } from 'node:path';
import { mkdirs } from '../base/folder.ts';
import type { LogBook } from '../base/log-book.ts';
import { CRASHES } from '../app/logs.ts';

/** Before anything else: the window's own storage goes below the data folder, native crashes of every process below its logs. */
export function keepFilesIn(home: string): void {
  for (const [name, folder] of [['userData', join(home, 'browser')], ['crashDumps', join(home, 'logs', CRASHES)]] as const) {
    try {
      mkdirs(folder); // Electron makes none
      electron.setPath(name, folder);
    } catch {
      // A data folder that cannot be written in is told when the app is opened.
    }
  }
  crashReporter.start({ uploadToServer: false, compress: false });
}

/** Writes down what ended unexpectedly; an error nobody caught is handed on. */
export function logCrashes(log: LogBook, onFatal: (error: unknown) => void): void {
  electron.on('child-process-gone', (_, { type, reason, exitCode, name }) => {
    if (reason !== 'clean-exit') log.write('error', 'process', `${name ?? type} ended: ${reason} (${exitCode})`);
  });
  const fatal = (error: unknown): void => {
    log.write('error', 'main', error instanceof Error ? (error.stack ?? error.message) : String(error));
    onFatal(error);
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
}

/** Whether a page that went away is loaded again: not a third time within a minute. */
export class Reloads {
  private readonly at: number[] = [];

  again(nowMs: number): boolean {
    this.at.push(nowMs);
    return this.at.filter((each) => nowMs - each < 60_000).length <= 2;
  }
}
