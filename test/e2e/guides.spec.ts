/** The guides by deep link, from where a question comes up, and by keyboard; the machine at a glance. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBrowser } from '../helpers/browser.ts';
import { axeFindings, openStudio, type Studio } from './studio.ts';

const browser = ensureBrowser();
const TITLES = { what: 'What DRTune does', rewards: 'Choosing rewards', gamed: 'Spotting a gamed reward', model: 'Using your own model', elsewhere: 'Using the LoRA elsewhere' };

describe.skipIf(!browser)('guides and machine', { timeout: 60_000 }, () => {
  let studio: Studio;
  beforeAll(async () => {
    studio = await openStudio(browser!);
  }, 120_000);
  afterAll(async () => {
    await studio?.close();
  }, 60_000);

  it.each(Object.entries(TITLES))('%s has an address of its own and nothing for axe to find', async (name, title) => {
    const { page, go } = studio;
    await go(`/guides/${name}`);
    await page.getByRole('heading', { level: 1, name: title }).waitFor();
    await page.locator('article h2, article table').first().waitFor();
    expect(await page.getByRole('navigation', { name: 'Guides' }).locator('[aria-current="page"]').innerText()).toBe(title);
    if (name === 'what' || name === 'gamed') expect(await axeFindings(page)).toEqual([]); // one with a figure, one with a table
  });

  it('draws what DRTune does, with a name that says it', async () => {
    const { page, go } = studio;
    await go('/guides/what');
    expect(await page.locator('article svg[role="img"]').getAttribute('aria-label')).toMatch(/gradient goes from the picture straight to a few steps/);
  });

  it('is one key away from where the question comes up', async () => {
    const { page, go } = studio;
    for (const [address, title] of [['/rewards', TITLES.rewards], ['/models', TITLES.model], ['/new', TITLES.what]] as const) {
      await go(address);
      const link = page.getByRole('link', { name: `Learn more: ${title}` }).first();
      await link.focus();
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { level: 1, name: title }).waitFor();
    }
  });

  it('a page that was built anew while the window was open is loaded all the same', async () => {
    const page = await studio.context.newPage();
    await page.goto(studio.app.url);
    await page.locator('main h1').first().waitFor();
    let gone = 0;
    await page.route(/assets\/RewardsPage-[^/]*\.js$/, (route) => (gone++ === 0 ? route.fulfill({ status: 404 }) : route.continue()));
    await page.getByRole('link', { name: 'Rewards' }).first().click();
    await page.getByRole('heading', { level: 1, name: 'Rewards' }).waitFor();
    expect(gone).toBeGreaterThan(1);
    expect(page.url()).toMatch(/#\/rewards$/);
    await page.close();
  });

  it('shows processor, memory and disk from the status bar, and goes away by Escape', async () => {
    const { page, go } = studio;
    await go('/models');
    const opener = page.locator('footer').getByRole('button', { name: /^Memory/ });
    await opener.focus();
    await page.keyboard.press('Enter');
    const panel = page.getByRole('dialog').filter({ has: page.locator('[data-test="hardware"]') });
    await panel.getByRole('meter', { name: 'Processor' }).waitFor();
    for (const name of ['Memory', 'Disk']) await panel.getByRole('meter', { name }).waitFor();
    await expect.poll(() => panel.getByRole('meter', { name: 'Processor' }).getAttribute('aria-valuetext')).toMatch(/\d+ %/);
    expect(await panel.getByRole('meter', { name: 'Memory' }).getAttribute('aria-valuetext')).toMatch(/MB by the app, .* GB of .* GB free/);
    expect(await axeFindings(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await panel.waitFor({ state: 'hidden' });
    expect(await opener.evaluate((button) => button === document.activeElement)).toBe(true);
    expect(studio.complaints).toEqual([]);
  });
});
