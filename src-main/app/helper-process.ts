/**
 * A short-lived process for what must not run in the main one: asking the engines (a crash there is an answer), listing the
 * rewards (which loads TensorFlow.js), installing the engine pack. One request, then it exits. The work is imported when it is
 * asked for, so that no bundle's shared code ever lands in this entry.
 */
import type { FromHelper, HelperRequest } from './helper-jobs.ts';

/** Electron's utilityProcess has a parentPort, Node's child_process has process.send. */
interface Parent { postMessage(message: unknown): void; once(name: 'message', listener: (event: { data: HelperRequest }) => void): void }
const parentPort = (process as unknown as { parentPort?: Parent }).parentPort;

/** Electron's port has no callback: the message gets a moment to leave before the process exits. */
const LEAVE_MS = 50;

function send(message: FromHelper): Promise<void> {
  return new Promise((sent) => {
    if (parentPort) {
      parentPort.postMessage(message);
      setTimeout(sent, LEAVE_MS);
    } else process.send?.(message, () => sent());
  });
}

async function serve(request: HelperRequest): Promise<void> {
  const { answer } = await import('./helper-jobs.ts');
  await answer(request, send);
  process.exit(0);
}

if (parentPort) parentPort.once('message', ({ data }) => void serve(data));
else {
  process.once('message', (message) => void serve(message as HelperRequest));
  process.once('disconnect', () => process.exit(0));
}
