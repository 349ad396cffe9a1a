/** The browser of the end-to-end tests: one on the machine, else playwright's own download, else Debian's package (as root). */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { chromium } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'microsoft-edge', 'chrome', 'msedge'];
const USUAL_PLACES = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
  'C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe',
];

/** Flags under which Chromium runs as root, without a screen, and asks nothing of the network. */
export const BROWSER_FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Path of a browser on this machine, or undefined. */
export function findBrowser(): string | undefined {
  const chosen = process.env['DRTUNE_TEST_BROWSER'];
  if (chosen) return chosen;
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const onPath = (process.env['PATH'] ?? '').split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name + suffix)));
  const own = chromium.executablePath();
  return [...onPath, ...USUAL_PLACES, own].find((path) => path && isExecutable(path));
}

function isDebianRoot(): boolean {
  const release = '/etc/os-release';
  return process.getuid?.() === 0 && existsSync(release) && /debian|ubuntu/i.test(readFileSync(release, 'utf8'));
}

/** Finds a browser or brings one in; undefined (and a line that says so) where none can be had. */
export function ensureBrowser(): string | undefined {
  const found = findBrowser();
  if (found) return found;
  console.log('No browser found: trying playwright\'s own ...');
  const cli = join(import.meta.dirname, '../../node_modules/playwright-core/cli.js');
  spawnSync(process.execPath, [cli, 'install', 'chromium'], { stdio: 'ignore', timeout: 300_000 });
  if (!findBrowser() && isDebianRoot()) {
    console.log('... and Debian\'s package ...');
    spawnSync('sh', ['-c', 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium'], { stdio: 'ignore', timeout: 600_000 });
  }
  const browser = findBrowser();
  if (!browser) console.log('NO BROWSER: the end-to-end tests are skipped. Install Chrome, Chromium or Edge to run them.');
  return browser;
}
