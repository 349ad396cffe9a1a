/** Base pictures for the "New run" page, renders for "Compare", exports, scores of the user's pictures: short-lived trainer processes that answer one request. */
import { AppError, type ErrorCode } from '../base/errors.ts';
import { cancelled, type Progress } from '../base/work.ts';
import type { PreviewImage, ScoredPicture } from '../contract/api.ts';
import type { TrainerEventOf } from '../contract/events.ts';
import type { Exported, TrainerJob } from '../worker/protocol.ts';
import { crashWords, LastError } from './crash-words.ts';
import type { SmallJob } from './lane.ts';
import type { LaunchTrainer } from './trainer-port.ts';

export interface SmallJobResult { previews: PreviewImage[]; images: TrainerEventOf<'image'>[]; exported: Exported | null; scored: ScoredPicture[] }

/** How long one that is given up may take to clean up after itself, ms; previews and scores write nothing. */
const CLEAN_UP_MS: Record<SmallJob['kind'], number> = { preview: 0, score: 0, render: 5000, export: 5000 };

/**
 * Makes a job for the lane out of a trainer job.
 * @param tell hears how far it is
 * @returns the job and the promise of its result; rejects with AppError when the trainer fails, crashes or is given up.
 */
export function smallJob(launch: LaunchTrainer, job: TrainerJob & { kind: SmallJob['kind'] }, tell: (progress: Progress) => void = () => {}): { job: SmallJob; result: Promise<SmallJobResult> } {
  const { promise, resolve, reject } = Promise.withResolvers<SmallJobResult>();
  promise.catch(() => {}); // the caller may have gone; the lane must go on
  let given: AppError | null = null;
  let end: (() => void) | null = null;
  const run = async (): Promise<void> => {
    if (given) return;
    await new Promise<void>((gone) => {
      const port = launch();
      end = () => {
        port.send({ type: 'stop' });
        setTimeout(() => port.kill(), CLEAN_UP_MS[job.kind]).unref();
      };
      const got: SmallJobResult = { previews: [], images: [], exported: null, scored: [] };
      const lastError = new LastError();
      let done = false;
      port.onMessage((message) => {
        switch (message.type) {
          case 'preview': got.previews.push(...message.images); break;
          case 'event':
            if (message.event.type === 'image') got.images.push(message.event);
            if (message.event.type === 'phase' && !given) tell({ what: message.event.phase, done: message.event.done ?? 0, total: message.event.total ?? 0 });
            break;
          case 'exported': got.exported = message.exported; break;
          case 'scored': got.scored.push(...message.pictures); break;
          case 'log': lastError.see(message.line); break;
          case 'error': reject(given ?? new AppError(message.code as ErrorCode, message.message, message.hint === undefined ? {} : { hint: message.hint })); break;
          case 'done':
            done = true;
            setTimeout(() => port.kill(), 5000).unref();
            break;
        }
      });
      port.onExit((exit) => {
        if (given) reject(given);
        else if (done) resolve(got);
        else {
          const words = crashWords(exit, lastError.line);
          reject(new AppError('run', words.message, { hint: words.hint }));
        }
        gone();
      });
      port.send({ type: 'job', job });
    });
  };
  /** Its caller hears once the process is gone: what it was writing is gone as well then. */
  const cancel = (reason?: string): void => {
    if (given) return;
    given = reason === undefined ? cancelled() : new AppError('busy', reason);
    if (end) end();
    else reject(given);
  };
  return { job: { kind: job.kind, run, cancel }, result: promise };
}
