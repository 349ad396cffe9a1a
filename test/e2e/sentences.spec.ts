/** What the main process says, on German pages in a browser: alarms, a verdict, why a run failed, errors with their hints; and in Japanese after a change of language. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crashWords } from '../../src-main/app/crash-words.ts';
import { writeStoredZip } from '../../src-main/app/stored-zip.ts';
import { RunRecorder } from '../../src-main/app/run-recorder.ts';
import type { TrainerEvent } from '../../src-main/contract/events.ts';
import { findAlarms } from '../../src-main/train/alarms.ts';
import { verdictOf } from '../../src-main/train/verdict.ts';
import { ensureBrowser } from '../helpers/browser.ts';
import { connect, startServed, type Client } from '../helpers/served-app.ts';
import { config, started, step } from '../helpers/temp-home.ts';
import { openStudio, type Studio } from './studio.ts';

const browser = ensureBrowser();
const PATIENT = { timeout: 10_000 };

describe.skipIf(!browser)('what the main process says, in a browser', { timeout: 120_000 }, () => {
  let studio: Studio;
  let client: Client;
  const ids: Record<string, string> = {};

  /** Runs of a history that was written before the app starts, with the words of the real alarms, verdicts and crashes. */
  function writeRuns(home: string): void {
    const recorder = RunRecorder.open(home);
    const run = (name: string, events: readonly TrainerEvent[]): void => {
      ids[name] = recorder.createRun({ name, config: config({ iterations: 20 }) });
      for (const event of [started({ iterations: 20 }), step(20), ...events]) recorder.record(ids[name], event);
    };
    const measures = { rewards: { clipscore: 0.31 }, edgeDensity: 0.2, saturation: 0.4, contrast: 0.3, colorEntropy: 4.2 };
    const alarms = findAlarms(20, { base: measures, tuned: { ...measures, edgeDensity: 0.05, saturation: 0.7, rewards: { clipscore: 0.2 } }, heldOutRewards: ['clipscore'], best: 10 });
    const verdict = verdictOf({ changed: false, rewards: [0.4125, 0.41], on: 'on held-out prompts', problem: null });
    run('Gamed', [...alarms.reverse(), { type: 'finished', reason: 'completed', step: 20, seconds: 5, verdict }]);
    const { message, hint } = crashWords({ code: null, signal: 'SIGKILL' }, '', ['memory low (about 1.5 GB less)', 'batch 1 (about 0.4 GB less)']);
    run('Killed', [{ type: 'finished', reason: 'failed', step: 20, message, hint: `${hint} ${recorder.resumeWords(ids['Gamed']!)}`, seconds: 5 }]);
    recorder.close();
  }

  beforeAll(async () => {
    studio = await openStudio(browser!, { start: (home) => {
      writeRuns(home);
      writeStoredZip(join(home, 'weights/big.ckpt'), [{ name: 'x/data.pkl', content: Buffer.from('x') }, { name: 'x/byteorder', content: Buffer.from('big') }]);
      return startServed(home, ['--port', '0', '--files', join(home, 'weights')]);
    } });
    client = await connect(studio.app.port, studio.app.token);
    await client.ask('settings.set', { language: 'de' });
    await studio.page.reload();
    await studio.page.waitForFunction(() => document.documentElement.lang === 'de');
  }, 60_000);
  afterAll(async () => {
    client?.close();
    await studio?.close();
  }, 60_000);

  const main = (): Promise<string> => studio.page.locator('main').innerText();

  it('a run\'s alarms with their remedies, and its verdict', async () => {
    await studio.go(`/runs/${ids['Gamed']}`);
    await expect.poll(main, PATIENT).toContain('Die Bilder werden leer: ihre Kantendichte liegt bei 25 % der Basis.');
    await studio.page.locator('main details summary').first().click();
    const text = await main();
    expect(text).toContain('Die Farben werden grell: Sättigung 0,70, die Basis hat 0,40.');
    expect(text).toContain('Der zurückgehaltene Reward clipscore fällt: 0,200, die Basis hat 0,310.');
    expect(text).toContain('Anhalten und zu Schritt 10 zurückgehen, dem besten nach den zurückgehaltenen Prompts; dann die Lernrate senken');
    expect(text).toContain('Fertig, aber die Bilder haben sich nicht verändert, und der Reward stieg nicht auf zurückgehaltenen Prompts: 0,4125 -> 0,4100.');
  });

  it('why a run failed, and what would help', async () => {
    await studio.go(`/runs/${ids['Killed']}`);
    await expect.poll(main, PATIENT).toContain('Das Betriebssystem hat den Trainer beendet (SIGKILL), vermutlich aus Speichermangel. Weniger Speicher braucht: Speicher low (etwa 1,5 GB weniger); Batch 1 (etwa 0,4 GB weniger). '
      + 'Es gibt noch keinen Checkpoint: „Fortsetzen“ beginnt von vorn.');
  });

  it('errors and what to do: in words where there are some, otherwise by their kind above the English', async () => {
    await studio.go('/runs/nobody');
    await expect.poll(main, PATIENT).toContain('Den Lauf „nobody“ gibt es nicht im Verlauf.');
    expect(await main()).toContain('Vielleicht wurde er gelöscht; in der Liste der Läufe nachsehen.');
    await studio.go('/models');
    const path = studio.page.locator('#model-path');
    const alert = (): Promise<string> => studio.page.locator('#model-path-error').innerText();
    await path.fill(join(studio.home, 'weights/nothing.safetensors'));
    await path.press('Enter');
    await expect.poll(alert, PATIENT).toContain(`Einen Ordner oder eine Datei ${join(studio.home, 'weights/nothing.safetensors')} gibt es nicht.`);
    await path.fill(join(studio.home, 'weights/big.ckpt'));
    await path.press('Enter');
    await expect.poll(alert, PATIENT).toContain('Eine Modelldatei ist nicht verwendbar.');
    expect(await alert()).toMatch(/was written by a big-endian machine\./);
  });

  it('settings that cannot be, and engines with their reasons', async () => {
    await studio.go('/settings');
    await expect.poll(main, PATIENT).toContain('immer da');
    await studio.go('/new');
    const iterations = studio.page.locator('input[id$="iterations"]');
    await studio.page.locator('main summary, main [aria-expanded="false"]').evaluateAll((all) => all.forEach((each) => (each as HTMLElement).click()));
    await iterations.fill('0');
    await iterations.press('Tab');
    await expect.poll(main, PATIENT).toContain('muss mindestens 1 sein');
  });

  it('another language changes what stands there', async () => {
    await studio.go(`/runs/${ids['Gamed']}`);
    await client.ask('settings.set', { language: 'ja' });
    await studio.page.reload();
    await expect.poll(main, PATIENT).toContain('画像が空白になりつつあります: エッジ密度がベースの 25 % です。');
    await client.ask('settings.set', { language: 'zh' });
    await studio.page.reload();
    await expect.poll(main, PATIENT).toContain('图片正变得空白：边缘密度为基础图的 25 %。');
  });
});
