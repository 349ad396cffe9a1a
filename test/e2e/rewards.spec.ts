/** "Score my pictures" and the prompt lists of "New run", in a real browser against the served app with a trainer that only pretends. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findBrowser } from '../helpers/browser.ts';
import { axeFindings, fillTinyRun, openStudio, type Studio } from './studio.ts';

const browser = findBrowser();
const picture = (name: string) => ({ name, mimeType: 'image/webp', buffer: readFileSync(join(import.meta.dirname, '../../resources/rewards', name)) });

describe.skipIf(!browser)('rewards and prompts on the pages', () => {
  let studio: Studio;
  beforeAll(async () => {
    studio = await openStudio(browser!, { env: { DRTUNE_FAKE_STEP_MS: '20' } });
  }, 60_000);
  afterAll(async () => {
    await studio?.close();
  }, 60_000);

  it('scores dropped pictures as a table that sorts, by keyboard too, in both themes', async () => {
    const { page, go } = studio;
    await go('#/rewards');
    await page.getByRole('link', { name: 'Score my pictures' }).click();
    await page.getByRole('button', { name: 'CLIPScore' }).waitFor();
    await page.getByLabel('Pictures to score').setInputFiles([picture('brightness-low.webp'), picture('brightness-high.webp'), { name: 'broken.png', mimeType: 'image/png', buffer: Buffer.from('none') }, { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('no') }]);
    await page.getByText('1 file left out').waitFor();
    const score = page.locator('[data-test=score]');
    expect(await score.isDisabled()).toBe(true); // CLIPScore needs a prompt
    await page.getByLabel('Prompt').fill('a red apple');
    await score.click();
    await page.getByText('The picture broken.png cannot be read.').waitFor();
    await page.getByRole('button', { name: 'Reference picture', exact: true }).click();
    expect(await score.isDisabled()).toBe(true); // it needs one
    await page.locator('[data-test=picture-field] input').setInputFiles(picture('reference.webp'));
    await page.locator('[data-test=picture-field] img').waitFor();
    await score.click();
    await page.locator('thead').getByRole('button', { name: 'Reference picture' }).waitFor();
    const names = () => page.locator('tbody th .font-medium').allTextContents();
    expect(await names()).toEqual(['brightness-high.webp', 'brightness-low.webp', 'broken.png']);
    const symmetry = page.locator('thead').getByRole('button', { name: 'Symmetry' });
    await symmetry.focus();
    await page.keyboard.press('Enter');
    const cells = () => page.locator('tbody tr td:nth-of-type(1).text-right').allTextContents();
    const numbers = (await cells()).map((each) => Number(each.replace('−', '-').trim()));
    expect(numbers).toEqual([...numbers].sort((a, b) => b - a));
    expect((await names()).at(-1)).toBe('broken.png');
    const chip = page.locator('button.chip[aria-pressed=true]').first();
    await chip.hover();
    expect(await chip.evaluate((button) => getComputedStyle(button).color === getComputedStyle(button).backgroundColor)).toBe(false); // axe says nothing of 1:1
    for (const theme of ['light', 'dark']) {
      await page.evaluate((name) => (document.documentElement.dataset['theme'] = name), theme);
      expect(await axeFindings(page)).toEqual([]);
    }
    expect(studio.complaints).toEqual([]);
  });

  it('takes prompts from a set, CSV with seeds and templates, and says where a brace has no partner', async () => {
    const { page, go } = studio;
    await go('#/new');
    const field = page.getByLabel('Trained, one a line');
    await field.fill('a {red|blue} cat');
    await page.getByText('1 line, 2 prompts').waitFor();
    await page.getByLabel('A file of prompts').setInputFiles({ name: 'list.csv', mimeType: 'text/csv', buffer: Buffer.from('prompt,seed\n"a dog, asleep",7\n') });
    await page.getByText('1 sample picture has a seed of its list').waitFor();
    expect(await field.inputValue()).toBe('a {red|blue} cat\na dog, asleep');
    await page.getByLabel('Insert prompts of a set or preset').selectOption('set:animals');
    expect((await field.inputValue()).split('\n')).toHaveLength(47);
    await field.fill('a {red|blue cat');
    await page.getByText('has no partner').first().waitFor();
    expect(await page.locator('[data-test=start]').isDisabled()).toBe(true);
    expect(await axeFindings(page)).toEqual([]);
    expect(studio.complaints).toEqual([]);
  });

  it('takes a reference and a palette from pictures into the settings, and leads a reward without gradient to DiffusionNFT', async () => {
    const { page, go } = studio;
    await go('#/new');
    const card = (name: string) => page.locator(`[data-reward="${name}"]`);
    await card('reference').getByRole('button', { name: 'Use Reference picture' }).click();
    const field = card('reference').locator('[data-test=picture-field]');
    await field.locator('input').setInputFiles({ name: 'notes.png', mimeType: 'image/png', buffer: Buffer.from('none') });
    await card('reference').getByText('notes.png cannot be read as a picture.').waitFor();
    await field.locator('input').setInputFiles(picture('reference.webp'));
    await field.locator('img').waitFor();
    expect(await field.locator('img').getAttribute('src')).toMatch(/^data:image\/webp;base64,/);
    await card('palette').getByRole('button', { name: 'Use' }).first().click();
    await card('palette').locator('input[type=file]').setInputFiles(picture('palette-high.webp'));
    await expect.poll(() => card('palette').locator('input[type=color]').count()).toBeGreaterThan(1);
    await card('command').getByRole('button', { name: 'Use Own program' }).click();
    const program = card('command').getByPlaceholder('python3 score.py');
    await program.fill('python3 "my score.py"');
    await program.blur();
    await page.getByText('has no gradient, and the chosen algorithm needs one').waitFor();
    expect(await axeFindings(page)).toEqual([]);
    if (process.env['SHOTS']) for (const [theme, width] of [['light', 1440], ['dark', 900]] as const) {
      await page.evaluate((name) => (document.documentElement.dataset['theme'] = name), theme);
      await page.setViewportSize({ width, height: 1200 });
      await card('reference').scrollIntoViewIfNeeded();
      await page.screenshot({ path: `${process.env['SHOTS']}/rewards-${theme}.png`, fullPage: true });
    }
    await page.getByRole('button', { name: 'Use DiffusionNFT' }).click();
    await expect.poll(() => page.getByText('has no gradient, and the chosen algorithm needs one').count()).toBe(0);
    const draft = await page.evaluate(() => JSON.parse(localStorage.getItem('drtune.draft.1')!) as { config: { algorithm: string; rewards: { name: string; command?: string[]; reference?: string; palette?: string[] }[] } });
    const term = (name: string) => draft.config.rewards.find((each) => each.name === name)!;
    expect([draft.config.algorithm, term('command').command, term('reference').reference?.slice(0, 16)]).toEqual(['nft', ['python3', 'my score.py'], 'data:image/webp;']);
    expect(term('palette').palette!.every((color) => /^#[0-9a-f]{6}$/.test(color))).toBe(true);
    expect(studio.complaints).toEqual([]);
  });

  it('an alarm\'s remedies are buttons: back to the best checkpoint, and gentler settings', async () => {
    const { page, go } = studio;
    await go('#/new');
    await page.evaluate(() => localStorage.removeItem('drtune.draft.1'));
    await page.reload();
    await fillTinyRun(page, { name: 'Gamed', model: 'fake', iterations: 8 });
    const draft = async () => (await page.evaluate(() => JSON.parse(localStorage.getItem('drtune.draft.1')!) as { config: { kl: number; optimizer: { lr: number }; lora: { initFile?: string } } })).config;
    const { optimizer, kl } = await draft();
    await page.getByRole('button', { name: 'Start tuning' }).click();
    await page.getByText('Edges vanish: the pictures go blank.').waitFor({ timeout: 30_000 });
    await page.getByRole('button', { name: /^(Go back to step \d+|Start again, gentler)$/ }).click({ timeout: 30_000 });
    await page.waitForURL(/#\/new$/);
    await expect.poll(async () => (await draft()).optimizer.lr).toBeCloseTo(optimizer.lr / 2, 12);
    expect((await draft()).kl).toBe(kl > 0 ? kl : 0.1);
    expect(studio.complaints).toEqual([]);
  });
});
