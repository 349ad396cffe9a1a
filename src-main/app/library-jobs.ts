/** What the helper process does with models: facts, checksums, plans and downloads from the hub. Each imports what it needs: facts take the networks' code, the hub takes none of it. */
import { AppError, errorLine } from '../base/errors.ts';
import { watched, type Progress } from '../base/work.ts';
import { hubEndpoint } from '../hub/hub-address.ts';
import type { ModelProgress } from '../hub/model-download.ts';
import type { ModelPlan, ModelRequest } from '../hub/model-store.ts';
import type { ModelFacts } from './model-facts.ts';

export type LibraryRequest =
  | { kind: 'plan'; home: string; request: ModelRequest; token: string | undefined }
  | { kind: 'download'; home: string; plan: ModelPlan; token: string | undefined }
  | { kind: 'models'; paths: string[] }
  | { kind: 'verify'; path: string };

export type FromLibrary =
  | { type: 'plan'; plan: ModelPlan }
  | { type: 'model-progress'; progress: ModelProgress }
  | { type: 'notice'; line: string }
  | { type: 'work'; progress: Progress }
  | { type: 'downloaded'; path: string }
  | { type: 'models'; facts: ModelFacts[] }
  | { type: 'verified'; problems: string[] }
  | { type: 'error'; code: string; message: string; hint?: string | undefined };

/** Answers one request; an error is an answer too. */
export async function answerLibrary(request: LibraryRequest, send: (message: FromLibrary) => Promise<void>): Promise<void> {
  const onNotice = (line: string): void => void send({ type: 'notice', line });
  try {
    switch (request.kind) {
      case 'plan': {
        const { planModel } = await import('../hub/model-download.ts');
        await send({ type: 'plan', plan: await planModel(request.home, request.request, { endpoint: hubEndpoint(), token: request.token, onNotice }) });
        break;
      }
      case 'download': {
        const { downloadModel } = await import('../hub/model-download.ts');
        const checkConfigs = async (folder: string): Promise<void> => (await import('./model-check.ts')).checkConfigs(folder);
        const onProgress = (progress: ModelProgress): void => void send({ type: 'model-progress', progress });
        await send({ type: 'downloaded', path: await downloadModel(request.home, request.plan, { endpoint: hubEndpoint(), token: request.token, onNotice, onProgress, checkConfigs }) });
        break;
      }
      case 'models': {
        const { modelFacts } = await import('./model-facts.ts');
        await send({ type: 'models', facts: request.paths.map(modelFacts) });
        break;
      }
      case 'verify': {
        const { verifyModel } = await import('./model-check.ts');
        const work = watched((progress) => void send({ type: 'work', progress }), () => false, () => performance.now());
        await send({ type: 'verified', problems: (await verifyModel(request.path, work)).problems });
        break;
      }
    }
  } catch (error) {
    const known = error instanceof AppError;
    await send({ type: 'error', code: known ? error.code : 'internal', message: known ? error.message : errorLine(error), hint: known ? error.hint : undefined });
  }
}
