/** 10,000 random requests to the real handlers: nothing but typed errors, and nothing outside of the data folder is touched. */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { addModel } from '../../../src-main/models/known.ts';
import { makeFakeModel } from '../../helpers/fake-model.ts';
import { tempHome } from '../../helpers/temp-home.ts';

const root = join(import.meta.dirname, '../../..');
const CASES = 10_000;
const SEED = 8;

interface Answer { dispatched: number; relayed: number; requests: number; counts: Record<string, number>; answered: Record<string, number>; defects: string[]; unsent: string[] }

it('the request surface under random JSON', { timeout: 120_000 }, async () => {
  const top = tempHome();
  const home = join(top, 'home');
  mkdirSync(home);
  writeFileSync(join(top, 'secret.txt'), 'secret of the neighbour');
  writeFileSync(join(home, 'hub-token'), 'hf_sealed');
  symlinkSync(top, join(home, 'link'));
  addModel(home, makeFakeModel(join(home, 'fake')));
  const around = (): string[] => readdirSync(top).map((name) => `${name} ${name === 'home' ? '' : `${statSync(join(top, name)).mtimeMs} ${readFileSync(join(top, name), 'utf8')}`}`);
  const before = around();
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--disable-warning=ExperimentalWarning', '--disable-warning=SecurityWarning', '--permission', '--allow-addons', `--allow-fs-read=${root}`, `--allow-fs-read=${home}`, `--allow-fs-write=${home}`,
    join(root, 'test/helpers/fuzz-requests.ts'), home, String(CASES), String(SEED),
  ], { maxBuffer: 1e8, env: { PATH: process.env['PATH'], HOME: process.env['HOME'] } });
  const { dispatched, relayed, counts, answered, requests, defects, unsent } = JSON.parse(stdout.trim().split('\n').at(-1)!) as Answer;
  expect(defects).toEqual([]);
  expect(unsent).toEqual([]);
  expect(dispatched).toBe(CASES);
  // It must not be the schemas alone that answer.
  expect(Object.keys(answered).length).toBeGreaterThan(requests / 2);
  // A quarter goes to machines that answer anything: what they say is an answer of the contract's or an error.
  expect(relayed).toBeGreaterThan(2000);
  expect(counts['network']).toBeGreaterThan(100);
  expect(counts['config']).toBeGreaterThan(500);
  expect(counts['denied']).toBeGreaterThan(20);
  expect(counts['not-found']).toBeGreaterThan(100);
  expect(around()).toEqual(before);
});
