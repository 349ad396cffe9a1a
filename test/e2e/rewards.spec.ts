/** "Score my pictures", the prompt lists of "New run" and the rewards' example pictures, in a real browser against the served app, with a trainer that only pretends but for the last. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findBrowser } from '../helpers/browser.ts';
import { startServed } from '../helpers/served-app.ts';
import { axeFindings, fillTinyRun, openStudio, type Studio } from './studio.ts';

const browser = findBrowser();
const picture = (name: string) => ({ name, mimeType: 'image/webp', buffer: readFileSync(join(import.meta.dirname, '../../resources/rewards', name)) });

describe.skipIf(!browser)('rewards and prompts on the pages', () => {
  let studio: Studio;
  beforeAll(async () => {
    studio = await openStudio(browser!, { env: { DRTUNE_FAKE_STEP_MS: '150' } });
  }, 60_000);
  afterAll(async () => {
    await studio?.close();
  }, 60_000);

  it('scores dropped pictures as a table that sorts, by keyboard too, in both themes', async () => {
    const { page, go } = studio;
    await go('#/rewards');
    await page.getByRole('link', { name: 'Score my pictures' }).click();
    await page.getByRole('button', { name: 'CLIPScore' }).waitFor();
    const dropped = await page.evaluateHandle((files) => {
      const transfer = new DataTransfer();
      for (const { name, type, bytes } of files) transfer.items.add(new File([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))], name, { type }));
      return transfer;
    }, [picture('brightness-low.webp'), picture('brightness-high.webp'), { name: 'broken.png', mimeType: 'image/png', buffer: Buffer.from('none') }, { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('no') }].map((each) => ({ name: each.name, type: each.mimeType, bytes: each.buffer.toString('base64') })));
    await page.locator('[data-test=drop]').dispatchEvent('drop', { dataTransfer: dropped });
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
    await field.evaluate((area) => {
      const clipboardData = new DataTransfer();
      clipboardData.setData('text', 'prompt\tseed\na bird\t11\n');
      area.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
    });
    await page.getByText('2 sample pictures have seeds of their list').waitFor();
    expect(await field.inputValue()).toBe('a {red|blue} cat\na dog, asleep\na bird');
    await page.getByLabel('Insert prompts of a set or preset').selectOption('set:animals');
    expect((await field.inputValue()).split('\n')).toHaveLength(48);
    await field.fill('a {red|blue cat');
    await page.getByText('has no partner').first().waitFor();
    expect(await page.locator('[data-test=start]').isDisabled()).toBe(true);
    expect(await axeFindings(page)).toEqual([]);
    expect(studio.complaints).toEqual([]);
  });

  it('mixes rewards: a limit, prompts it counts for, division by the spread, and one that is only scored', async () => {
    const { page, go } = studio;
    await go('#/new');
    await page.evaluate(() => localStorage.removeItem('drtune.draft.1'));
    await page.reload();
    const card = (name: string) => page.locator(`[data-reward="${name}"]`);
    await card('brightness').getByRole('button', { name: 'Use Brightness' }).click();
    await card('brightness').getByText('More', { exact: true }).click();
    const fill = async (name: RegExp, value: string) => {
      const field = card('brightness').getByLabel(name).and(page.locator('input'));
      await field.fill(value);
      await field.press('Tab');
    };
    await fill(/^Weight of Brightness, as a number/, '0.4');
    await fill(/^Enough at/, '0.7');
    await fill(/^Only prompts with/, 'apple');
    await page.getByLabel('Divide every reward by its spread on the base model').check();
    const watched = page.locator('button.chip', { hasText: 'Contrast' });
    await watched.click();
    const { config } = await page.evaluate(() => JSON.parse(localStorage.getItem('drtune.draft.1')!) as { config: { normalize: boolean; rewards: { name: string }[]; heldOutRewards: { name: string }[] } });
    expect([config.rewards.at(-1), config.normalize, config.heldOutRewards.at(-1)]).toEqual([{ name: 'brightness', weight: 0.4, target: 0.7, prompts: 'apple' }, true, { name: 'contrast', weight: 1 }]);
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
    await page.getByRole('button', { name: 'Start again, gentler', exact: true }).click({ timeout: 30_000 });
    await page.waitForURL(/#\/new$/);
    await expect.poll(async () => (await draft()).optimizer.lr).toBeCloseTo(optimizer.lr / 2, 12);
    expect((await draft()).kl).toBe(kl > 0 ? 2 * kl : 0.1);
    await page.evaluate(() => localStorage.removeItem('drtune.draft.1'));
    await page.reload();
    await fillTinyRun(page, { name: 'Fallen', model: 'fake', iterations: 500, prompts: ['a red apple [falls]', 'a blue boat'] });
    for (const id of ['checkpointEvery', 'sampleEvery']) {
      await page.locator(`#set-${id}`).fill('4');
      await page.locator(`#set-${id}`).press('Tab');
    }
    await page.getByRole('button', { name: 'Start tuning' }).click();
    await page.getByRole('button', { name: 'Stop, go back to step 4' }).click({ timeout: 30_000 });
    await page.waitForURL(/#\/new$/);
    await expect.poll(async () => (await draft()).lora.initFile).toMatch(/checkpoints.step-4/);
    await go('#/');
    await page.locator('main').getByText('Stopped').first().waitFor({ timeout: 30_000 }); // the run at work was ended, and kept
    expect(studio.complaints).toEqual([]);
  });
});

describe.skipIf(!browser)('example pictures of a reward whose model is a download', { timeout: 120_000 }, () => {
  it('are chosen by hand until its weights are there; then it chooses from the base pictures, and its choice is there next time', async () => {
    const files = join(import.meta.dirname, '../golden/rewards/networks');
    const studio = await openStudio(browser!, { start: (home) => startServed(home, ['--port', '0', '--files', files], {}, join(import.meta.dirname, '../../src-main/serve.ts')) });
    try {
      const { page, go } = studio;
      await go('#/new');
      await fillTinyRun(page, { name: 'Examples', model: 'starter', prompts: ['a red apple on a blue background', 'a cat face', 'a green tree'] });
      const card = page.locator('[data-reward="pickscore"]');
      const titles = () => card.locator('img').evaluateAll((all) => all.map((each) => each.getAttribute('title')!));
      expect((await titles()).every((title) => title.includes('Chosen by hand'))).toBe(true);
      await card.getByRole('button', { name: 'Use PickScore' }).click();
      await card.getByText('Once it is downloaded').waitFor();
      await card.getByPlaceholder('folder or file, needed').fill(join(files, 'pickscore'));
      await card.getByPlaceholder('folder or file, needed').blur();
      await page.getByRole('button', { name: 'Make base pictures' }).click();
      await expect.poll(async () => (await titles()).join(), { timeout: 90_000 }).toContain('scored by pickscore');
      const [low, high] = (await titles()).map((title) => Number(/: (−?[\d.]+): /.exec(title)![1]!.replace('−', '-')));
      expect(low).toBeLessThan(high!);
      const shoot = async (name: string, item: ReturnType<typeof page.locator>) => {
        if (process.env['SHOTS']) for (const [theme, width] of [['light', 1440], ['dark', 900]] as const) {
          await page.evaluate((to) => (document.documentElement.dataset['theme'] = to), theme);
          await page.setViewportSize({ width, height: 900 });
          await item.scrollIntoViewIfNeeded();
          await page.screenshot({ path: `${process.env['SHOTS']}/${name}-${theme}.png` });
        }
      };
      await shoot('picker', card);
      await page.reload();
      await page.locator('main h1').first().waitFor();
      await go('#/rewards');
      const listed = page.locator('li', { has: page.getByRole('heading', { name: 'PickScore' }) });
      await listed.getByText('Its own choice of the base pictures of starter; scored by pickscore').waitFor();
      expect(await listed.locator('img').evaluateAll((all) => all.map((each) => (each as HTMLImageElement).naturalWidth))).toEqual([64, 64]);
      await page.locator('li', { has: page.getByRole('heading', { name: 'ImageReward' }) }).getByText('Once it is downloaded').waitFor();
      await shoot('rewards', listed);
      expect(await axeFindings(page)).toEqual([]);
      expect(studio.complaints).toEqual([]);
    } finally {
      await studio.close();
    }
  });
});
