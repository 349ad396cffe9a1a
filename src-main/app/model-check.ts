/** Whether a model can be used and its files are whole: configs, headers, the checksums of a download. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { unwatched, type Work } from '../base/work.ts';
import { fits } from '../hub/digest.ts';
import { readRecord } from '../hub/model-store.ts';
import { clipTextConfig } from '../models/clip-text-config.ts';
import { openModelFiles, type TextEncoderName } from '../models/files.ts';
import { unetConfig } from '../models/unet-config.ts';
import { vaeConfig } from '../models/vae-config.ts';
import { modelFacts } from './model-facts.ts';
import { folderOf } from './model-library.ts';

/**
 * Reads every header, and of a download every byte.
 * @returns what is wrong, one line each, and how many files were compared with their checksums
 */
export async function verifyModel(path: string, work: Work = unwatched): Promise<{ problems: string[]; checked: number }> {
  const { problems } = modelFacts(path);
  const folder = folderOf(path);
  const record = await readRecord(folder);
  const total = (record?.files ?? []).reduce((bytes, { size }) => bytes + size, 0);
  let [checked, before] = [0, 0];
  for (const { path: file, size, digest } of record?.files ?? []) {
    checked++;
    const whole = await fits(join(folder, file), size, digest, (bytes) => work.at('comparing with the checksums', before + bytes, total));
    before += size;
    if (!whole) {
      const found = statSync(join(folder, file), { throwIfNoEntry: false });
      const what = !found ? 'is missing' : found.size !== size ? `has ${found.size} bytes, expected ${size}` : `is not what was downloaded (${digest.kind === 'sha256' ? 'sha256' : 'git blob'} differs)`;
      problems.push(`${file} ${what}: download ${record!.repo} again`);
    }
  }
  return { problems, checked };
}

/** Reads a folder's configs and tokenizers as a run would; no weights need be there. @throws AppError('weights') for a model this version does not use */
export function checkConfigs(folder: string): void {
  const files = openModelFiles(folder);
  unetConfig(files.config('unet'));
  vaeConfig(files.config('vae'));
  const encoders: readonly TextEncoderName[] = files.architecture === 'sdxl' ? ['text_encoder', 'text_encoder_2'] : ['text_encoder'];
  for (const encoder of encoders) {
    const config = clipTextConfig(files.config(encoder), encoder === 'text_encoder_2');
    files.tokenizer(encoder, config.positions);
  }
}
