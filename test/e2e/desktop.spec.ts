/** Logs, dropped files and the setting for later versions, in a browser. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBrowser } from '../helpers/browser.ts';
import { config } from '../helpers/temp-home.ts';
import { axeFindings, openStudio, type Studio } from './studio.ts';

const browser = ensureBrowser();

describe.skipIf(!browser)('the app as a desktop app', { timeout: 60_000 }, () => {
  let studio: Studio;
  let releases: Server;
  let asked = 0;
  beforeAll(async () => {
    releases = createServer((_, response) => {
      asked++;
      response.end(JSON.stringify({ version: '99.0.0', page: 'https://example.org/drtune/99' }));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => releases.once('listening', resolve));
    studio = await openStudio(browser!, { env: { DRTUNE_RELEASES: `http://127.0.0.1:${(releases.address() as { port: number }).port}/` } });
  }, 120_000);
  afterAll(async () => {
    await studio?.close();
    releases.close();
  }, 60_000);

  /** Drops a file made in the page. */
  async function drop(name: string, text: string): Promise<void> {
    const data = await studio.page.evaluateHandle(([file, content]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([content!], file!));
      return transfer;
    }, [name, text]);
    await studio.page.locator('main').dispatchEvent('drop', { dataTransfer: data });
  }

  it('shows its log, filters it and copies what is shown; both themes are readable', async () => {
    const { page, go, context } = studio;
    mkdirSync(join(studio.home, 'logs/crashes'), { recursive: true });
    writeFileSync(join(studio.home, 'logs/crashes/x.dmp'), 'MDMP');
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await go('/settings');
    await page.getByRole('link', { name: 'Open the logs' }).click({ timeout: 45_000 }); // engines are tried first
    const lines = page.getByRole('list', { name: 'Lines, newest first' });
    await lines.getByText(/^served on 127\.0\.0\.1, port \d+/).waitFor();
    await page.getByText('logs/crashes/x.dmp').waitFor();
    for (const theme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: theme });
      expect(await axeFindings(page), theme).toEqual([]);
    }
    await page.getByRole('button', { name: 'Copy what is shown' }).click();
    await page.getByText('What is shown is on the clipboard.').waitFor();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(/Z info main: served on 127\.0\.0\.1/);
    await page.getByRole('button', { name: 'Errors', exact: true }).click();
    await page.getByText('No line fits').waitFor();
    expect(await page.getByRole('button', { name: 'Copy what is shown' }).isDisabled()).toBe(true);
    expect(readFileSync(join(studio.home, 'logs/app.log'), 'utf8')).not.toContain(studio.app.token);
  });

  it('takes dropped settings over, with a way back, and says what it cannot take', async () => {
    const { page, go } = studio;
    await go('/models');
    await go('/');
    await drop('mine.drtune', JSON.stringify({ drtune: 1, name: 'From a file', config: config({ prompts: ['a purple fish'] }) }));
    await page.getByText('The settings of “From a file” are filled in.').waitFor();
    await expect.poll(() => page.getByLabel('Trained, one a line').inputValue()).toBe('a purple fish');
    const saving = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    const saved = await saving;
    expect(saved.suggestedFilename()).toBe('From a file.json');
    expect(JSON.parse(readFileSync((await saved.path()), 'utf8'))).toMatchObject({ drtune: 1, name: 'From a file', config: { prompts: ['a purple fish'] } });
    await page.getByRole('button', { name: 'Undo' }).click();
    await expect.poll(() => page.getByLabel('Trained, one a line').inputValue()).not.toBe('a purple fish');
    await go('/');
    for (const [name, text, words] of [['bad.drtune', 'x', /bad\.drtune holds no settings of a run/], ['a.safetensors', 'x', /type it on the Models page/], ['a.exe', 'x', /a\.exe is nothing that can be opened here/]] as const) {
      await drop(name, text);
      await page.getByText(words).waitFor();
    }
  });

  it('looks for a later version only when that is turned on', async () => {
    const { page, go } = studio;
    await go('/settings');
    const box = page.getByRole('checkbox', { name: 'Look for later versions' });
    expect([await box.isChecked(), asked]).toEqual([false, 0]);
    await box.check();
    await page.getByRole('link', { name: 'Version 99.0.0 is there.' }).waitFor();
    expect(asked).toBeGreaterThan(0);
    await box.uncheck();
    const before = asked;
    await go('/');
    await go('/settings');
    await page.waitForTimeout(300);
    expect(asked).toBe(before);
    expect(studio.complaints).toEqual([]);
  });
});
