/** What the helper process does; see helper-process.ts. */
import { AppError, errorLine } from '../base/errors.ts';
import { drtuneHome } from '../base/paths.ts';
import type { RewardInfo, SystemInfo } from '../contract/api.ts';
import { tryHere, tryWith, type Trial, type TrialAnswer } from '../engine/probe.ts';
import { probeEngines, type EngineReport } from '../engine/select.ts';
import { findLibraries } from '../engine/engine-folder.ts';
import { installPack, packStatus, type InstallOptions, type PackProgress } from '../hub/engine-pack.ts';
import { rewardInfos } from '../rewards/index.ts';

export type HelperRequest =
  | { kind: 'facts'; home: string }
  /** `file` is the pack's own, for a machine without internet. */
  | { kind: 'install'; home: string; file?: string | undefined }
  /** Tries an engine in the helper itself: whether it survives that is the answer. */
  | { kind: 'try'; trial: Trial };

export type FromHelper =
  | { type: 'facts'; engines: EngineReport[]; rewards: RewardInfo[]; pack: Pick<SystemInfo['pack'], 'installed' | 'offered' | 'bytes' | 'bytesThere' | 'bytesNeeded' | 'file'> }
  | { type: 'progress'; progress: PackProgress }
  | { type: 'notice'; line: string }
  | { type: 'installed' }
  /** Asks the main process for a helper that tries this; its answer comes as a {@link Tried}. */
  | { type: 'try-wanted'; id: number; trial: Trial }
  | { type: 'tried'; answer: TrialAnswer }
  | { type: 'error'; message: string; hint?: string | undefined };

/**
 * Answers one request; an error is an answer too.
 * @param tried has another process try; given where this process cannot start children itself
 * @param installing for tests: another pack, and how it is tried
 */
export async function answer(
  request: HelperRequest, send: (message: FromHelper) => Promise<void>, tried?: (trial: Trial) => Promise<TrialAnswer>, installing: Pick<InstallOptions, 'pack' | 'probe' | 'stallMs' | 'backoffMs'> = {},
): Promise<void> {
  if (request.kind === 'try') return send({ type: 'tried', answer: await tryHere(request.trial) });
  if (tried) tryWith(tried);
  const home = request.home || drtuneHome();
  try {
    if (request.kind === 'facts') {
      const [engines, pack] = await Promise.all([probeEngines(home), packStatus(home, installing.pack)]);
      await send({ type: 'facts', engines, rewards: rewardInfos(), pack: {
        installed: pack.installed, offered: pack.supported && !findLibraries(home).folder, bytes: pack.bytesToDownload, bytesThere: pack.bytesDownloaded, bytesNeeded: pack.bytesNeeded, file: pack.file,
      } });
    } else {
      await installPack({
        home, onProgress: (progress) => void send({ type: 'progress', progress }), onNotice: (line) => void send({ type: 'notice', line }),
        ...(request.file === undefined ? {} : { file: request.file }), ...installing,
      });
      await send({ type: 'installed' });
    }
  } catch (error) {
    await send({ type: 'error', message: error instanceof Error ? error.message : errorLine(error), hint: error instanceof AppError ? error.hint : undefined });
  }
}
