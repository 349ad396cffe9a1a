/** Long work on the pages: its bar and the button that ends it; a shared run and saved settings through the same door; a sweep, counted before it is queued. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunRecorder } from '../../src-main/app/run-recorder.ts';
import { shareRun } from '../../src-main/app/share-run.ts';
import { ensureBrowser } from '../helpers/browser.ts';
import { connect, type Client } from '../helpers/served-app.ts';
import { checkpoint, config, started, step } from '../helpers/temp-home.ts';
import { axeFindings, fillTinyRun, openStudio, type Studio } from './studio.ts';

const browser = ensureBrowser();

/** A run of another machine as one file. */
async function sharedRun(home: string): Promise<string> {
  const recorder = RunRecorder.open(home);
  const id = recorder.createRun({ name: 'From afar', config: config() });
  const lora = join(recorder.runDir(id), checkpoint(5).file);
  mkdirSync(join(lora, '..'), { recursive: true });
  const { writeSafetensors } = await import('../../src-main/weights/safetensors.ts');
  writeSafetensors(lora, { 'unet.a.lora_A.weight': { shape: [2_000_000], data: new Float32Array(2_000_000) } });
  for (const event of [started(), step(5), checkpoint(5), { type: 'finished', reason: 'completed', step: 5, seconds: 1 } as const]) recorder.record(id, event);
  const { path } = await shareRun(recorder, id, join(home, 'afar.drtune'));
  recorder.close();
  return path;
}

