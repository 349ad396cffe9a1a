/** Comparing and looking back, as a user does it: strength and steps, the grid, exports, a blind vote left and gone on with, filters, tags, clean-up. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBrowser } from '../helpers/browser.ts';
import { RunRecorder } from '../../src-main/app/run-recorder.ts';
import { runConfigSchema } from '../../src-main/contract/run.ts';
import { connect, type Client } from '../helpers/served-app.ts';
import { axeFindings, openStudio, pixelDifference, type Studio } from './studio.ts';

const browser = ensureBrowser();
const config = (prompts: string[], rewards = [{ name: 'symmetry' }]) => ({
  model: 'fake', prompts, heldOutPrompts: ['a green frog'], rewards, iterations: 6, sampleEvery: 3, checkpointEvery: 2, samplePrompts: 3, batch: 1, steps: 4, trainedSteps: 2, earlyStop: 0,
});

describe.skipIf(!browser)('comparing and looking back', { timeout: 60_000 }, () => {
  let studio: Studio;
  let client: Client;
  let ids: string[];
  beforeAll(async () => {
    studio = await openStudio(browser!, { env: { DRTUNE_FAKE_STEP_MS: '20' } });
    client = await connect(studio.app.port, studio.app.token);
    ids = [];
    for (const [name, prompts] of [['Apples', ['a red apple', 'a blue boat']], ['Boats', ['a sailing boat', 'a ferry']]] as const) ids.push((await client.ask('runs.start', { name, config: config([...prompts]) })).id);
    while (!(await client.ask('runs.list', {})).every((run) => run.state === 'finished')) await new Promise((later) => setTimeout(later, 100));
  }, 120_000);
  afterAll(async () => {
    client?.close();
    await studio?.close();
  }, 60_000);
  const viewer = () => studio.page.locator('[data-test="viewer"] img');
  const urls = () => viewer().evaluateAll((images) => images.map((image) => (image as HTMLImageElement).src));

  it('strength: shows the nearest picture at once, then paints the asked one; base stays base', async () => {
    const { page, go } = studio;
    await go(`/compare?run=${ids[0]}`);
    await page.getByRole('button', { name: 'Side by side' }).click();
    await expect.poll(() => viewer().count()).toBe(2);
    const [base, full] = (await urls()) as [string, string];
    await page.keyboard.press(',');
    await page.keyboard.press(',');
    await page.getByText('80 %', { exact: true }).waitFor();
    await expect.poll(async () => (await urls())[1], { timeout: 20_000 }).not.toBe(full);
    const [stillBase, weaker] = (await urls()) as [string, string];
    expect(stillBase).toBe(base);
    expect(await page.locator('[data-test="stand-in"]').count()).toBe(0);
    const [toFull, toWeaker] = [await pixelDifference(page, [base, full]), await pixelDifference(page, [base, weaker])];
    expect(toWeaker).toBeGreaterThan(0.2);
    expect(toWeaker).toBeLessThan(toFull);
    expect(page.url()).toContain('x0.8');
    // A slider that was moved by hand keeps the arrows to itself, and leaves the other keys to the page.
    await page.getByRole('slider', { name: /Strength of B/ }).focus();
    await page.keyboard.press('ArrowRight');
    await page.getByText('90 %', { exact: true }).waitFor();
    await page.keyboard.press('.');
    await expect.poll(async () => (await urls())[1], { timeout: 20_000 }).toBe(full);
    await page.getByRole('slider', { name: /Strength of B/ }).blur();
  });

  it('late start: the LoRA comes in at a later sampling step, as a picture of its own with a link of its own', async () => {
    const { page } = studio;
    const [, full] = await urls();
    await page.keyboard.press("'");
    await page.keyboard.press("'");
    await expect.poll(async () => viewer().last().getAttribute('alt'), { timeout: 20_000 }).toMatch(/LoRA from sampling step 2$/);
    expect((await urls())[1]).not.toBe(full);
    expect(page.url()).toContain('from2');
    if (process.env['SHOTS']) await page.screenshot({ path: `${process.env['SHOTS']}/compare-late.png` });
    await page.keyboard.press(';');
    await page.keyboard.press(';');
    await expect.poll(async () => (await urls())[1], { timeout: 20_000 }).toBe(full);
  });

  it('steps: goes back over the run, and says where no checkpoint was kept', async () => {
    const { page } = studio;
    await page.keyboard.press('[');
    await expect.poll(async () => viewer().last().getAttribute('alt'), { timeout: 20_000 }).toMatch(/step 4$/);
    await page.keyboard.press('[');
    await expect.poll(async () => viewer().last().getAttribute('alt'), { timeout: 20_000 }).toMatch(/step 3$/);
    await page.keyboard.press(',');
    await page.getByText('No checkpoint was kept at step 3.').waitFor();
    // What stands in is named by what it is, not by what was asked for.
    expect(await viewer().last().getAttribute('alt')).toMatch(/step 3$/);
    await page.locator('[data-test="viewer"]').getByText('step 3', { exact: true }).waitFor();
    await page.keyboard.press('.');
    for (let n = 0; n < 2; n++) await page.keyboard.press(']');
    await expect.poll(async () => viewer().last().getAttribute('alt'), { timeout: 20_000 }).toMatch(/step 6$/);
  });

  it('difference: a map with its scale and in words', async () => {
    const { page } = studio;
    await page.getByRole('button', { name: 'Difference', exact: true }).click();
    await page.getByRole('img', { name: /where base and step 6 differ: \d+ % of the picture changed, by [\d.]+ of 255/ }).waitFor();
    await page.locator('[data-test="legend"]').getByText('96 of 255').waitFor();
    expect(await axeFindings(page)).toEqual([]);
  });

  it('grid: all pairs with their scores; keys zoom them in step; flickers while F is held', async () => {
    const { page } = studio;
    await page.keyboard.press('g');
    const dividers = page.locator('[data-test="grid"]').getByRole('slider');
    await expect.poll(() => dividers.count()).toBe(3);
    await dividers.first().focus();
    await page.keyboard.press('Home');
    expect(await dividers.last().getAttribute('aria-valuenow')).toBe('0');
    await dividers.first().blur();
    await page.keyboard.press('+');
    await expect.poll(() => page.locator('[data-test="grid"] img').evaluateAll((images) => new Set(images.map((image) => (image as HTMLElement).style.transform)).size)).toBe(1);
    expect(await page.locator('[data-test="grid"] img').first().evaluate((image) => (image as HTMLElement).style.transform)).toContain('scale(1.4)');
    await page.keyboard.press('0');
    await page.keyboard.down('f');
    await expect.poll(() => dividers.count()).toBe(0);
    await page.keyboard.up('f');
    await expect.poll(() => dividers.count()).toBe(3);
    await page.keyboard.press('[');
    await expect.poll(() => page.locator('[data-test="grid"]').getByText('step 4').count(), { timeout: 20_000 }).toBeGreaterThan(0); // the steps are there as well
    await page.keyboard.press(']');
    expect(await axeFindings(page)).toEqual([]);
    // A prompt is typed beside the pair; Escape gives the keys back to the page.
    await page.keyboard.press('n');
    await page.waitForFunction(() => document.activeElement?.id === 'new-prompt');
    await page.keyboard.press('Escape');
    await page.keyboard.press('g');
    await dividers.first().waitFor();
    await page.keyboard.press('g');
  });

  it('scores the pair by rewards that the run did not measure', async () => {
    const { page } = studio;
    const rows = page.getByRole('table', { name: 'Rewards of both pictures' }).getByRole('row');
    const before = await rows.count();
    await page.getByRole('button', { name: 'Score with every reward' }).click();
    await expect.poll(() => rows.count(), { timeout: 20_000 }).toBeGreaterThan(before + 5);
    expect(await rows.filter({ hasText: 'Colourfulness' }).innerText()).toMatch(/not trained.*\d\.\d{3}.*\d\.\d{3}/s);
    expect(await axeFindings(page)).toEqual([]);
  });

  it('a link to another comparison is followed, the rail keeps the one at hand', async () => {
    const { page, go } = studio;
    const shown = () => page.locator('[data-test="viewer"] .tag').allInnerTexts();
    await go(`/compare?a=${ids[0]}@base&b=${ids[0]}@4`);
    await expect.poll(shown).toEqual(['base', 'step 4']);
    await page.getByRole('link', { name: 'Compare', exact: true }).click();
    await expect.poll(() => page.url()).toContain(`b=${ids[0]}@4`);
    expect(await shown()).toEqual(['base', 'step 4']);
    for (let n = 0; n < 2; n++) await page.keyboard.press(']');
    await expect.poll(shown).toEqual(['base', 'step 6']);
    await expect.poll(() => page.url()).toContain(`b=${ids[0]}@6`);
  });

  it('exports a page that works by itself: its slider moves without app and network', async () => {
    const { page, context } = studio;
    await page.keyboard.press('e');
    const dialog = page.getByRole('dialog', { name: 'Export the comparison' });
    await dialog.getByRole('button', { name: 'Write the file' }).click();
    const path = await dialog.getByText(/compare-.*\.html$/).textContent();
    const download = page.waitForEvent('download');
    await dialog.getByRole('button', { name: 'Save a copy' }).click();
    expect(readFileSync(await (await download).path(), 'utf8')).toBe(readFileSync(path!, 'utf8'));
    await page.keyboard.press('Escape');
    const alone = await context.newPage();
    await alone.route(/^https?:/, (route) => route.abort());
    await alone.goto(`file://${path}`);
    const slider = alone.getByRole('slider').first();
    await slider.focus();
    await alone.keyboard.press('End');
    expect(await alone.locator('.pair').first().evaluate((pair) => (pair as HTMLElement).style.getPropertyValue('--at'))).toBe('100%');
    expect(await alone.locator('.pair img').evaluateAll((images) => images.every((image) => (image as HTMLImageElement).naturalWidth === 64))).toBe(true);
    await alone.close();
  });

  it('a blind vote goes on where it was left, and says when there are too few votes', async () => {
    const { page } = studio;
    const dialog = page.getByRole('dialog', { name: 'Blind vote' });
    await page.keyboard.press('v');
    await dialog.getByText('1 of 3').waitFor();
    await page.keyboard.press('f');
    await dialog.getByText('2 of 3').waitFor();
    await page.keyboard.press('Backspace');
    await dialog.getByText('1 of 3').waitFor();
    await page.keyboard.press('j');
    await dialog.getByText('2 of 3').waitFor();
    await page.keyboard.press('Escape');
    await page.reload();
    await page.getByRole('button', { name: 'Vote blind' }).click();
    await dialog.getByText('2 of 3').waitFor();
    await dialog.getByRole('button', { name: 'cannot tell' }).click();
    await dialog.getByText('3 of 3').waitFor();
    await dialog.getByRole('button', { name: 'take back' }).click();
    await dialog.getByText('2 of 3').waitFor();
    await page.keyboard.press(' '); // the focus was not left on the button
    await dialog.getByText('3 of 3').waitFor();
    await page.keyboard.press('s');
    await dialog.getByText(/too few votes to tell/).waitFor();
    await dialog.getByText('2 votes on 3 pairs, 1 skipped').waitFor();
    expect(await axeFindings(page)).toEqual([]);
    const [round] = await client.ask('votes.list', { run: ids[0]! });
    expect(round!.ballots.map((ballot) => ballot.choice).slice(1)).toEqual(['tie', 'skip']);
    expect(round!.ballots[0]!.choice).toBe(round!.pairs[0]!.swapped ? 'a' : 'b');
    await dialog.getByRole('button', { name: 'Done' }).click();
    // It stays to be read with the run.
    await studio.go(`/runs/${ids[0]}`);
    await page.getByRole('tab', { name: 'Votes' }).click();
    await page.locator('[data-test="vote-round"]').getByText(/preferred \d of 2, 1 undecided/).waitFor();
    await page.locator('[data-test="vote-round"]').getByRole('link', { name: 'Compare' }).click();
    await expect.poll(() => page.url()).toContain(`a=${ids[0]}@base&b=${ids[0]}@6`);
  });

  it('the list: searches prompts, tags, filters by tag, shows pictures of several runs together', async () => {
    const { page, go } = studio;
    await go('/');
    const row = page.locator('[data-run]');
    await expect.poll(() => row.count()).toBe(2);
    await page.getByRole('searchbox').fill('ferry');
    await expect.poll(() => row.count()).toBe(1);
    await page.getByRole('button', { name: 'More for Boats' }).click();
    await page.getByRole('menuitem', { name: 'Tags…' }).click();
    await page.waitForFunction(() => document.activeElement?.id === 'new-tag'); // a dialog opens with its field ready
    await page.keyboard.type('for the talk');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Take off for the talk' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('searchbox').fill('');
    await expect.poll(() => row.count()).toBe(2);
    await page.getByLabel('Filter by tag').selectOption('for the talk');
    await expect.poll(() => row.count()).toBe(1);
    // Looked into and back, or loaded again: it is the same list.
    expect(page.url()).toMatch(/#\/\?tag=for\+the\+talk$/);
    await page.getByRole('link', { name: 'Boats', exact: true }).click();
    await page.getByRole('button', { name: 'Boats: rename' }).waitFor();
    await page.goBack();
    await expect.poll(() => row.count()).toBe(1);
    await page.reload();
    await expect.poll(() => row.count()).toBe(1);
    await page.getByLabel('Filter by tag').selectOption('');
    await expect.poll(() => row.count()).toBe(2);
    for (const box of await row.getByRole('checkbox').all()) await box.check();
    await page.getByRole('button', { name: 'Pictures together' }).click();
    await expect.poll(() => page.getByRole('dialog').locator('tbody tr').first().locator('img').count()).toBe(3);
    expect(await axeFindings(page)).toEqual([]);
    await page.keyboard.press('Escape');
    const download = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Export the list' }).click();
    await page.getByRole('menuitem', { name: /CSV/ }).click();
    expect(readFileSync(await (await download).path(), 'utf8').split('\r\n').filter(Boolean)).toHaveLength(3);
    await page.getByRole('button', { name: 'Choose none' }).click();
  });

  it('frees disk only after showing what', async () => {
    const { page } = studio;
    await page.getByRole('button', { name: 'Free disk space' }).click();
    const dialog = page.getByRole('dialog', { name: 'Free disk space' });
    await expect.poll(() => dialog.locator('tbody tr').count()).toBe(2);
    expect((await client.ask('runs.get', { id: ids[0]! })).checkpoints).toHaveLength(3);
    await dialog.getByRole('button', { name: /^Free \d/ }).click();
    await page.getByText(/freed in 2 runs/).waitFor();
    const kept = await client.ask('runs.get', { id: ids[0]! });
    expect(kept.checkpoints.at(-1)!.step).toBe(6);
    expect(kept.checkpoints.length).toBeLessThan(3);
    expect(kept.images.length).toBeGreaterThan(5);
  });

  it('a list of thousands draws only what is in view, and scrolls to its oldest run', async () => {
    const { page, home } = studio;
    const recorder = RunRecorder.open(home);
    recorder.history.db.transaction(() => {
      for (let n = 0; n < 3000; n++) recorder.runs.insert({ id: `old-${n}`, name: `Old ${n}`, config: runConfigSchema.parse(config(['a cup'])), appVersion: '0', at: 1.6e12 + n, state: 'stopped', owner: null });
    })();
    recorder.close();
    await page.reload();
    await page.getByText('3,002 runs').waitFor();
    const rows = page.locator('[data-run]');
    expect(await rows.count()).toBeLessThan(60);
    await page.locator('#main').evaluate((main) => main.scrollTo(0, main.scrollHeight));
    await page.getByRole('link', { name: 'Old 0', exact: true }).waitFor();
    expect(await rows.count()).toBeLessThan(60);
    const place = () => page.locator('#main').evaluate((main) => main.scrollTop);
    const end = await place();
    await page.getByRole('link', { name: 'Old 0', exact: true }).click();
    await page.getByRole('button', { name: 'Old 0: rename', exact: true }).waitFor();
    expect(await place()).toBe(0);
    await page.getByRole('button', { name: 'Export', exact: true }).click();
    await page.getByRole('dialog').getByText('No checkpoint yet').waitFor();
    expect(await page.getByRole('dialog').getByRole('button', { name: 'Export', exact: true }).isDisabled()).toBe(true);
    await page.keyboard.press('Escape');
    await page.goBack();
    await page.getByRole('link', { name: 'Old 0', exact: true }).waitFor();
    await expect.poll(place).toBe(end);
    await page.getByRole('searchbox').fill('Old 2999');
    await expect.poll(() => rows.count()).toBe(1);
    await page.getByRole('searchbox').fill('');
    await page.getByText('3,002 runs').waitFor();
    await rows.first().getByRole('checkbox').check();
    await page.getByRole('button', { name: 'Choose all 3,002' }).click();
    await page.getByText('3,002 chosen').waitFor();
    await page.getByRole('button', { name: 'Choose none' }).click();
  });

  it('left nothing in the console', () => {
    expect(studio.complaints).toEqual([]);
  });
});
