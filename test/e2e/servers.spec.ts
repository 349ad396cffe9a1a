/** Two apps on two ports with two data folders: one shows the other's pages, starts a run there, loses it, finds it again, and brings an export home. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBrowser } from '../helpers/browser.ts';
import { startServed, type ServedApp } from '../helpers/served-app.ts';
import { axeFindings, fillTinyRun, openStudio, type Studio } from './studio.ts';

const browser = ensureBrowser();

describe.skipIf(!browser)('another machine', { timeout: 60_000 }, () => {
  let studio: Studio;
  let boxHome: string;
  let box: ServedApp;
  const asked: string[] = [];

  beforeAll(async () => {
    boxHome = mkdtempSync(join(tmpdir(), 'drtune-box-'));
    const env = { DRTUNE_FAKE_STEP_MS: '150' };
    [box, studio] = await Promise.all([startServed(boxHome, ['--port', '0'], env), openStudio(browser!, { env: { DRTUNE_FAKE_STEP_MS: '150' } })]);
    studio.page.on('request', (request) => asked.push(request.url()));
  }, 120_000);
  afterAll(async () => {
    await studio?.close();
    box?.process.kill('SIGKILL');
    await box?.exit;
    if (boxHome) rmSync(boxHome, { recursive: true, force: true });
  }, 60_000);

  const status = (text: RegExp) => studio.page.getByRole('status').filter({ hasText: text });
  const machine = (name: RegExp | string) => studio.page.getByRole('group', { name: 'Machines' }).getByRole('button', { name });

  it('a machine that is not there is said to be, with the next attempt; a wrong token is refused with the reason', async () => {
    const { page, go } = studio;
    await go('/models');
    await machine(/^Machines/).click();
    const dialog = page.getByRole('dialog', { name: 'Machines' });
    await dialog.getByText(/No other machine is on the list yet/).waitFor();
    expect(await axeFindings(page)).toEqual([]);
    await dialog.getByLabel('Name').fill('Nowhere');
    await dialog.getByLabel('Address').fill('http://203.0.113.7:5180');
    await dialog.getByText(/Without encryption/).waitFor();
    await dialog.getByLabel('Address').fill('javascript:alert(1)');
    await dialog.getByRole('button', { name: 'Add and show' }).click();
    await dialog.getByRole('alert').getByText(/not the address of a DRTune Studio/).waitFor();
    await dialog.getByLabel('Address').fill(`http://127.0.0.1:${box.port}`);
    await dialog.getByLabel('Token').fill('not-the-token');
    await dialog.getByRole('button', { name: 'Add and show' }).click();
    await status(/^Nowhere refuses: the token is wrong/).waitFor();
    expect(await axeFindings(page)).toEqual([]);
    await page.getByRole('button', { name: 'Change address or token' }).click();
    await dialog.getByLabel('Name').fill('Box');
    await dialog.getByLabel('Address').fill(`DRTune Studio: ${box.url}`);
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.getByText('connected', { exact: true }).waitFor();
    await page.keyboard.press('Escape');
    await machine('Box, connected').waitFor();
    expect(page.url()).toMatch(/#\/models$/);
  });

  it('its runs live there: a tiny run is started, watched and kept on that machine only', async () => {
    const { page, go } = studio;
    await go('/new');
    await fillTinyRun(page, { name: 'On the box', model: 'fake', iterations: 4 });
    await page.locator('[data-test="start"]').click();
    await page.waitForURL(/#\/runs\//);
    await page.getByText('Done', { exact: true }).waitFor({ timeout: 40_000 });
    await expect.poll(() => page.locator('[data-test="run-slider"] img').first().evaluate((image) => (image as HTMLImageElement).naturalWidth)).toBeGreaterThan(0);
    expect(readdirSync(join(boxHome, 'runs')).length).toBe(1);
    expect(readdirSync(studio.home)).not.toContain('runs');
  });

  it('the page asks nobody but its own app, and holds no token of the other', async () => {
    const { page, app } = studio;
    expect(asked.length).toBeGreaterThan(5);
    expect(asked.filter((url) => !url.startsWith(`http://127.0.0.1:${app.port}/`) && !url.startsWith('data:') && !url.startsWith('blob:'))).toEqual([]);
    expect(asked.some((url) => url.includes('/server/'))).toBe(true);
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.documentElement.outerHTML]));
    expect(kept).not.toContain(box.token);
    expect(asked.join(' ')).not.toContain(box.token);
    for (const name of readdirSync(studio.home).filter((file) => file.endsWith('.json'))) expect(readFileSync(join(studio.home, name), 'utf8')).not.toContain(box.token);
  });

  it('an export comes back as a download', async () => {
    const { page } = studio;
    await page.getByRole('button', { name: 'Export', exact: true }).first().click();
    const dialog = page.getByRole('dialog', { name: 'Export the LoRA' });
    const coming = page.waitForEvent('download');
    await dialog.getByRole('button', { name: 'Export', exact: true }).click();
    const download = await coming;
    expect(download.suggestedFilename()).toMatch(/-step-4\.safetensors$/);
    const [there] = readdirSync(join(boxHome, 'exports')).filter((name) => name.endsWith('.safetensors'));
    expect(readFileSync(await download.path()).equals(readFileSync(join(boxHome, 'exports', there!)))).toBe(true);
    await dialog.getByRole('link', { name: 'Download' }).waitFor();
    await page.keyboard.press('Escape');
  });

  it('this computer has none of it, and its draft is its own', async () => {
    const { page, go } = studio;
    await machine('This computer').click();
    await page.waitForURL(/#\/(setup)?$/);
    await go('/new');
    await go('/');
    expect(await page.locator('[data-run]').count()).toBe(0);
    await go('/new');
    expect(await page.getByLabel('Name').inputValue()).not.toBe('On the box');
    await go('/settings');
    await machine('Box, connected').click();
    await go('/');
    await page.locator('[data-run]').getByText('On the box').waitFor();
  });

  it('lost: says so and when it tries again, comes back by itself, also after this page is loaded again', async () => {
    const { page } = studio;
    const { port } = box;
    box.process.kill('SIGKILL');
    await box.exit;
    await status(/^Box cannot be reached: (nothing answers at|the connection ended)/).waitFor();
    await machine('Box, not reachable').waitFor();
    expect(await axeFindings(page)).toEqual([]);
    box = await startServed(boxHome, ['--port', String(port)], { DRTUNE_FAKE_STEP_MS: '150' });
    // Started anew it has another token: said, and mended by pasting what it printed.
    await status(/^Box refuses: the token is wrong\. It changes whenever that app is started/).waitFor({ timeout: 30_000 });
    await page.getByRole('button', { name: 'Change address or token' }).click();
    await page.getByRole('textbox', { name: 'Address' }).fill(box.url);
    await page.getByRole('button', { name: 'Save' }).click();
    await page.keyboard.press('Escape');
    await page.locator('[data-run]').getByText('On the box').waitFor();
    await page.reload();
    await machine('Box, connected').waitFor();
    await page.locator('[data-run]').getByText('On the box').waitFor();
  });

  it('is removed with its token', async () => {
    const { page } = studio;
    await machine(/^Machines/).click();
    await page.getByRole('button', { name: 'Remove Box' }).click();
    await page.getByRole('button', { name: 'Remove', exact: true }).click();
    await page.keyboard.press('Escape');
    await expect.poll(() => machine(/^Box/).count()).toBe(0);
    expect(JSON.parse(readFileSync(join(studio.home, 'servers.json'), 'utf8'))).toEqual([]);
  });

  it('left nothing in the console', () => {
    // While it refuses or is lost its pictures cannot be had.
    expect(studio.complaints.filter((line) => !/status of (400|502) .*\/server\//.test(line))).toEqual([]);
  });
});
