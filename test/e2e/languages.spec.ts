/** Every page in every language, narrow and wide: nothing scrolls sideways, no word is cut off, axe finds nothing, and nothing is compiled at run time. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Client } from '../helpers/served-app.ts';
import { ensureBrowser } from '../helpers/browser.ts';
import { config } from '../helpers/temp-home.ts';
import { axeFindings, openStudio, type Studio } from './studio.ts';

const browser = ensureBrowser();
const LANGUAGES = { en: 'en', de: 'de', zh: 'zh-Hans', ja: 'ja' } as const;
const WIDTHS = [900, 1440];
/** What words can break; colours and roles do not depend on the language and are looked at elsewhere. */
const RULES = ['html-has-lang', 'html-lang-valid', 'document-title', 'button-name', 'link-name', 'label', 'select-name', 'image-alt', 'aria-input-field-name', 'aria-valid-attr-value', 'heading-order'];

/** What does not fit, by its text. Names and prompts may be shortened: they are the user's, and have their full text as a title. */
function tooWide(): string[] {
  const wrong: string[] = [];
  const over = (element: Element): boolean => element.scrollWidth > element.clientWidth + 1;
  for (const [name, element] of [['the window', document.documentElement], ['the page', document.getElementById('main')!], ['the status bar', document.querySelector('footer')!]] as const) {
    if (element && over(element)) wrong.push(`${name} is ${element.scrollWidth} wide, of ${element.clientWidth}`);
  }
  const { scrollHeight, clientHeight } = document.documentElement;
  if (scrollHeight > clientHeight + 1) wrong.push(`the window is ${scrollHeight} high, of ${clientHeight}: it scrolls beside the page`);
  for (const element of Array.from(document.querySelectorAll<HTMLElement>('button, a, label, legend, summary, [role="tab"], .btn, .chip, .tag, .tab, h1, h2, h3, th, dt, nav a > span'))) {
    const style = getComputedStyle(element);
    if (style.display === 'inline' || style.visibility === 'hidden' || element.offsetParent === null || element.closest('.sr-only') || element.matches('.sr-only')) continue;
    if (element.matches('.truncate, [class*="line-clamp"]') || element.querySelector('.truncate, [class*="line-clamp"], .sr-only, svg:only-child')) continue;
    if (over(element)) wrong.push(`${element.tagName.toLowerCase()} "${element.innerText.trim().slice(0, 60)}" is ${element.scrollWidth} wide, of ${element.clientWidth}`);
  }
  return wrong;
}

describe.skipIf(!browser)('the languages in a browser', { timeout: 240_000 }, () => {
  let studio: Studio;
  let client: Client;
  let run = '';
  let pages: string[] = [];
  beforeAll(async () => {
    studio = await openStudio(browser!, { env: { DRTUNE_FAKE_STEP_MS: '20' } });
    client = await connect(studio.app.port, studio.app.token);
    const started = await client.ask('runs.start', { name: 'A run', config: config({ iterations: 6, sampleEvery: 2, checkpointEvery: 2 }) });
    run = started.id;
    while ((await client.ask('runs.get', { id: run })).summary.state !== 'finished') await new Promise((resolve) => setTimeout(resolve, 100));
    pages = ['/', '/?view=trash', '/new', `/runs/${run}`, `/compare?run=${run}`, '/models', '/rewards', '/rewards/score', '/settings', '/logs', '/guides', '/setup'];
  }, 180_000);
  afterAll(async () => {
    client?.close();
    await studio?.close();
  }, 60_000);

  it.each(Object.entries(LANGUAGES))('%s: chosen in Settings it is there at once and after a reload', async (language, tag) => {
    const { page, go } = studio;
    await go('/settings');
    const words = await page.locator('main h1').innerText();
    await page.locator('select').filter({ has: page.locator('option[value="ja"]') }).selectOption(language);
    await expect.poll(() => page.evaluate(() => document.documentElement.lang)).toBe(tag);
    await expect.poll(async () => (await page.locator('main h1').innerText()) === words).toBe(language === 'en');
    await page.reload();
    await expect.poll(() => page.evaluate(() => document.documentElement.lang)).toBe(tag);
  });

  it.each(Object.keys(LANGUAGES))('%s: every page fits at every width, and axe finds nothing', async (language) => {
    const { page, go } = studio;
    await client.ask('settings.set', { language: language as keyof typeof LANGUAGES });
    await page.reload();
    const found: string[] = [];
    for (const path of pages) {
      await go(path);
      await page.waitForFunction(() => document.querySelector('main h1') !== null && document.querySelector('[aria-busy="true"]') === null);
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 900 });
        await page.waitForTimeout(60);
        for (const each of await page.evaluate(tooWide)) found.push(`${path} at ${width}: ${each}`);
      }
      for (const each of await axeFindings(page, RULES)) found.push(`${path}: ${each}`);
    }
    expect(found).toEqual([]);
  });

  it('left nothing in the console: the content policy was never broken', () => {
    expect(studio.complaints).toEqual([]);
  });
});
