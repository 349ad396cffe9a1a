import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { checkFolder, makeFolder } from '../../../src-main/base/folder.ts';

const root = mkdtempSync(join(tmpdir(), 'drtune-folder-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
writeFileSync(join(root, 'file'), '');

it('makes a folder and those above it, and is content with one that is there', () => {
  makeFolder(join(root, 'a b/ü/c'));
  makeFolder(join(root, 'a b/ü/c'));
  expect(existsSync(join(root, 'a b/ü/c'))).toBe(true);
});

it.each([['file'], ['file/below'], ['file/far/below']])('says in one line that %s cannot be: a file is in the way', (place) => {
  expect(() => checkFolder(join(root, place))).toThrow(/file is a file, expected a folder\.$/);
  expect(() => makeFolder(join(root, place))).toThrow(/file could not be made: a file of that name is there\.$/);
});

it('asks without making anything', () => {
  checkFolder(join(root, 'later/on'));
  expect(existsSync(join(root, 'later'))).toBe(false);
});

it.runIf(process.platform === 'linux')('comes back where the system knows no such name (mkdir recursive does not)', () => {
  expect(() => makeFolder('/proc/drtune/x')).toThrow('/proc/drtune could not be made: ENOENT');
});

it.runIf(process.getuid?.() !== 0)('names the folder in which this user may not write', () => {
  mkdirSync(join(root, 'shut'), { mode: 0o500 });
  expect(() => checkFolder(join(root, 'shut/x'))).toThrow(/you may not write in .*shut/);
});
