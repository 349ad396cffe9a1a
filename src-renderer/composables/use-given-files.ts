/** Files that are dropped on the app, chosen, or handed over by the system: shared runs go to the history, settings to "New run", checkpoints to "Models". */
import { inject, provide, type InjectionKey } from 'vue';
import type { Router } from 'vue-router';
import { settingsFileSchema, type GivenFile } from '#contract/desktop.ts';
import { describeIssues, type RunConfig } from '#contract/run.ts';
import { PIECE_BYTES } from '#contract/work.ts';
import { api } from '../api/client.ts';
import { fromMain, t } from '../i18n.ts';
import { useCatalogStore } from '../stores/catalog.ts';
import { useDraftStore } from '../stores/draft.ts';
import { useRunsStore } from '../stores/runs.ts';
import { useToastsStore } from '../stores/toasts.ts';
import { useWorkStore } from '../stores/work.ts';

/** Settings of a run are a page of text. */
const MAX_BYTES = 4e6;
/** How a zip begins. */
const ZIP = 'PK\x03\x04';

type Chosen = Pick<File, 'name' | 'size' | 'text' | 'slice'>;
/** A shared run whose path the browser keeps to itself, or that another machine is to have. */
interface SentRun { kind: 'sent-run'; file: Chosen }

/** What a file is, by what is in it: settings are read here, so that a browser can do it as well. @param path undefined where it must be sent */
export async function readDropped(file: Chosen, path: string | undefined): Promise<GivenFile | SentRun> {
  const problem = (message: string): GivenFile => ({ kind: 'problem', path: path ?? file.name, message });
  const noSettings = (what: string): GivenFile => problem(t('work.noSettings', { file: file.name, problem: what }));
  if (/\.(safetensors|ckpt)$/i.test(file.name)) return path ? { kind: 'model', path } : problem(t('work.pathKept', { file: file.name }));
  if ((await file.slice(0, 4).text()) === ZIP) return path ? { kind: 'run', path } : { kind: 'sent-run', file };
  if (!/\.(drtune|json)$/i.test(file.name)) return problem(t('work.notDropped', { file: file.name }));
  if (file.size > MAX_BYTES) return problem(t('work.tooLarge', { file: file.name }));
  try {
    const parsed = settingsFileSchema.safeParse(JSON.parse(await file.text()));
    return parsed.success ? { kind: 'settings', path: path ?? file.name, name: parsed.data.name, config: parsed.data.config } : noSettings(describeIssues(parsed.error));
  } catch {
    return noSettings(t('work.notJson'));
  }
}

function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

const GIVE: InjectionKey<(files: readonly File[]) => Promise<void>> = Symbol('give');
/** Takes chosen files as if they had been dropped. */
export const useGive = (): ((files: readonly File[]) => Promise<void>) => inject(GIVE, async () => undefined);

export function useGivenFiles(router: Router): { ask(): Promise<void>; over(event: DragEvent): void; drop(event: DragEvent): void } {
  const [draft, catalog, toasts, runs, works] = [useDraftStore(), useCatalogStore(), useToastsStore(), useRunsStore(), useWorkStore()];

  function takeSettings(config: RunConfig, name: string): void {
    const before = JSON.parse(JSON.stringify(draft.draft)) as typeof draft.draft;
    draft.take(config, name);
    toasts.show(name ? t('work.takenOf', { name }) : t('work.taken'), { action: { label: t('ui.undo'), run: () => (draft.draft = before) } });
    void router.push('/new');
  }
  /** Piece by piece, then imported. */
  function send(file: Chosen): Promise<{ upload: string; name: string }> {
    const upload = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    return works.watch('import', async (tell, signal) => {
      for (let at = 0; at < file.size || at === 0; at += PIECE_BYTES) {
        tell(t('work.sending'), at, file.size);
        const data = toBase64(new Uint8Array(await (file.slice(at, at + PIECE_BYTES) as Blob).arrayBuffer()));
        if (signal.aborted) {
          await api.request('files.drop', { id: upload });
          throw new DOMException('', 'AbortError');
        }
        await api.request('files.put', { id: upload, at, data });
      }
      return { upload, name: file.name };
    });
  }
  async function importRun(from: { path: string } | { upload: string; name: string }): Promise<void> {
    const run = await ('path' in from ? api.requestHere('runs.import', from) : api.request('runs.import', from));
    runs.apply(run);
    toasts.show(t('work.imported', { name: run.name }));
    await router.push(`/runs/${run.id}`);
  }
  async function take(file: GivenFile | SentRun): Promise<void> {
    switch (file.kind) {
      case 'problem': return toasts.show(fromMain(file.message), { kind: 'bad', ms: 12_000 });
      case 'settings': return takeSettings(file.config, file.name);
      case 'run': return importRun({ path: file.path });
      case 'sent-run': return importRun(await send(file.file));
      case 'model': {
        const model = await api.request('models.add', { path: file.path });
        await Promise.all([catalog.loadModels(), router.push('/models')]);
        toasts.show(t('work.modelAdded', { name: model.name }));
      }
    }
  }
  async function takeAll(files: readonly (GivenFile | SentRun)[]): Promise<void> {
    for (const file of files) await take(file).catch(toasts.fail);
  }
  /** Another machine reads no path of this one. */
  const give = async (files: readonly File[]): Promise<void> => takeAll(await Promise.all(files.map((file) => readDropped(file, api.server() === null ? api.pathOf(file) : undefined))));
  provide(GIVE, give);
  const ask = async (): Promise<void> => takeAll(await api.request('files.given', {}).catch(() => []));
  void ask();
  return {
    ask,
    over: (event) => {
      if (!event.defaultPrevented && event.dataTransfer?.types.includes('Files')) event.preventDefault();
    },
    drop: (event) => {
      // A page that takes files itself (pictures to score, models) has done so.
      if (event.defaultPrevented || !event.dataTransfer?.files.length) return;
      event.preventDefault();
      void give([...event.dataTransfer.files]);
    },
  };
}
