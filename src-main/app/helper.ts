/** The main process's side of helper-process.ts. */
import { fork } from 'node:child_process';
import { AppError } from '../base/errors.ts';
import { OWN_GROUP } from './trainer-port.ts';
import type { FromHelper, HelperRequest } from './helper-jobs.ts';

export interface HelperPort {
  send(message: HelperRequest): void;
  onMessage(listener: (message: FromHelper) => void): void;
  onExit(listener: (words: string) => void): void;
  kill(): void;
}
export type LaunchHelper = () => HelperPort;

export function forkHelper(entry: string, env: NodeJS.ProcessEnv = process.env): LaunchHelper {
  return () => {
    const child = fork(entry, [], { execArgv: ['--disable-warning=ExperimentalWarning'], serialization: 'advanced', stdio: ['ignore', 'ignore', 'pipe', 'ipc'], env, ...OWN_GROUP });
    let errors = '';
    child.stderr?.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-2000)));
    return {
      send: (message) => void child.send(message),
      onMessage: (listener) => void child.on('message', (message) => listener(message as FromHelper)),
      onExit: (listener) => {
        const words = (): string => errors.split('\n').find((line) => /Error/.test(line))?.trim() ?? `exit ${child.signalCode ?? child.exitCode}`;
        child.on('close', () => listener(words()));
        child.on('error', (error) => listener(error.message));
      },
      kill: () => void child.kill('SIGKILL'),
    };
  };
}

/**
 * Sends one request and waits for the answer of the wanted type.
 * @throws AppError('engine') when the helper fails, crashes or is cancelled by `signal`
 */
export function askHelper<T extends FromHelper['type']>(launch: LaunchHelper, request: HelperRequest, wanted: T, options: {
  onMessage?: (message: FromHelper) => void; signal?: AbortSignal; timeoutMs?: number;
} = {}): Promise<Extract<FromHelper, { type: T }>> {
  return new Promise((resolve, reject) => {
    const port = launch();
    const fail = (message: string, hint?: string): void => reject(new AppError('engine', message, hint === undefined ? {} : { hint }));
    const timer = options.timeoutMs ? setTimeout(() => {
      fail(`The engines gave no answer within ${Math.round(options.timeoutMs! / 1000)} s.`);
      port.kill();
    }, options.timeoutMs) : undefined;
    options.signal?.addEventListener('abort', () => {
      fail('The installation was cancelled. What is downloaded is kept.');
      port.kill();
    });
    port.onMessage((message) => {
      options.onMessage?.(message);
      if (message.type === wanted) resolve(message as Extract<FromHelper, { type: T }>);
      if (message.type === 'error') fail(message.message, message.hint);
    });
    port.onExit((words) => {
      clearTimeout(timer);
      fail(`The helper process ended: ${words}.`);
    });
    port.send(request);
  });
}
