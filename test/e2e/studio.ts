/** The built pages in a real browser against the served app: builds what is stale, starts both, collects console errors. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AxeBuilder } from '@axe-core/playwright';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { BROWSER_FLAGS } from '../helpers/browser.ts';
import { startServed, type ServedApp } from '../helpers/served-app.ts';

const root = join(import.meta.dirname, '../..');

function newest(folder: string): number {
  return Math.max(0, ...readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs));
}

/** @throws Error with vite's words where the pages do not build */
export function ensurePages(): void {
  const built = join(root, 'out/renderer/index.html');
  if (existsSync(built) && statSync(built).mtimeMs >= Math.max(newest(join(root, 'src-renderer')), newest(join(root, 'src-main/contract')))) return;
  const vite = spawnSync(process.execPath, [join(root, 'node_modules/vite/bin/vite.js'), 'build', '-c', 'src-renderer/vite.config.ts', '--logLevel', 'warn'], { cwd: root, encoding: 'utf8' });
  if (vite.status !== 0) throw new Error(`The pages do not build: ${vite.stderr}`);
}

export interface Studio {
  page: Page; context: BrowserContext; browser: Browser; app: ServedApp; home: string;
  /** What the browser's console and the pages complained about so far. */
  complaints: string[];
  /** Goes to a page of the app by its address behind #. */
  go(hash: string): Promise<void>;
  close(): Promise<void>;
}

export async function openStudio(executablePath: string, options: { env?: Record<string, string>; start?: (home: string) => Promise<ServedApp> } = {}): Promise<Studio> {
  ensurePages();
  const home = mkdtempSync(join(tmpdir(), 'drtune-e2e-'));
  const app = await (options.start?.(home) ?? startServed(home, ['--port', '0'], { DRTUNE_FAKE_STEP_MS: '250', ...options.env }));
  const browser = await chromium.launch({ executablePath, args: BROWSER_FLAGS });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(`${message.type()}: ${message.text()} (${message.location().url.replace(/token=[^&]+/, 'token=...')})`);
  });
  page.on('pageerror', (error) => complaints.push(`thrown: ${error.message}`));
  await page.goto(app.url);
  await page.locator('main h1').first().waitFor(); // the frame stands before the first page is chosen, and that choice would undo a change of the address
  return {
    page, context, browser, app, home, complaints,
    async go(hash) {
      await page.evaluate((to) => (window.location.hash = to), hash);
      await page.waitForTimeout(150);
    },
    async close() {
      await browser.close();
      app.process.kill('SIGTERM');
      await app.exit;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Serious and critical findings of axe on the page as it is, one line each. */
export async function axeFindings(page: Page, rules?: string[]): Promise<string[]> {
  const axe = new AxeBuilder({ page });
  const { violations } = await (rules ? axe.withRules(rules) : axe.withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'])).analyze();
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')} ${node.any[0]?.message ?? node.failureSummary ?? ''}`));
}

/** Mean absolute difference of two pictures on the page, 0 to 255, over their pixels. */
export async function pixelDifference(page: Page, urls: [string, string]): Promise<number> {
  return page.evaluate(async (sources) => {
    const pixels = await Promise.all(sources.map(async (source) => {
      const bitmap = await createImageBitmap(await (await fetch(source)).blob());
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const context = canvas.getContext('2d')!;
      context.drawImage(bitmap, 0, 0);
      return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
    }));
    const [a, b] = pixels as [Uint8ClampedArray, Uint8ClampedArray];
    let sum = 0;
    for (let index = 0; index < a.length; index++) sum += Math.abs(a[index]! - b[index]!);
    return sum / a.length;
  }, urls);
}

/** Fills in the smallest run there is: two prompts, few steps. */
export async function fillTinyRun(page: Page, { name, model, iterations = 3, prompts = ['a red apple', 'a blue boat'] }: { name: string; model: string; iterations?: number; prompts?: string[] }): Promise<void> {
  await page.getByLabel('Name').fill(name);
  await page.locator(`input[name="model"][value="${model}"]`).check({ force: true });
  await page.getByLabel('Trained, one a line').fill(prompts.join('\n'));
  await page.locator('#held-out').fill('a green frog');
  const settings = page.locator('details', { hasText: 'Every setting' });
  if (!(await settings.evaluate((element) => (element as HTMLDetailsElement).open))) await settings.locator('summary').click();
  const set = async (id: string, value: string) => {
    await page.locator(`#set-${id}`).fill(value);
    await page.locator(`#set-${id}`).press('Tab');
  };
  await set('steps', '4');
  await set('earlyStop', '0');
  await set('trainedSteps', '2');
  await set('iterations', String(iterations));
  await set('batch', '1');
  await set('sampleEvery', '1');
  await set('samplePrompts', '2');
}
