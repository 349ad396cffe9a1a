/**
 * A short-lived process for what must not run in the main one: asking the engines (a crash there is an answer), listing the
 * rewards (which loads TensorFlow.js), installing the engine pack. One request, then it exits.
 */
import { drtuneHome } from '../base/paths.ts';
import { AppError, errorLine } from '../base/errors.ts';
import type { RewardInfo, SystemInfo } from '../contract/api.ts';
import { probeEngines, type EngineReport } from '../engine/select.ts';
import { installPack, packStatus, type PackProgress } from '../hub/engine-pack.ts';
import { rewardInfos } from '../rewards/index.ts';

export type HelperRequest = { kind: 'facts'; home: string } | { kind: 'install'; home: string };

export type FromHelper =
  | { type: 'facts'; engines: EngineReport[]; rewards: RewardInfo[]; pack: Pick<SystemInfo['pack'], 'installed' | 'offered' | 'bytes'> }
  | { type: 'progress'; progress: PackProgress }
  | { type: 'installed' }
  | { type: 'error'; message: string; hint?: string | undefined };

/** Electron's utilityProcess has a parentPort, Node's child_process has process.send. */
interface Parent { postMessage(message: unknown): void; once(name: 'message', listener: (event: { data: HelperRequest }) => void): void }
const parentPort = (process as unknown as { parentPort?: Parent }).parentPort;

function send(message: FromHelper): Promise<void> {
  return new Promise((sent) => {
    if (parentPort) {
      parentPort.postMessage(message);
      setTimeout(sent, 50);
    } else process.send?.(message, () => sent());
  });
}

async function serve(request: HelperRequest): Promise<void> {
  const home = request.home || drtuneHome();
  try {
    if (request.kind === 'facts') {
      const [engines, pack] = await Promise.all([probeEngines(home), packStatus(home)]);
      await send({ type: 'facts', engines, rewards: rewardInfos(), pack: { installed: pack.installed, offered: pack.supported, bytes: pack.bytesToDownload } });
    } else {
      await installPack({ home, onProgress: (progress) => void send({ type: 'progress', progress }) });
      await send({ type: 'installed' });
    }
  } catch (error) {
    await send({ type: 'error', message: error instanceof Error ? error.message : errorLine(error), hint: error instanceof AppError ? error.hint : undefined });
  }
  process.exit(0);
}

if (parentPort) parentPort.once('message', ({ data }) => void serve(data));
else {
  process.once('message', (message) => void serve(message as HelperRequest));
  process.once('disconnect', () => process.exit(0));
}
