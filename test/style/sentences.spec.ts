/** The main process's sentences in every language: each that a page may show has a translation with the same holes, and is found again whatever stands in them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src-main/base/errors.ts';
import { describeIssues, runConfigSchema } from '../../src-main/contract/run.ts';
import { KINDS, Translator, type Sentences } from '../../src-renderer/sentences.ts';
import { mainSentences } from '../helpers/main-words.ts';

const LOCALES = ['de', 'zh', 'ja'] as const;
const read = (locale: string, file: string): Sentences => JSON.parse(readFileSync(join(import.meta.dirname, `../../src-renderer/locales/${locale}/${file}.json`), 'utf8')) as Sentences;
const tables = Object.fromEntries(LOCALES.map((locale) => [locale, read(locale, 'sentences')])) as Record<(typeof LOCALES)[number], Sentences>;
const holes = (text: string): string[] => [...new Set([...text.matchAll(/\{(\d)#?\}/g)].map((match) => match[1]!))].sort();
const fill = (text: string, words: readonly string[]): string => text.replace(/\{(\d)#?\}/g, (_, at: string) => words[Number(at)]!);
/** Where nothing stands between two holes, only one of them holds something. */
const emptied = (text: string, words: readonly string[]): string[] => words.map((word, at) => (text.includes(`{${at - 1}}{${at}}`) ? '' : word));
const translator = (locale: (typeof LOCALES)[number]): Translator => new Translator(tables[locale], (digits) => digits, locale === 'de' ? ' ' : '');

/** What is wrong inside of a file of weights: a page names its kind and shows the English below. Such a sentence may have a translation, but need not. */
const INSIDE = /^(weights|models|pipeline|schedulers|rewards\/networks|engine\/engines)\//;

const sentences = mainSentences();
/** Every error is shown in the language at least by its kind: the compiler knows all of them. */
const kinds: Readonly<Record<ErrorCode, string>> = KINDS;

describe.each(LOCALES)('%s', (locale) => {
  const table = tables[locale];
  const known = { ...read(locale, 'said'), ...table };

  it('has words for every sentence of the main process that a page may show', () => {
    expect(sentences.length).toBeGreaterThan(700);
    expect(sentences.filter(({ file, text }) => !INSIDE.test(file) && !(text in known)), 'each with its translation into locales/*/sentences.json').toEqual([]);
  });

  it('has no sentence that nobody says any more', () => {
    const said = new Set(sentences.map(({ text }) => text));
    expect(Object.keys(table).filter((text) => !said.has(text))).toEqual([]);
  });

  it('leaves the same holes open', () => {
    expect(Object.entries(table).filter(([text, said]) => holes(text).join() !== holes(said).join())).toEqual([]);
  });

  it('finds each sentence again, whatever is in its holes, alone and before a hint', () => {
    const words = ['/home/ada/models/a.safetensors', 'ECONNRESET', '12.5', 'lora', '0x7f', 'fp16'];
    const say = translator(locale);
    const wrong = Object.entries(table).filter(([text]) => !['; ', ', and ', ', '].includes(text)).flatMap(([text, said]) => {
      const [full, wanted] = [fill(text, emptied(text, words)), fill(said, emptied(text, words))];
      const found = [say.say(full), /[.]$/.test(text) ? say.say(`${full} Try again.`) : null];
      return found[0] === wanted && (found[1] === null || found[1] === `${wanted}${locale === 'de' ? ' ' : ''}${table['Try again.']}`) ? [] : [{ text, found }];
    });
    expect(wrong).toEqual([]);
  });
});

