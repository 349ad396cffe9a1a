/**
 * Entry of the trainer's process, forked by Node or started by Electron's utilityProcess. Serves one job, then exits; if its
 * parent goes, it goes too, at the next step and with a checkpoint.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { exitProcess } from '../engine/exit.ts';
import { tryHere, tryWith } from '../engine/probe.ts';
import { openEngine } from '../engine/select.ts';
import { errorMessage, runJob } from './jobs.ts';
import type { FromTrainer, ToTrainer, TrainerJob } from './protocol.ts';

/** What Electron's utilityProcess gives its child. */
interface ParentPort {
  on(event: 'message', listener: (event: { data: ToTrainer }) => void): void;
  postMessage(message: FromTrainer): void;
}

const parentPort = (process as unknown as { parentPort?: ParentPort }).parentPort;
const LEAVE_MS = 50;
let stopping = false;
let orphaned = false;
let working = false;

/** Sends and waits until it has left: an exit must not overtake the last message. */
function send(message: FromTrainer): Promise<void> {
  if (parentPort) {
    parentPort.postMessage(message);
    // Electron's port has no callback, and what is still in it at the exit is lost: a run that is done would have crashed.
    return message.type === 'done' ? new Promise((left) => setTimeout(left, LEAVE_MS)) : Promise.resolve();
  }
  if (!process.send || !process.connected) return Promise.resolve();
  return new Promise((done) => process.send!(message, undefined, undefined, () => done()));
}

function receive(message: ToTrainer): void {
  if (message.type === 'stop') stopping = true;
  else if (!working) void work(message.job);
}

async function work(job: TrainerJob): Promise<void> {
  working = true;
  try {
    const messages = runJob(job, {
      openEngine: (prefer, home) => openEngine({ prefer, home, onNotice: (line) => void send({ type: 'log', line }) }),
      appVersion: appVersion(),
      now: () => performance.now(),
      date: () => new Date().toISOString(),
      memoryBytes: () => process.memoryUsage.rss(),
      log: (line) => void send({ type: 'log', line }),
      tell: ({ what, done, total }) => void send({ type: 'event', event: { type: 'phase', phase: what, done, total } }),
      stopRequested: () => stopping,
      breathe: () => new Promise((resume) => setImmediate(resume)),
    });
    for await (const message of messages) await send(message);
  } catch (error) {
    await send(errorMessage(error));
    await send({ type: 'done' });
  }
  await exitProcess(orphaned ? 1 : 0);
}

function appVersion(): string {
  for (let folder = import.meta.dirname; dirname(folder) !== folder; folder = dirname(folder)) {
    const file = join(folder, 'package.json');
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version?: string }).version ?? '0.0.0';
  }
  return '0.0.0';
}

// A utility process cannot start a child to try the engine in. Where the app has not noted that it works, this process tries it itself: a crash ends the run, and says so.
if (parentPort) {
  tryWith(tryHere);
  parentPort.on('message', ({ data }) => receive(data));
} else {
  process.on('message', (message) => receive(message as ToTrainer));
  process.on('disconnect', () => {
    orphaned = true;
    stopping = true;
    if (!working) void exitProcess(1);
  });
}
