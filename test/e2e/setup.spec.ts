/** The first start, on a fresh data folder and against a registry that stalls: set up, cancel, kill, go on, from a file, first picture, first run. */
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBrowser } from '../helpers/browser.ts';
import { startServed } from '../helpers/served-app.ts';
import { FakeRegistry, pack, wheel } from '../unit/hub/fake-registry.ts';
import { axeFindings, openStudio, type Studio } from './studio.ts';

const browser = ensureBrowser();
const until = <T>(get: () => T) => expect.poll(get, { timeout: 20_000 });

describe.skipIf(!browser)('the first start', { timeout: 60_000 }, () => {
  let studio: Studio;
  let registry: FakeRegistry;
  let env: Record<string, string>;
  const part = (): number => statSync(join(studio.home, 'engines/downloads', `${pack.file}.part`), { throwIfNoEntry: false })?.size ?? 0;
  const ranges = (): (string | undefined)[] => registry.requests.map(({ range }) => range);

  beforeAll(async () => {
    registry = new FakeRegistry();
    env = {
      DRTUNE_PACKAGE_INDEX: await registry.open(), NO_PROXY: '127.0.0.1', DRTUNE_ENGINES: '', DRTUNE_HELPER: join(import.meta.dirname, '../helpers/fake-pack-helper.ts'),
      DRTUNE_FAKE_STEP_MS: '30',
    };
    studio = await openStudio(browser!, { env });
  }, 120_000);
  afterAll(async () => {
    studio?.app.process.kill('SIGKILL'); // the one started after the kill
    await studio?.close();
    await registry?.close();
  }, 60_000);

  /** Ends the app as a power cut would, and starts it again on the same folder. */
  async function killAndStart(): Promise<void> {
    studio.app.process.kill('SIGKILL');
    await studio.app.exit;
    studio.app = await startServed(studio.home, ['--port', '0'], env);
    await studio.page.goto(studio.app.url);
  }

  it('opens on what it is, and checks room, memory and engine', async () => {
    const { page } = studio;
    await page.waitForURL(/#\/setup$/);
    await page.getByRole('heading', { name: 'Teach a picture model what you like' }).waitFor();
    await page.locator('[data-test="check-disk"][data-state="good"]').getByText(/free; engine and first run take/).waitFor();
    await page.locator('[data-test="check-memory"]:not([data-state="wait"])').waitFor();
    await page.locator('[data-test="check-engine"][data-state="warn"]').getByText(/slower than TensorFlow/).waitFor();
    expect(await page.locator('[data-test="pack"]').textContent()).toContain('download of');
    expect(registry.requests).toEqual([]);
  });

  it('axe finds nothing, in both themes', async () => {
    const { page } = studio;
    for (const scheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: scheme });
      await until(() => page.evaluate(() => document.documentElement.dataset['theme'])).toBe(scheme);
      expect(await axeFindings(page, scheme === 'dark' ? ['color-contrast'] : undefined)).toEqual([]);
    }
  });

  it('by keys alone: starts the download, shows true bytes while it stalls, and stops keeping what is there', async () => {
    const { page } = studio;
    registry.behaviours = [{ do: 'stall', after: 100_000 }, ...Array.from({ length: 20 }, () => ({ do: 'stall', after: 0 }) as const)];
    const install = page.getByRole('button', { name: 'Install', exact: true });
    for (let steps = 0; steps < 40 && !(await install.evaluate((button) => button === document.activeElement)); steps++) await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('progressbar', { name: 'Engine pack' }).waitFor();
    await until(part).toBeGreaterThanOrEqual(100_000);
    await page.getByText(/^\d+ kB of \d+ kB · nothing arrives just now$/).waitFor();
    await page.getByText(/No data for 1.5 s\. Trying again/).waitFor();
    expect(await axeFindings(page)).toEqual([]);
    await page.getByRole('button', { name: 'Cancel' }).press('Enter');
    await page.getByText(/are here\. It goes on where it stopped\./).waitFor();
    expect(part()).toBeGreaterThanOrEqual(100_000);
    expect(await page.getByRole('alert').count()).toBe(0);
  });

  it('killed on the way: opens on the same page and goes on by itself where it was', async () => {
    const { page } = studio;
    registry.behaviours = [{ do: 'stall', after: 50_000 }, ...Array.from({ length: 20 }, () => ({ do: 'stall', after: 0 }) as const)];
    const before = part();
    await page.getByRole('button', { name: 'Go on' }).click();
    await until(part).toBeGreaterThanOrEqual(before + 50_000);
    expect(ranges()).toContain(`bytes=${before}-`);
    await killAndStart();
    await page.waitForURL(/#\/setup$/);
    await page.getByRole('progressbar', { name: 'Engine pack' }).waitFor();
    const kept = part();
    expect(kept).toBeGreaterThanOrEqual(before + 50_000);
    registry.behaviours = []; // the network is back
    await page.locator('[data-test="check-engine"][data-state="good"]').getByText(/^TensorFlow 2.21.0 works/).waitFor({ timeout: 30_000 });
    expect(ranges().slice(1)).not.toContain(undefined); // never from the beginning again
    expect(existsSync(join(studio.home, 'engines/downloads', `${pack.file}.part`))).toBe(false);
  });

  it('one click to the first picture', async () => {
    const { page } = studio;
    expect(await page.getByLabel('Prompt').inputValue()).toMatch(/fox/);
    await page.locator('[data-test="paint"]').click();
    await page.getByRole('img', { name: 'a flat icon of a fox on a teal background' }).waitFor();
    await page.getByRole('button', { name: 'Paint another' }).waitFor();
  });

  it('one click to the first run; after that the page does not come back by itself, but from Settings', async () => {
    const { page, go } = studio;
    await page.locator('[data-test="first-run"]').click();
    await page.waitForURL(/#\/runs\//);
    await page.getByText('40', { exact: false }).first().waitFor();
    await page.goto('about:blank');
    await page.goto(studio.app.url);
    await page.getByRole('heading', { name: 'Runs', exact: true }).waitFor();
    expect(page.url()).not.toContain('setup');
    await go('/settings');
    await page.getByRole('link', { name: 'Open', exact: true }).click();
    await page.getByRole('heading', { name: 'Teach a picture model what you like' }).waitFor();
    await page.getByRole('link', { name: 'Use my own model' }).click();
    await page.waitForURL(/#\/models$/);
  });

  it('from a file, without a network: another file is refused in one line, the right one is installed and left where it was', async () => {
    registry.behaviours = Array.from({ length: 40 }, () => ({ do: 'status', status: 403 }) as const);
    const other = await openStudio(browser!, { env });
    try {
      const { page, home } = other;
      const [wrong, right] = [join(home, 'models/wrong.whl'), join(home, 'models', pack.file)];
      await page.getByRole('button', { name: 'From a file…' }).click();
      await page.getByText(new RegExp(`bring the file ${pack.file}`)).waitFor();
      mkdirSync(join(home, 'models'), { recursive: true });
      writeFileSync(wrong, wheel.subarray(0, 5000));
      writeFileSync(right, wheel);
      const field = page.getByLabel('Path of the file on this machine');
      await field.fill('/etc/passwd');
      await page.getByRole('button', { name: 'Use this file' }).click();
      await page.getByText(/outside of what a page may read/).waitFor();
      await field.fill(wrong);
      await page.getByRole('button', { name: 'Use this file' }).click();
      await page.getByRole('alert').getByText(/is another file, or damaged.*Expected tensorflow_cpu/).waitFor();
      if (!(await field.isVisible())) await page.getByRole('button', { name: 'From a file…' }).click();
      await field.fill(right);
      await page.getByRole('button', { name: 'Use this file' }).click();
      await page.locator('[data-test="check-engine"][data-state="good"]').getByText(/^TensorFlow/).waitFor();
      expect(existsSync(right)).toBe(true);
      expect(registry.requests.some(({ path }) => path.startsWith('/files/') && registry.behaviours.length < 40)).toBe(false);
    } finally {
      await other.close();
    }
  });

  it('left nothing in the console', () => {
    expect(studio.complaints.filter((line) => !/WebSocket connection|ERR_CONNECTION_REFUSED/.test(line))).toEqual([]);
  });
});
