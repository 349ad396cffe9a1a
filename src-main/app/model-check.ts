/** Whether a model can be used and its files are whole: configs, headers, the checksums of a download. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { unwatched, type Work } from '../base/work.ts';
import { fits } from '../hub/digest.ts';
import { readRecord } from '../hub/model-store.ts';
import { clipTextConfig } from '../models/clip-text-config.ts';
import { openModelFiles, type PartName, type TextEncoderName } from '../models/files.ts';
import { unetConfig } from '../models/unet-config.ts';
import { vaeConfig } from '../models/vae-config.ts';
import { modelFacts } from './model-facts.ts';
import { folderOf } from './model-library.ts';

/**
 * Reads every header; of a download every byte, which has checksums, and of any other model every weight, which must be a number.
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
  if (!record && problems.length === 0) problems.push(...(await noNumbers(path, work)));
  return { problems, checked };
}

/** Reads every weight; one line for each part that holds NaN or infinity. */
async function noNumbers(path: string, work: Work): Promise<string[]> {
  const files = openModelFiles(path);
  const parts: readonly PartName[] = ['unet', 'vae', 'text_encoder', ...(files.architecture === 'sdxl' ? ['text_encoder_2' as const] : [])];
  const problems: string[] = [];
  for (const [i, part] of parts.entries()) {
    using source = files.open(part);
    let [done, wrong] = [0, ''];
    for (const name of source.entries.keys()) {
      await work.at(`reading the weights of ${part}`, i + done++ / source.entries.size, parts.length);
      if (wrong === '' && !source.readFloats(name).every(Number.isFinite)) wrong = name;
    }
    if (wrong !== '') problems.push(`${part} has values that are no numbers (NaN or infinity), first in ${wrong}: download or copy it again`);
  }
  return problems;
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
