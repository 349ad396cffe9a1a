/** Starts a trainer as a child process of Node. Electron's utilityProcess has the same port in src-main/main.ts. */
import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { FromTrainer, TrainerPort } from '../worker/protocol.ts';

export type { FromTrainer };
export type LaunchTrainer = () => TrainerPort;

/** Out of the terminal's process group: Ctrl-C is for the app, which then stops the trainer with a checkpoint. */
export const OWN_GROUP = { detached: process.platform !== 'win32' };

/**
 * How Node is started where an engine runs: its own objects are few and get little room, and there is a heap for each core and one
 * for the rest. Of glibc's own eight a core TensorFlow's threads would fill each; one for all they wait for each other at.
 * The starter's gradient takes 100 MB less for that.
 */
export const engineProcess = (env: NodeJS.ProcessEnv) => ({
  execArgv: ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=2', '--optimize-for-size'],
  env: { MALLOC_ARENA_MAX: String(Math.min(availableParallelism(), 8) + 1), ...env },
});

/**
 * @param entry file of the trainer process
 * @returns a function that starts one; what it prints comes back as log lines
 */
export function forkTrainer(entry: string, env: NodeJS.ProcessEnv = process.env): LaunchTrainer {
  return () => {
    // 'advanced' keeps numbers that JSON cannot hold (NaN), so that they can be told apart from a missing value.
    const child = fork(entry, [], {
      ...engineProcess(env), serialization: 'advanced', stdio: ['ignore', 'pipe', 'pipe', 'ipc'], ...OWN_GROUP,
    });
    const listeners: ((message: FromTrainer) => void)[] = [];
    const tell = (message: FromTrainer): void => listeners.forEach((listener) => listener(message));
    child.on('message', (message) => tell(message as FromTrainer));
    logLines(child.stdout, tell);
    logLines(child.stderr, tell);
    return {
      send: (message) => {
        if (child.connected) child.send(message, () => {}); // a child that has just gone is reported by onExit
      },
      onMessage: (listener) => void listeners.push(listener),
      onExit: (listener) => {
        let over = false;
        const end = (code: number | null, signal: string | null): void => {
          if (!over) listener({ code, signal });
          over = true;
        };
        child.on('close', end);
        child.on('error', (error) => {
          tell({ type: 'log', line: `Error: ${error.message}` });
          if (child.pid === undefined) end(1, null);
        });
      },
      kill: () => void child.kill('SIGKILL'),
    };
  };
}

/** Passes on what a stream prints, line by line. */
export function logLines(stream: Readable | NodeJS.ReadableStream | null, tell: (message: FromTrainer) => void): void {
  if (!stream) return;
  createInterface({ input: stream, crlfDelay: Infinity }).on('line', (line) => {
    if (line.trim()) tell({ type: 'log', line });
  });
}