describe.skipIf(!browser)('long work on the pages', { timeout: 60_000 }, () => {
  let studio: Studio;
  let client: Client;
  let afar: string;
  beforeAll(async () => {
    studio = await openStudio(browser!, { env: { DRTUNE_FAKE_STEP_MS: '1500' } });
    client = await connect(studio.app.port, studio.app.token);
    afar = await sharedRun(join(studio.home, 'elsewhere'));
  }, 120_000);
  afterAll(async () => {
    client?.close();
    await studio?.close();
  }, 60_000);
  const bar = (kind: string) => studio.page.locator(`[data-work="${kind}"]`);

  it('imports a shared run by the button, piece by piece, and refuses one that was changed in one line', async () => {
    const { page, go } = studio;
    await go('/');
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByText('Open a shared run (.drtune), or settings saved as .json').click()]);
    await chooser.setFiles(afar);
    await page.getByText('“From afar” is imported.').waitFor();
    await expect.poll(() => page.url(), { timeout: 15_000 }).toContain('#/runs/');
    expect((await client.ask('runs.list', {})).map((run) => run.name)).toEqual(['From afar']);
    const bytes = readFileSync(afar);
    bytes[bytes.length - 9_000]! ^= 1;
    await go('/');
    await page.locator('[data-test="import-file"]').setInputFiles({ name: 'spoiled.drtune', mimeType: 'application/zip', buffer: bytes });
    await page.getByText(/spoiled\.drtune is not a run that can be imported: .*differs/).waitFor();
    expect(await client.ask('runs.list', {})).toHaveLength(1);
    expect(readdirSync(join(studio.home, 'runs'))).toHaveLength(1);
    expect(await client.ask('work.list', {})).toEqual([]);
  });

  it('knows settings by what is in them, whatever they are called, at the same door', async () => {
    const { page, go } = studio;
    for (const name of ['mine.json', 'mine.drtune']) {
      await go('/');
      await page.locator('[data-test="import-file"]').setInputFiles({ name, mimeType: 'application/json', buffer: Buffer.from(JSON.stringify({ drtune: 1, name: `Of ${name}`, config: config({ iterations: 77 }) })) });
      await expect.poll(() => page.getByLabel('Name').inputValue().catch(() => ''), { timeout: 15_000 }).toBe(`Of ${name}`);
    }
    await go('/');
    await page.locator('[data-test="import-file"]').setInputFiles({ name: 'other.json', mimeType: 'application/json', buffer: Buffer.from('{"a":1}') });
    await page.getByText(/other\.json holds no settings of a run/).waitFor();
  });

  it('saves settings as .json', async () => {
    const { page, go } = studio;
    await go('/new');
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save', exact: true }).click()]);
    expect(download.suggestedFilename()).toMatch(/\.json$/);
    expect(JSON.parse(readFileSync(await download.path(), 'utf8'))).toMatchObject({ drtune: 1, config: { iterations: 77 } });
  });

  it('base pictures show their bar on every page, and end at its button', async () => {
    const { page, go } = studio;
    await go('/new');
    await fillTinyRun(page, { name: 'Swept', model: 'fake' });
    await page.getByRole('button', { name: 'Make base pictures' }).click();
    await bar('preview').waitFor();
    await go('/');
    await bar('preview').waitFor();
    if (process.env['DRTUNE_SHOTS']) await page.screenshot({ path: join(process.env['DRTUNE_SHOTS'], 'tray.png') });
    await bar('preview').getByRole('button', { name: /Cancel/ }).click();
    await page.getByText('Cancelled; nothing half-made is left.').waitFor();
    await bar('preview').waitFor({ state: 'detached' });
  });

  it('counts a sweep and its time before it is queued, says what is wrong with it, and queues every run', async () => {
    const { page, go } = studio;
    await client.ask('queue.hold', { held: true });
    await go('/new');
    await page.getByRole('button', { name: /^Sweep/ }).click();
    const [setting, values] = [page.getByLabel('Setting', { exact: true }), page.getByLabel('Values', { exact: true })];
    await setting.first().fill('lora.rank');
    await values.first().fill('2, 4, 8');
    await expect.poll(() => page.locator('[data-test="sweep"]').textContent(), { timeout: 15_000 }).toMatch(/^3 runs, /);
    await page.getByRole('button', { name: 'Another setting' }).click();
    await setting.nth(1).fill('optimizer.lr');
    await values.nth(1).fill('1e-4, 2e-4');
    await expect.poll(() => page.locator('[data-test="sweep"]').textContent(), { timeout: 15_000 }).toMatch(/^6 runs, /);
    await page.getByLabel('first with first').check();
    await page.getByText('As a list, every setting needs as many values: lora.rank 3, optimizer.lr 2.').first().waitFor();
    await page.getByLabel('every combination').check();
    await setting.nth(1).fill('optimizer.rate');
    await page.getByText(/optimizer\.rate=1e-4: .*rate/).first().waitFor();
    await setting.nth(1).fill('optimizer.lr');
    await page.getByRole('button', { name: 'Queue 6 runs' }).waitFor();
    if (process.env['DRTUNE_SHOTS']) {
      for (const [theme, width] of [['light', 1440], ['dark', 900]] as const) {
        await page.emulateMedia({ colorScheme: theme });
        await page.setViewportSize({ width, height: 900 });
        await page.locator('[data-test="sweep"]').scrollIntoViewIfNeeded();
        await page.screenshot({ path: join(process.env['DRTUNE_SHOTS'], `sweep-${theme}-${width}.png`) });
      }
      await page.setViewportSize({ width: 1280, height: 800 });
    }
    expect(await axeFindings(page, ['label', 'button-name', 'color-contrast', 'aria-allowed-attr'])).toEqual([]);
    await page.getByRole('button', { name: 'Queue 6 runs' }).click();
    await page.getByText('6 runs are queued.').waitFor();
    const queued = (await client.ask('runs.list', {})).filter((run) => run.state === 'queued');
    expect(queued.map((run) => run.name).sort()).toEqual(['2', '4', '8'].flatMap((rank) => ['1e-4', '2e-4'].map((lr) => `Swept lora.rank=${rank} optimizer.lr=${lr}`)).sort());
    await go(`/runs/${queued.find((run) => run.name.endsWith('rank=2 optimizer.lr=1e-4'))!.id}`);
    for (const [button, place] of [['Later', 2], ['Later', 3], ['Earlier', 2], ['Run next', 1]] as const) {
      await page.getByRole('button', { name: button, exact: true }).click();
      await page.getByText(`Place ${place} of 6 in the queue.`).last().waitFor();
    }
    if (process.env['DRTUNE_SHOTS']) await page.screenshot({ path: join(process.env['DRTUNE_SHOTS'], 'queued.png') });
    for (const { id } of queued) await client.ask('runs.stop', { id });
    await client.ask('queue.hold', { held: false });
  });

  it('an export shows its bar in its dialog and ends at its button, with nothing left', async () => {
    const { page, go } = studio;
    const { id } = (await client.ask('runs.list', { search: 'afar' }))[0]!;
    await go(`/runs/${id}`);
    await page.getByRole('button', { name: 'Export', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByRole('button', { name: 'Export', exact: true }).click();
    await dialog.locator('[data-work="export"]').waitFor();
    if (process.env['DRTUNE_SHOTS']) await page.screenshot({ path: join(process.env['DRTUNE_SHOTS'], 'export.png') });
    await dialog.getByRole('button', { name: /Cancel/ }).click();
    await dialog.locator('[data-work="export"]').waitFor({ state: 'detached' });
    await dialog.getByRole('button', { name: 'Export', exact: true }).waitFor();
    expect(await dialog.getByRole('alert').count()).toBe(0);
  });

  it('what Compare paints shows its bar beside the pictures, not in the tray that would move them', async () => {
    const { page, go } = studio;
    const { id } = (await client.ask('runs.list', { search: 'afar' }))[0]!;
    await page.keyboard.press('Escape');
    await go(`/compare?run=${id}`);
    await page.getByLabel('New prompt').fill('a white ferry');
    await page.getByLabel('New prompt').press('Enter');
    await bar('render').waitFor();
    expect(await bar('render').evaluateAll((bars) => bars.map((each) => each.closest('aside') !== null))).toEqual([true]);
    await bar('render').getByRole('button', { name: /^Cancel/ }).click();
    await bar('render').waitFor({ state: 'detached' });
  });

  it('complains of nothing', () => {
    expect(studio.complaints.filter((line) => !/400|spoiled/.test(line))).toEqual([]);
    writeFileSync(join(studio.home, 'done'), '');
  });
});
