import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { hashFiles } from '../../../src-main/train/manifest.ts';

it('what a run is made from is noted by its sum; a file that is gone is named', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'drtune-manifest-'));
  const [file, gone] = [join(folder, 'a.txt'), join(folder, 'gone.safetensors')];
  writeFileSync(file, 'abc');
  expect(await hashFiles({ a: file }, { at: () => Promise.resolve() })).toEqual({ a: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad' });
  await expect(hashFiles({ a: file, gone }, { at: () => Promise.resolve() })).rejects.toThrow(`There is no file ${gone}.`);
  rmSync(folder, { recursive: true });
});