describe('a sentence of the main process', () => {
  const say = new Translator(tables.de, (digits) => digits.replace('.', ','), ' ');

  it.each([
    ['within another, without its full stop', 'The model "x" cannot be used: /m/a.bin is a LoRA; this version reads Stable Diffusion 1.x, 2.x and SDXL base models. Use the SDXL base model.',
      'Das Modell „x“ ist nicht verwendbar: /m/a.bin ist eine LoRA; diese Version liest Basismodelle von Stable Diffusion 1.x, 2.x und SDXL. Das SDXL-Basismodell nehmen.'],
    ['with its hint, and a path full of dots', 'There is no run "a. b. c" in the history. It may have been deleted; look at the list of runs.',
      'Den Lauf „a. b. c“ gibt es nicht im Verlauf. Vielleicht wurde er gelöscht; in der Liste der Läufe nachsehen.'],
    ['with a list', 'This needs about 12.5 GB of memory (network gradient), 8.1 GB are available. What would fit: memory low (7.2 GB); batch 1, width 384, height 384 (6.0 GB).',
      'Das braucht etwa 12,5 GB Speicher (network gradient), verfügbar sind 8,1 GB. Hinein passen würde: Speicher low (7,2 GB); Batch 1, Breite 384, Höhe 384 (6,0 GB).'],
    ['of a verdict', 'Finished, but the pictures did not change, and the reward did not rise on held-out prompts: 0.2511 -> 0.2509.',
      'Fertig, aber die Bilder haben sich nicht verändert, und der Reward stieg nicht auf zurückgehaltenen Prompts: 0,2511 -> 0,2509.'],
    ['with words of the system in it', 'The history /h/history.sqlite cannot be opened: EACCES: permission denied, open. Check that the file can be read and written.',
      'Der Verlauf /h/history.sqlite lässt sich nicht öffnen: EACCES: permission denied, open. Prüfen, ob die Datei gelesen und geschrieben werden kann.'],
    ['that failed with what led to it', 'The engine crashed (SIGSEGV): bad alloc. If it happens again, choose the wasm engine in Settings. Resume goes on from step 20.',
      'Die Engine ist abgestürzt (SIGSEGV): bad alloc. Wenn es wieder geschieht, in den Optionen die Engine wasm wählen. „Fortsetzen“ geht ab Schritt 20 weiter.'],
  ])('is said %s', (_, english, german) => expect(say.say(english)).toBe(german));

  it.each(['A prompt of mine. It has two sentences.', 'a red apple', 'ENOENT: no such file or directory', '', 'x'.repeat(5000)])('is none: %s', (text) => expect(say.say(text)).toBeNull());

  it('stays English among others that are not, where some are unknown', () => {
    const text = 'Something odd happened. Try again.';
    expect(say.say(text)).toBeNull();
    expect(say.sayPartly(text)).toBe('Something odd happened. Noch einmal versuchen.');
    expect(say.sayPartly(`Try again. ${text}`)).toBe('Noch einmal versuchen. Something odd happened. Try again.');
  });

  it('is also what is wrong with settings, each by itself and all together', () => {
    const wrong = runConfigSchema.safeParse({
      model: 'x', prompts: 5, steps: 0, guidance: -1, batch: 1.5, scheduler: 'x', ema: 1, eta: 2, guidanceRange: [3, 1], keepCheckpoints: 1, rewards: [], lora: { alpha: 0 }, optimizer: { lr: 'a' }, width: Number.NaN, negativePrompt: 4, steeps: 3,
    }).error!;
    for (const { code, message } of wrong.issues) if (code !== 'unrecognized_keys') expect(say.say(message), message).not.toBeNull();
    expect(say.say(describeIssues(wrong))).toBe('prompts: ungültige Eingabe; negativePrompt: Text erwartet, nicht number; width: Zahl erwartet, nicht NaN; scheduler: möglich sind "ddim"|"euler"|"euler-a"|"dpmpp2m"|"dpmpp2m-karras"|"lcm"|"tcd"; '
      + 'eta: darf höchstens 1 sein; steps: muss mindestens 1 sein; guidance: muss mindestens 0 sein; guidanceRange: die erste Zahl darf nicht über der zweiten liegen; rewards: braucht mindestens 1 Einträge; lora.alpha: muss größer als 0 sein; '
      + 'optimizer.lr: Zahl erwartet, nicht string; batch: ganze Zahl erwartet; ema: muss kleiner als 1 sein; keepCheckpoints: muss 0 (alle) oder mindestens 2 sein; config: unbekannter Schlüssel „steeps“ (gemeint „steps“?)');
  });

  it('has a kind in words where its own are not known', () => expect(Object.values(kinds).every((key) => /^(error|work)\.\w+$/.test(key))).toBe(true));

  it('costs little, even the longest text that nobody knows', () => {
    const fresh = new Translator(tables.de, (digits) => digits, ' ');
    fresh.say('warm. up');
    const text = 'one of {0} has "two", and three (four): five; six. '.repeat(19);
    const start = performance.now();
    fresh.say(text);
    expect(performance.now() - start).toBeLessThan(5000);
  });
});
