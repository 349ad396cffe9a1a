/** The app as a user meets it: first start, a run, its charts, comparing, history, trash, keys, both themes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBrowser } from '../helpers/browser.ts';
import { axeFindings, fillTinyRun, openStudio, pixelDifference, type Studio } from './studio.ts';

const browser = ensureBrowser();

describe.skipIf(!browser)('the studio in a browser', { timeout: 90_000 }, () => {
  let studio: Studio;
  beforeAll(async () => {
    studio = await openStudio(browser!);
  }, 120_000);
  afterAll(async () => {
    await studio?.close();
  }, 60_000);

  it('greets an empty history with one thing to do, and keeps the token out of the address', async () => {
    const { page, go } = studio;
    await page.waitForURL(/#\/setup$/);
    await go('/');
    await page.getByRole('heading', { name: 'Teach it symmetry' }).waitFor();
    expect(page.url()).not.toContain('token');
  });

  it('does not start what cannot work, and says why', async () => {
    const { page, go } = studio;
    await go('/new');
    await page.locator('input[name="model"][value="fake"]').check({ force: true });
    await page.getByLabel('Trained, one a line').fill('');
    await page.getByText('Prompts: Write at least one prompt.').waitFor();
    expect(await page.getByRole('button', { name: 'Start tuning' }).isDisabled()).toBe(true);
  });

  it('warns of a reward that is gamed when alone, and mixes by one click', async () => {
    const { page } = studio;
    const used = page.getByRole('button', { name: /^Leave out/ });
    while ((await used.count()) > 0) await used.first().click();
    await page.getByRole('button', { name: 'Use Symmetry', exact: true }).click();
    await page.getByText('Symmetry alone can be gamed.').waitFor();
    await page.getByRole('button', { name: /^Mix: Symmetry/ }).click();
    expect(await page.getByRole('button', { name: 'Leave out CLIPScore' }).isVisible()).toBe(true);
  });

  it('keeps the draft when the page is left and loaded again', async () => {
    const { page, go } = studio;
    await fillTinyRun(page, { name: 'First', model: 'fake', iterations: 6 });
    await go('/rewards');
    await page.reload();
    await page.locator('main h1').first().waitFor();
    await go('/new');
    await expect.poll(() => page.getByLabel('Name').inputValue()).toBe('First');
    expect(await page.locator('#set-iterations').inputValue()).toBe('6');
    expect(await page.getByLabel('Trained, one a line').inputValue()).toBe('a red apple\na blue boat');
  });

  it('shows what of a long prompt is cut, and in how many chunks it can be read', async () => {
    const { page } = studio;
    const prompts = page.getByLabel('Trained, one a line');
    await page.locator('input[name="model"][value="starter"]').check({ force: true });
    await prompts.fill(`a red apple\n${'a cat and '.repeat(12)}a Blue Boat`);
    await page.getByText(/^\d+\/32 tokens, cut:$/).waitFor();
    expect(await page.locator('mark').last().textContent()).toMatch(/Blue Boat$/);
    await page.getByText('Every setting').click();
    await page.locator('#set-longPrompts').selectOption('chunk');
    await page.getByText(/ \d+ tokens, 2 chunks\.$/).waitFor();
    await page.locator('#set-promptSyntax').selectOption('a1111');
    await prompts.fill('a (red:1.2.3) apple\na blue boat');
    await page.getByText('has the weight "1.2.3", which is no number').waitFor();
    await page.locator('#set-promptSyntax').selectOption('plain');
    await page.locator('#set-longPrompts').selectOption('truncate');
    await page.getByText('Every setting').click();
    await prompts.fill('a red apple\na blue boat');
    await page.getByText(/ 5\/32 tokens\.$/).waitFor();
    await page.locator('input[name="model"][value="fake"]').check({ force: true });
  });

  it('says what an algorithm and an optimiser are for, and brings along what they need', async () => {
    const { page, go } = studio;
    await go('/new');
    await page.getByText('Every setting').click();
    await page.locator('#set-algorithm').selectOption('refl');
    await page.getByText('One step near the end learns').waitFor();
    expect(Number(await page.locator('#set-earlyStop').inputValue())).toBeGreaterThan(0);
    await page.locator('#set-algorithm').selectOption('draft-k');
    expect(await page.locator('#set-earlyStop').inputValue()).toBe('0');
    await page.locator('#set-optimizer-kind').selectOption('prodigy');
    expect(await page.locator('#set-optimizer-lr').inputValue()).toBe('1');
    await page.locator('#set-optimizer-kind').selectOption('adamw');
    await page.locator('#set-sizes').fill('64x64, 64x96');
    await page.locator('#set-sizes').press('Tab');
    expect(await page.locator('#set-sizes').inputValue()).toBe('64x64, 64x96');
    for (const label of ['Algorithm', 'Sizes drawn from', 'Early stop, m']) {
      const reset = page.getByRole('button', { name: `Reset ${label} to its default` });
      if (await reset.count()) await reset.click();
    }
    await page.getByText('Every setting').click();
  });

  it('paints base pictures on demand and forecasts', async () => {
    const { page } = studio;
    await page.getByRole('button', { name: 'Make base pictures' }).click();
    await page.locator('figure img').first().waitFor();
    await page.getByRole('heading', { name: 'Forecast' }).waitFor();
    await page.getByText(/of .+ free/).first().waitFor();
  });

  it('runs: the chart moves, the title counts, the run ends done', async () => {
    const { page } = studio;
    await page.locator('[data-test="start"]').click();
    await page.waitForURL(/#\/runs\//);
    const chart = page.getByRole('img', { name: /^Reward: training/ });
    await chart.waitFor();
    const early = await chart.getAttribute('aria-label');
    await page.getByText('Done', { exact: true }).waitFor({ timeout: 60_000 });
    await expect.poll(() => chart.getAttribute('aria-label')).not.toBe(early);
    expect(await chart.getAttribute('aria-label')).toMatch(/at step 6$/);
    expect(await page.title()).toContain('First');
    expect(await page.getByRole('slider', { name: 'Step shown' }).getAttribute('aria-valuenow')).toBe('6');
  });

  it('goes back in time along the film strip', async () => {
    const { page } = studio;
    const strip = page.getByRole('slider', { name: 'Step shown' });
    await strip.focus();
    await page.keyboard.press('ArrowLeft');
    expect(await strip.getAttribute('aria-valuenow')).toBe('5');
    await page.locator('[data-test="run-slider"]').getByText('step 5').waitFor();
    await page.getByRole('button', { name: 'Back to the newest' }).click();
  });

  it('renames, takes notes, lists checkpoints with their sha256', async () => {
    const { page } = studio;
    await page.getByRole('button', { name: 'First: rename' }).click();
    await page.getByLabel('Name of the run').fill('Renamed');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Renamed: rename' }).waitFor();
    await page.getByRole('button', { name: /^favourite$/i, pressed: false }).click();
    await page.getByRole('button', { name: /^favourite$/i, pressed: true }).click();
    await page.getByRole('button', { name: /^favourite$/i, pressed: false }).waitFor();
    await page.getByRole('button', { name: 'Tags…' }).click();
    await page.getByLabel('New tag').fill('keep');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Take off keep' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'keep Tags…' }).waitFor();
    await page.getByRole('tab', { name: 'Notes' }).click();
    await page.getByLabel('Notes about this run').fill('worked at once');
    await page.getByText('Kept', { exact: true }).waitFor();
    await page.getByRole('tab', { name: /^Files/ }).click();
    await page.getByText('checkpoints/step-6.safetensors').waitFor();
  });

  it('exports a checkpoint, in words what it is doing and what was checked', async () => {
    const { page } = studio;
    await page.getByRole('button', { name: 'Export', exact: true }).first().click();
    const dialog = page.getByRole('dialog', { name: 'Export the LoRA' });
    expect(await dialog.getByRole('radio').count()).toBe(6);
    await dialog.getByRole('radio', { name: /^kohya/ }).check();
    await dialog.getByRole('button', { name: 'Export', exact: true }).click();
    await dialog.getByText(/^Written and checked/).waitFor();
    await dialog.getByText(/exports.*-step-6-kohya\.safetensors/).waitFor();
    await dialog.getByText(/^read back, its picture differs/).waitFor();
    expect(await axeFindings(page)).toEqual([]);
    await dialog.getByRole('button', { name: 'Close', exact: true }).last().click();
  });

  it('compares: base and tuned are two different pictures, also under a new prompt', async () => {
    const { page } = studio;
    await page.locator('main header').getByRole('button', { name: 'Compare', exact: true }).click();
    await page.waitForURL(/#\/compare/);
    await page.getByRole('button', { name: 'Side by side' }).click();
    const viewer = page.locator('[data-test="viewer"] img');
    await expect.poll(() => viewer.count()).toBe(2);
    const urls = async () => (await viewer.evaluateAll((images) => images.map((image) => (image as HTMLImageElement).src))) as [string, string];
    expect(await pixelDifference(page, await urls())).toBeGreaterThan(0.5);
    await page.getByLabel('New prompt').fill('a yellow house');
    await page.getByRole('button', { name: 'Paint', exact: true }).click();
    await page.locator('[data-test="pair"][aria-label^="a yellow house"] img').nth(1).waitFor();
    await expect.poll(async () => (await viewer.count()) === 2 && (await viewer.first().getAttribute('alt'))?.startsWith('a yellow house')).toBe(true);
    expect(await pixelDifference(page, await urls())).toBeGreaterThan(0.5);
  });

  it('shows every layout, and base alone while B is held', async () => {
    const { page } = studio;
    for (const layout of ['Slider', 'Flicker', 'Difference']) {
      await page.getByRole('button', { name: layout, exact: true }).click();
      await page.locator('[data-test="viewer"] :is(img, canvas)').first().waitFor();
    }
    await page.getByRole('button', { name: 'Slider', exact: true }).click();
    const handle = page.getByRole('slider', { name: /^How much of/ });
    await handle.focus();
    await page.keyboard.press('End');
    expect(await handle.getAttribute('aria-valuenow')).toBe('100');
    await page.keyboard.down('t');
    await expect.poll(() => handle.count()).toBe(0);
    await page.keyboard.up('t');
    await expect.poll(() => handle.count()).toBe(1);
  });

  it('votes blind to a result in words', async () => {
    const { page } = studio;
    await page.getByRole('button', { name: 'Vote blind' }).click();
    await page.getByRole('dialog', { name: 'Blind vote' }).waitFor();
    for (let pair = 0; pair < 12 && !(await page.getByRole('button', { name: 'Done' }).isVisible()); pair++) await page.keyboard.press(pair % 2 ? 'f' : 'j');
    await page.getByText(/preferred \d+ of \d+.*95 % interval/).waitFor();
    await page.getByRole('button', { name: 'Done' }).click();
  });

  it('finds, deletes and brings back a run', async () => {
    const { page, go } = studio;
    await go('/');
    const row = page.locator('[data-run]');
    await expect.poll(() => row.count()).toBe(1);
    await page.getByRole('searchbox').fill('nothing like it');
    await page.getByText('No run fits').waitFor();
    await page.getByRole('button', { name: 'Show all runs' }).click();
    await page.getByRole('button', { name: 'More for Renamed' }).click();
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    await page.getByText('1 run moved to the trash.').waitFor();
    await expect.poll(() => row.count()).toBe(0);
    await page.getByRole('button', { name: 'Undo' }).click();
    await expect.poll(() => row.count()).toBe(1);
  });

  it('says what happened when a run fails, and offers the way on', async () => {
    const { page, go } = studio;
    await go('/new');
    await fillTinyRun(page, { name: 'Breaks', model: 'fake', iterations: 6, prompts: ['[crash] a red apple'] });
    await page.locator('[data-test="start"]').click();
    await page.waitForURL(/#\/runs\//);
    await page.getByText(/^Kept: /).waitFor({ timeout: 30_000 });
    await page.getByRole('button', { name: 'Start again with changes' }).click();
    await expect.poll(() => page.getByLabel('Name').inputValue()).toContain('Breaks');
  });

  it('shows what differs between two runs', async () => {
    const { page, go } = studio;
    await go('/');
    for (const box of await page.locator('[data-run] input[type="checkbox"]').all()) await box.check();
    await page.getByRole('button', { name: 'Diff settings' }).click();
    await page.getByRole('dialog').getByText('prompts', { exact: false }).first().waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Chart together' }).click();
    await page.getByRole('dialog').getByRole('img', { name: /^Reward/ }).waitFor();
    await page.getByRole('dialog').getByRole('img', { name: /^Symmetry, held-out/ }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Choose none' }).click();
  });

  it('obeys the keys', async () => {
    const { page } = studio;
    for (const [key, title] of [['5', 'Rewards'], ['4', 'Models'], ['6', 'Settings'], ['1', 'Runs']] as const) {
      await page.keyboard.press(key);
      await expect.poll(() => page.title()).toContain(title);
    }
    await page.keyboard.press('/');
    await expect.poll(() => page.getByRole('searchbox').evaluate((field) => field === document.activeElement)).toBe(true);
    await page.keyboard.press('Escape');
    await page.getByRole('searchbox').blur();
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keys' }).waitFor();
    await page.keyboard.press('Escape');
  });

  describe.each(['light', 'dark'] as const)('%s', (theme) => {
    it.each(['/', '/?view=trash', '/new', 'run', '/compare', '/models', '/rewards', '/settings'])('axe finds nothing serious on %s', async (path) => {
      const { page, go } = studio;
      await go('/settings');
      await page.getByRole('button', { name: theme === 'light' ? 'Light' : 'Dark', exact: true }).click();
      await expect.poll(() => page.evaluate(() => document.documentElement.dataset['theme'])).toBe(theme);
      await page.getByRole('button', { name: 'Close message' }).first().click();
      if (path === 'run') {
        await go('/');
        await page.getByRole('link', { name: 'Renamed' }).click();
        await page.getByRole('img', { name: /^Reward/ }).waitFor();
      } else {
        await go(path);
      }
      await page.waitForTimeout(500);
      // What a theme changes is colour: the rest is looked at once.
      expect(await axeFindings(page, theme === 'dark' ? ['color-contrast'] : undefined)).toEqual([]);
    });
  });

  it('says that the connection is lost, comes back by itself and catches up', async () => {
    const { context, app } = studio;
    const page = await context.newPage();
    const drops: (() => Promise<void>)[] = [];
    let open = true;
    await page.routeWebSocket(/\/ws\?/, (socket) => {
      if (!open) return void socket.close();
      socket.connectToServer();
      drops.push(() => socket.close());
    });
    await page.goto(app.url);
    await page.locator('[data-run]').first().waitFor();
    open = false;
    for (const drop of drops.splice(0)) await drop();
    const banner = page.getByText(/connection to DRTune Studio was lost/);
    await banner.waitFor();
    open = true;
    await banner.waitFor({ state: 'hidden' });
    await page.getByRole('button', { name: 'More for Renamed' }).click();
    await page.getByRole('menuitem', { name: 'Mark as favourite' }).click();
    await page.getByLabel('Favourite').waitFor();
    await page.close();
  });

  it('left nothing in the console', () => {
    expect(studio.complaints).toEqual([]);
  });
});
