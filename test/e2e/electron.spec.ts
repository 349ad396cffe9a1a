/** The real app in a real Electron, where its binary is on the machine; otherwise reported as skipped. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { _electron, type ElectronApplication } from 'playwright-core';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeFakeModel } from '../helpers/fake-model.ts';
import { tempHome } from '../helpers/temp-home.ts';
import { addModel } from '../../src-main/models/known.ts';

const root = join(import.meta.dirname, '../..');

/** Path of Electron's binary; undefined where it was not fetched or there is no display for it. */
function electronBinary(): string | undefined {
  const folder = join(root, 'node_modules/electron');
  const pathFile = join(folder, 'path.txt');
  const binary = join(folder, 'dist', existsSync(pathFile) ? readFileSync(pathFile, 'utf8').trim() : 'electron');
  const display = process.platform !== 'linux' || process.env['DISPLAY'] || process.env['WAYLAND_DISPLAY'];
  return existsSync(binary) && display ? binary : undefined;
}

const binary = electronBinary();
let app: ElectronApplication | undefined;

/** The fake trainer without its types: Electron's Node need not strip them. */
function fakeTrainer(home: string): string {
  const file = join(home, 'fake-trainer.mjs');
  writeFileSync(file, stripTypeScriptTypes(readFileSync(join(root, 'test/helpers/fake-trainer.ts'), 'utf8')));
  return file;
}

async function launch(home: string): Promise<ElectronApplication> {
  app = await _electron.launch({
    executablePath: binary!, args: [...(process.getuid?.() === 0 ? ['--no-sandbox'] : []), root],
    env: { ...(process.env as Record<string, string>), DRTUNE_HOME: home, DRTUNE_TRAINER: fakeTrainer(home) },
  });
  return app;
}

afterEach(async () => {
  await app?.close();
  app = undefined;
});

describe.skipIf(!binary)('the app in Electron (needs its binary and a display)', () => {
  beforeAll(() => {
    execFileSync(process.execPath, [join(root, 'node_modules/electron-vite/bin/electron-vite.js'), 'build', '--logLevel', 'warn'], { cwd: root, stdio: 'inherit' });
  }, 300_000);

  it('opens one sandboxed window on its own origin, with nothing of Node in the page', async () => {
    const electron = await launch(tempHome());
    const page = await electron.firstWindow();
    await page.waitForLoadState('domcontentloaded');
    expect(page.url()).toMatch(/^app:\/\/studio\//);
    expect(await page.evaluate(() => [typeof (globalThis as Record<string, unknown>)['require'], typeof (globalThis as Record<string, unknown>)['process'], typeof (globalThis as Record<string, unknown>)['drtune']])).toEqual(['undefined', 'undefined', 'object']);
    const reply = await page.evaluate(() => (globalThis as unknown as { drtune: { request(name: string, input: unknown): Promise<unknown> } }).drtune.request('runs.list', {}));
    expect(reply).toEqual({ ok: true, value: [] });
    expect(await page.evaluate(async () => (await fetch('app://studio/..%2fpackage.json')).status)).toBeGreaterThanOrEqual(400);
    expect(await page.evaluate(() => {
      try {
        return String(new Function('return 1')());
      } catch {
        return 'refused';
      }
    })).toBe('refused');
  });

  it('a second instance ends and leaves the first one open', async () => {
    const home = tempHome();
    const electron = await launch(home);
    await electron.firstWindow();
    const second = await _electron.launch({ executablePath: binary!, args: [root], env: { ...(process.env as Record<string, string>), DRTUNE_HOME: home } }).catch(() => null);
    await second?.waitForEvent('close').catch(() => {});
    expect(electron.windows()).toHaveLength(1);
  });

  it('trains in a utility process and shows the pictures', async () => {
    const home = tempHome();
    addModel(home, makeFakeModel(join(home, 'fake')));
    const page = await (await launch(home)).firstWindow();
    const state = await page.evaluate(async () => {
      const { drtune } = globalThis as unknown as { drtune: { request(name: string, input: unknown): Promise<{ ok: boolean; value: { id: string; summary: { state: string } } }> } };
      const run = await drtune.request('runs.start', { config: { model: 'fake', prompts: ['a'], rewards: [{ name: 'symmetry' }], iterations: 2 } });
      for (let i = 0; i < 100; i++) {
        await new Promise((done) => setTimeout(done, 200));
        const detail = await drtune.request('runs.get', { id: run.value.id });
        if (!['queued', 'running'].includes(detail.value.summary.state)) return detail.value.summary.state;
      }
      return 'late';
    });
    expect(state).toBe('finished');
  });
});
