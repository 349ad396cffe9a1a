/**
 * `npm test [FILTER...]`: every test that needs no real checkpoint and no GPU. Says aloud what is skipped and why; the last line is
 * `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { drtuneHome } from '../src-main/base/paths.ts';
import { ensureBrowser } from './helpers/browser.ts';

interface Assertion { status: string; fullName: string }
interface Report { numTotalTests: number; testResults: { name: string; status: string; message: string; assertionResults: Assertion[] }[] }

const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'drtune-test-'));
const reportFile = join(folder, 'report.json');

const browser = ensureBrowser();
const result = spawnSync(
  process.execPath,
  [
    join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--config', join(root, 'test/vitest.config.ts'),
    '--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`, ...process.argv.slice(2),
  ],
  {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: {
      ...process.env,
      // Tests write into a folder of their own and share the installed engines, so that nothing is fetched twice.
      DRTUNE_HOME: join(folder, 'home'),
      DRTUNE_ENGINES: process.env['DRTUNE_ENGINES'] ?? join(drtuneHome(), 'engines'),
      ...(browser ? { DRTUNE_TEST_BROWSER: browser } : {}),
    },
  },
);

let passed = 0;
let failed = 0;
const skipped: string[] = [];
try {
  const report = JSON.parse(readFileSync(reportFile, 'utf8')) as Report;
  for (const file of report.testResults) {
    const name = relative(root, file.name);
    // A file that does not load holds no assertions: it is a failure all the same.
    if (file.status === 'failed' && !file.assertionResults.some((each) => each.status === 'failed')) {
      failed += 1;
      console.log(`failed to run: ${name}: ${file.message}`);
    }
    for (const each of file.assertionResults) {
      if (each.status === 'passed') passed += 1;
      else if (each.status === 'failed') failed += 1;
      else skipped.push(`${name}: ${each.fullName}`);
    }
  }
} catch (error) {
  console.log(`The test run left no report: ${String(error)}`);
  failed += 1;
}
rmSync(folder, { recursive: true, force: true });
if (result.status !== 0 && failed === 0) failed = 1;

if (skipped.length > 0) console.log(`\nSKIPPED, ${skipped.length} (what they need is not on this machine):\n${skipped.map((line) => `  ${line}`).join('\n')}`);
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
