/**
 * `npm run screenshots [-- --home FOLDER] [--out FOLDER]`: the README's pictures of the app. Serves it on a fresh data folder, tunes the
 * starter in three short runs, and photographs what a user then sees. A folder that is given is kept: its finished runs are not made again.
 */
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium, type Page } from 'playwright-core';
import sharp from 'sharp';
import type { RunConfig } from '../src-main/contract/run.ts';
import { ensurePages } from './e2e/studio.ts';
import { BROWSER_FLAGS, ensureBrowser } from './helpers/browser.ts';
import { connect, startServed, type Client } from './helpers/served-app.ts';

const root = join(import.meta.dirname, '..');
const { values: flags } = parseArgs({ options: { home: { type: 'string' }, out: { type: 'string', default: join(root, 'resources/readme') } } });
const SIZE = { width: 1280, height: 800 };
/** Of all pictures together. */
const MOST_BYTES = 1e6;

/** What the list shows: presets as they are, painted more often so that there is something to look at on the way. */
const RUNS: { name: string; preset: string; change: Partial<RunConfig>; tags: string[] }[] = [
  { name: 'Symmetry that keeps the objects', preset: 'demo', change: { sampleEvery: 10, samplePrompts: 8, checkpointEvery: 20 }, tags: ['mix'] },
  { name: 'Symmetry alone', preset: 'symmetry', change: { sampleEvery: 5 }, tags: ['gamed'] },
  { name: 'Bold colours', preset: 'colorful', change: { sampleEvery: 10 }, tags: ['mix'] },
];

/** Ids of the runs by name, once all have ended. @throws Error with the reason of one that failed */
async function makeRuns(client: Client): Promise<Record<string, string>> {
  const presets = await client.ask('presets.list', {});
  const ids: Record<string, string> = {};
  for (const { name, preset, change, tags } of RUNS) {
    const there = (await client.ask('runs.list', {})).find((run) => run.name === name && run.state !== 'failed' && run.state !== 'stopped');
    const config = { ...presets.find((each) => each.name === preset)!.config, ...change };
    ids[name] = (there ?? (await client.ask('runs.start', { name, config }))).id;
    await client.ask('runs.update', { id: ids[name], tags });
  }
  for (const [name, id] of Object.entries(ids)) {
    for (;;) {
      const { summary } = await client.ask('runs.get', { id });
      if (summary.state === 'finished') break;
      if (summary.state !== 'running' && summary.state !== 'queued') throw new Error(`${name}: ${summary.reason ?? summary.state}`);
      process.stderr.write(`\r${name}: ${summary.step} of ${summary.iterations} `);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  process.stderr.write('\n');
  return ids;
}

interface Shot { name: string; theme: 'light' | 'dark'; address: string; act?: (page: Page) => Promise<unknown> }
const press = (label: string | RegExp) => (page: Page): Promise<void> => page.getByRole('button', { name: label, exact: typeof label === 'string' }).first().click();

function shots(ids: Record<string, string>): Shot[] {
  const [mix, alone] = [ids['Symmetry that keeps the objects']!, ids['Symmetry alone']!];
  return [
    { name: 'runs', theme: 'light', address: '/' },
    { name: 'new-run', theme: 'light', address: `/new?from=${mix}`, act: async (page) => {
      await press('Close message')(page);
      await press('Make base pictures')(page);
      await page.locator('aside figure img').nth(3).waitFor({ timeout: 120_000 });
    } },
    { name: 'run', theme: 'light', address: `/runs/${mix}` },
    { name: 'gamed', theme: 'dark', address: `/runs/${alone}` },
    { name: 'compare', theme: 'dark', address: `/compare?run=${mix}`, act: async (page) => {
      await press('Slider')(page);
      await page.locator('[data-test="pair"]').nth(1).click();
    } },
    { name: 'grid', theme: 'light', address: `/compare?run=${mix}`, act: press('Grid') },
    { name: 'vote', theme: 'light', address: `/compare?run=${mix}`, act: press('Vote blind') },
    { name: 'guide', theme: 'light', address: '/guides/what' },
  ];
}

const browserPath = ensureBrowser();
if (!browserPath) process.exit(1);
ensurePages();
const home = flags.home ?? mkdtempSync(join(tmpdir(), 'drtune-screenshots-'));
delete process.env['DRTUNE_TRAINER'];
const app = await startServed(home, ['--port', '0'], {}, join(root, 'src-main/serve.ts'));
const client = await connect(app.port, app.token);
const browser = await chromium.launch({ executablePath: browserPath, args: BROWSER_FLAGS });
try {
  const ids = await makeRuns(client);
  mkdirSync(flags.out, { recursive: true });
  let bytes = 0;
  for (const { name, theme, address, act } of shots(ids)) {
    const context = await browser.newContext({ viewport: SIZE, deviceScaleFactor: 1.5, colorScheme: theme, reducedMotion: 'reduce', locale: 'en-GB' });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    await page.goto(app.url);
    await page.getByRole('navigation', { name: 'Pages' }).waitFor();
    await page.evaluate((to) => (window.location.hash = to), address);
    await page.locator('main').locator('h1, h2').first().waitFor({ state: 'attached' });
    await page.waitForTimeout(1500);
    await act?.(page);
    await page.waitForTimeout(1500);
    const file = join(flags.out, `${name}.webp`);
    await sharp(await page.screenshot()).webp({ quality: 82, effort: 6 }).toFile(file);
    await context.close();
    bytes += statSync(file).size;
    console.log(`${file}: ${Math.round(statSync(file).size / 1000)} kB`);
  }
  if (bytes > MOST_BYTES) throw new Error(`The pictures have ${bytes} bytes; ${MOST_BYTES} are allowed.`);
} finally {
  client.close();
  await browser.close();
  app.process.kill('SIGTERM');
  await app.exit;
  if (flags.home === undefined) rmSync(home, { recursive: true, force: true });
}
