/** Trainer and helper as Electron utility processes, behind the same ports as Node's child processes. */
import { utilityProcess, type UtilityProcess } from 'electron';
import type { AnyAnswer, LaunchHelper } from '../app/helper.ts';
import { logLines, type FromTrainer, type LaunchTrainer } from '../app/trainer-port.ts';

/** The engine's libraries are not signed by us: on macOS a process of another kind may load them. */
const ENGINE = { allowLoadingUnsignedLibraries: true };

/** Messages wait until the process is up; one that has ended gets none, which some of Electron's versions do not survive. */
function sender(child: UtilityProcess): (message: unknown) => void {
  const waiting: unknown[] = [];
  let pass: (message: unknown) => void = (message) => waiting.push(message);
  child.once('spawn', () => {
    pass = (message) => child.postMessage(message);
    for (const message of waiting.splice(0)) pass(message);
  });
  child.once('exit', () => (pass = () => {}));
  return (message) => pass(message);
}

/** One that has just ended, or has not begun, has no process to kill. */
function kill(child: UtilityProcess): void {
  try {
    process.kill(child.pid!, 'SIGKILL');
  } catch {
    child.kill();
  }
}

export function utilityTrainer(entry: string): LaunchTrainer {
  return () => {
    const child = utilityProcess.fork(entry, [], { ...ENGINE, serviceName: 'DRTune trainer', stdio: ['ignore', 'pipe', 'pipe'] });
    const listeners: ((message: FromTrainer) => void)[] = [];
    const tell = (message: FromTrainer): void => listeners.forEach((listener) => listener(message));
    child.on('message', tell);
    child.on('error', (type, location) => tell({ type: 'log', line: `Error: ${type} at ${location}` }));
    logLines(child.stdout, tell);
    logLines(child.stderr, tell);
    return {
      send: sender(child),
      onMessage: (listener) => void listeners.push(listener),
      onExit: (listener) => void child.on('exit', (code) => listener({ code, signal: null })),
      kill: () => kill(child),
    };
  };
}

export function utilityHelper(entry: string): LaunchHelper {
  return () => {
    const child = utilityProcess.fork(entry, [], { ...ENGINE, serviceName: 'DRTune helper', stdio: 'ignore' });
    return {
      send: sender(child),
      onMessage: (listener) => void child.on('message', (message: AnyAnswer) => listener(message)),
      onExit: (listener) => void child.on('exit', (code) => listener(`exit ${code}`)),
      kill: () => kill(child),
    };
  };
}
