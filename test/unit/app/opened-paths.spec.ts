/** Which paths a page may name. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { OpenedPaths } from '../../../src-main/app/opened-paths.ts';
import { config, tempHome } from '../../helpers/temp-home.ts';

function place(folders?: string[]) {
  const top = tempHome();
  for (const folder of ['data/models', 'resources/starter', 'mine/.ssh', 'elsewhere']) mkdirSync(join(top, folder), { recursive: true });
  for (const file of ['data/hub-token', 'data/models/a.safetensors', 'elsewhere/secret.txt', 'mine/prompts.txt', 'mine/.ssh/id']) writeFileSync(join(top, file), 'x');
  symlinkSync(join(top, 'elsewhere/secret.txt'), join(top, 'mine/link.txt'));
  symlinkSync(join(top, 'elsewhere'), join(top, 'mine/folder'));
  const paths = new OpenedPaths({
    home: join(top, 'data'), resources: join(top, 'resources'), folders: folders?.map((folder) => join(top, folder)),
    models: () => [{ name: 'listed', path: join(top, 'elsewhere-listed/model.safetensors') }], hint: 'Open it.',
  });
  return { top, paths, allowed: (path: string): boolean => {
    try {
      return paths.check(join(top, path)) === join(top, path);
    } catch (error) {
      expect(error).toMatchObject({ code: 'denied', hint: 'Open it.' });
      return false;
    }
  } };
}

describe('a path of a page', () => {
  it.each([
    ['data/models/a.safetensors', true], ['data/hub-token', false], ['data/browser/Local State', false], ['data', false], ['data/models', true], ['data/own model', true], ['resources/starter', true], ['mine/prompts.txt', true], ['mine/new.txt', true],
    ['elsewhere/secret.txt', false], ['mine/../elsewhere/secret.txt', false], ['mine/link.txt', false], ['mine/folder/secret.txt', false], ['minefield/x', false],
    ['elsewhere-listed/model.safetensors', true], ['elsewhere-listed/other.safetensors', false],
  ])('%s: %s', (path, is) => expect(place(['mine']).allowed(path)).toBe(is));

  it('is open once the user has opened it, and no further', () => {
    const { top, paths, allowed } = place([]);
    expect(allowed('elsewhere/secret.txt')).toBe(false);
    paths.open(join(top, 'elsewhere/secret.txt'));
    expect([allowed('elsewhere/secret.txt'), allowed('elsewhere'), allowed('mine/link.txt')]).toEqual([true, false, false]);
    paths.open(join(top, 'elsewhere'));
    expect([allowed('elsewhere/other.txt'), allowed('mine/prompts.txt')]).toEqual([true, false]);
  });

  it('may be of the user\'s home where nothing is said, but nothing hidden there', () => {
    const { paths } = place();
    expect(paths.check(join(homedir(), 'models-of-mine/x.safetensors'))).toContain('models-of-mine');
    for (const path of ['.ssh/id_rsa', '.bash_history', 'a/.git/config', 'AppData/Roaming/x', 'Library/Keychains/x']) expect(() => paths.check(join(homedir(), path)), path).toThrow(/outside/);
    for (const path of ['/etc/passwd', `${join(homedir(), 'x')}\0.txt`, join(homedir(), '../../etc/passwd')]) expect(() => paths.check(path), path).toThrow(/outside/);
  });

  it('is looked for in every place of a config', () => {
    const { paths } = place([]);
    const bad = '/etc/passwd';
    const reward = { name: 'symmetry' };
    for (const change of [
      { model: bad }, { model: '../../etc' }, { prompts: bad }, { heldOutPrompts: bad }, { rewards: [{ ...reward, model: bad }] }, { rewards: [{ ...reward, head: bad }] },
      { heldOutRewards: [{ ...reward, reference: bad }] }, { lora: { initFile: bad } },
    ]) expect(() => paths.checkConfig(config(change)), JSON.stringify(change)).toThrow(/outside/);
    paths.checkConfig(config({ model: 'listed', prompts: 'set:animals' }));
    paths.checkConfig(config({ model: 'no-such-name' }));
    paths.checkConfig(config({ rewards: [{ name: 'reference', reference: 'data:image/png;base64,AAAA' }] }));
  });
});
