/** The main process's side of helper-process.ts. */
import { fork } from 'node:child_process';
import { AppError, errorLine, type ErrorCode } from '../base/errors.ts';
import type { Trial, TrialAnswer } from '../engine/probe.ts';
import { OWN_GROUP, engineProcess } from './trainer-port.ts';
import type { FromHelper, HelperRequest } from './helper-jobs.ts';
import type { FromLibrary, LibraryRequest } from './library-jobs.ts';

export type AnyRequest = HelperRequest | LibraryRequest;
/** The answer to a helper's "try-wanted". */
export interface Tried { kind: 'tried'; id: number; answer: TrialAnswer }
export type AnyAnswer = FromHelper | FromLibrary;

export interface HelperPort {
  send(message: AnyRequest | Tried): void;
  onMessage(listener: (message: AnyAnswer) => void): void;
  onExit(listener: (words: string) => void): void;
  kill(): void;
}
export type LaunchHelper = () => HelperPort;

export function forkHelper(entry: string, env: NodeJS.ProcessEnv = process.env): LaunchHelper {
  return () => {
    const child = fork(entry, [], { ...engineProcess(env), serialization: 'advanced', stdio: ['ignore', 'ignore', 'pipe', 'ipc'], ...OWN_GROUP });
    let errors = '';
    child.stderr?.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-2000)));
    return {
      send: (message) => void child.send(message),
      onMessage: (listener) => void child.on('message', (message) => listener(message as AnyAnswer)),
      onExit: (listener) => {
        const words = (): string => errors.split('\n').find((line) => /Error/.test(line))?.trim() ?? `exit ${child.signalCode ?? child.exitCode}`;
        child.on('close', () => listener(words()));
        child.on('error', (error) => listener(error.message));
      },
      kill: () => void child.kill('SIGKILL'),
    };
  };
}

/** How long a helper may take to load an engine: a cold disk takes seconds for 850 MB of libraries. */
const TRIAL_MS = 60_000;

/** Has a helper of its own try something; its crash is the answer. Never throws. */
async function tryApart(launch: LaunchHelper, trial: Trial): Promise<TrialAnswer> {
  try {
    return (await askHelper(launch, { kind: 'try', trial }, 'tried', { timeoutMs: TRIAL_MS })).answer;
  } catch (error) {
    return { why: `it crashed when tried: ${errorLine(error)}` };
  }
}

/**
 * Sends one request and waits for the answer of the wanted type.
 * @throws AppError with the helper's own code, or 'engine' when it crashes, is late or is cancelled by `signal`
 */
export function askHelper<T extends AnyAnswer['type']>(launch: LaunchHelper, request: AnyRequest, wanted: T, options: {
  onMessage?: (message: AnyAnswer) => void; signal?: AbortSignal; timeoutMs?: number;
} = {}): Promise<Extract<AnyAnswer, { type: T }>> {
  return new Promise((resolve, reject) => {
    const port = launch();
    const fail = (message: string, hint?: string, code: ErrorCode = 'engine'): void => reject(new AppError(code, message, hint === undefined ? {} : { hint }));
    const timer = options.timeoutMs ? setTimeout(() => {
      fail(`The engines gave no answer within ${Math.round(options.timeoutMs! / 1000)} s.`);
      port.kill();
    }, options.timeoutMs) : undefined;
    options.signal?.addEventListener('abort', () => {
      fail('Cancelled; what is downloaded is kept.', undefined, 'cancelled');
      port.kill();
    });
    port.onMessage((message) => {
      options.onMessage?.(message);
      if (message.type === 'try-wanted') void tryApart(launch, message.trial).then((answer) => port.send({ kind: 'tried', id: message.id, answer }));
      if (message.type === wanted) resolve(message as Extract<AnyAnswer, { type: T }>);
      if (message.type === 'error') fail(message.message, message.hint, 'code' in message ? (message.code as ErrorCode) : undefined);
    });
    port.onExit((words) => {
      clearTimeout(timer);
      fail(`The helper process ended: ${words}.`);
    });
    port.send(request);
  });
}
