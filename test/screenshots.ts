/**
 * `npm run screenshots [-- --home FOLDER] [--out FOLDER] [--quick]`: the README's pictures of the app. Serves it on a fresh data folder, tunes the
 * starter in three short runs, and photographs what a user then sees. A folder that is given is kept: its finished runs are not made again.
 * `--quick` tunes for few iterations only: to try the script, not to show the result. Every wait has an end and says what it waited for.
 */
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium, type Browser, type Page } from 'playwright-core';
import sharp from 'sharp';
import type { RunConfig } from '../src-main/contract/run.ts';
import { ensurePages } from './e2e/studio.ts';
import { BROWSER_FLAGS, ensureBrowser } from './helpers/browser.ts';
import { connect, startServed, type Client, type ServedApp } from './helpers/served-app.ts';

const root = join(import.meta.dirname, '..');
const { values: flags } = parseArgs({ options: { home: { type: 'string' }, out: { type: 'string', default: join(root, 'resources/readme') }, quick: { type: 'boolean', default: false } } });
const SIZE = { width: 1280, height: 800 };
/** Of all pictures together. */
const MOST_BYTES = 1e6;
/** A run that says nothing new for so long is not waited for. */
const STUCK_MS = 10 * 60_000;
/** One page, from its address to its picture; painting base pictures on a busy machine is the longest of it. */
const PAGE_MS = 4 * 60_000;
/** The served app may take 30 s to keep what it was doing. */
const END_MS = 45_000;
/** What `--quick` makes of a preset. */
const QUICK: Partial<RunConfig> = { iterations: 20, batch: 2, sampleEvery: 5, samplePrompts: 4, checkpointEvery: 10 };

/** What the list shows: presets as they are, painted more often so that there is something to look at on the way. */
const RUNS: { name: string; preset: string; change: Partial<RunConfig>; tags: string[] }[] = [
  { name: 'Symmetry that keeps the objects', preset: 'demo', change: { sampleEvery: 10, samplePrompts: 8, checkpointEvery: 20 }, tags: ['mix'] },
  { name: 'Symmetry alone', preset: 'symmetry', change: { sampleEvery: 5 }, tags: ['gamed'] },
  { name: 'Bold colours', preset: 'colorful', change: { sampleEvery: 10 }, tags: ['mix'] },
];

/** @throws Error that names what did not come in time */
async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error(`${what} took longer than ${ms / 1000} s.`)), ms)));
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Ids of the runs by name, once all have ended. @throws Error with the reason of one that failed, or that a run stands still */
async function makeRuns(client: Client): Promise<Record<string, string>> {
  const presets = await client.ask('presets.list', {});
  const ids: Record<string, string> = {};
  for (const { name, preset, change, tags } of RUNS) {
    const there = (await client.ask('runs.list', {})).find((run) => run.name === name && run.state !== 'failed' && run.state !== 'stopped');
    const config = { ...presets.find((each) => each.name === preset)!.config, ...change, ...(flags.quick ? QUICK : {}) };
    ids[name] = (there ?? (await client.ask('runs.start', { name, config }))).id;
    await client.ask('runs.update', { id: ids[name], tags });
  }
  for (const [name, id] of Object.entries(ids)) {
    for (let [seen, since] = ['', Date.now()]; ;) {
      const { summary } = await within(60_000, `The state of "${name}"`, client.ask('runs.get', { id }));
      if (summary.state === 'finished') break;
      const now = `${summary.state} ${summary.step}`;
      if (now !== seen) [seen, since] = [now, Date.now()];
      if (Date.now() - since > STUCK_MS) throw new Error(`"${name}" has been ${summary.state} at step ${summary.step} for ${STUCK_MS / 60_000} minutes.`);
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

/** One picture in a window of its own, opened by its address. */
async function take({ name, theme, address, act }: Shot, browser: Browser, url: string): Promise<string> {
  const context = await browser.newContext({ viewport: SIZE, deviceScaleFactor: 1.5, colorScheme: theme, reducedMotion: 'reduce', locale: 'en-GB' });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(`${url}#${address}`);
  await page.locator('main').locator('h1, h2').first().waitFor({ state: 'attached' });
  await page.locator('main [aria-busy="true"]').first().waitFor({ state: 'detached' });
  await page.waitForTimeout(1500);
  await act?.(page);
  await page.waitForTimeout(1500);
  const file = join(flags.out, `${name}.webp`);
  await sharp(await page.screenshot()).webp({ quality: 82, effort: 6 }).toFile(file);
  await context.close();
  return file;
}

/** Ends the app as a user would; what does not end by itself is killed with all it started, and said. */
async function end(app: ServedApp): Promise<void> {
  app.process.kill('SIGTERM');
  await within(END_MS, 'The end of the served app', app.exit).catch((error: Error) => {
    console.error(`${error.message} It is killed. Its last words: ${app.stderr().trim().split('\n').at(-1) ?? ''}`);
    process.kill(-app.process.pid!, 'SIGKILL');
  });
}

const browserPath = ensureBrowser();
if (!browserPath) process.exit(1);
ensurePages();
const home = flags.home ?? mkdtempSync(join(tmpdir(), 'drtune-screenshots-'));
delete process.env['DRTUNE_TRAINER'];
const app = await within(60_000, 'The start of the served app', startServed(home, ['--port', '0'], {}, join(root, 'src-main/serve.ts')));
const client = await connect(app.port, app.token);
const browser = await chromium.launch({ executablePath: browserPath, args: BROWSER_FLAGS });
try {
  await client.ask('settings.set', { welcomed: true, language: 'en', theme: 'system' });
  const ids = await makeRuns(client);
  mkdirSync(flags.out, { recursive: true });
  let bytes = 0;
  for (const shot of shots(ids)) {
    const file = await within(PAGE_MS, `The picture "${shot.name}" of ${shot.address}`, take(shot, browser, app.url));
    bytes += statSync(file).size;
    console.log(`${file}: ${Math.round(statSync(file).size / 1000)} kB`);
  }
  if (bytes > MOST_BYTES) throw new Error(`The pictures have ${bytes} bytes; ${MOST_BYTES} are allowed.`);
} finally {
  client.close();
  await within(20_000, 'The end of the browser', browser.close()).catch((error: Error) => console.error(error.message));
  await end(app);
  if (flags.home === undefined) rmSync(home, { recursive: true, force: true });
}
process.exit(); // what was not waited for must not keep this open
