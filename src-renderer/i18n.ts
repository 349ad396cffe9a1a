/**
 * The app's words in four languages. English is in the bundle and gives the keys their types, the others are loaded when chosen.
 * Numbers, dates and plurals are Intl's. Nothing is compiled to code: the content policy allows no `new Function`.
 */
import { createI18n } from 'vue-i18n';
import type { Settings } from '#contract/api.ts';
import en from './locales/en.ts';
import type { Messages } from './locales/messages.ts';
import { Translator, type Sentences } from './sentences.ts';

export const LOCALES = ['en', 'de', 'zh', 'ja'] as const;
export type Locale = (typeof LOCALES)[number];
/** What each language calls itself. */
export const LANGUAGES: Readonly<Record<Locale, string>> = { en: 'English', de: 'Deutsch', zh: '中文', ja: '日本語' };
/** For `lang`: it also tells the browser which country's shapes of Chinese characters to draw. */
const TAGS: Readonly<Record<Locale, string>> = { en: 'en', de: 'de', zh: 'zh-Hans', ja: 'ja' };

type Leaves<T, At extends string = ''> = { [K in keyof T & string]: T[K] extends string ? `${At}${K}` : Leaves<T[K], `${At}${K}.`> }[keyof T & string];
/** Every key of the English files, such as "runs.title". */
export type MessageKey = Leaves<typeof en>;

const LOADERS: Readonly<Record<Exclude<Locale, 'en'>, () => Promise<{ default: Messages }>>> = { de: () => import('./locales/de.ts'), zh: () => import('./locales/zh.ts'), ja: () => import('./locales/ja.ts') };

/** The first form is for what Intl calls one ("1 run"), the last for all others; languages without number have one form. */
const plural = (locale: Locale) => (n: number, forms: number): number => (new Intl.PluralRules(locale).select(n) === 'one' ? 0 : forms - 1);

export const i18n = createI18n({
  legacy: false, locale: 'en' as string, fallbackLocale: 'en', missingWarn: false, fallbackWarn: false,
  messages: { en } as Record<string, Messages>,
  pluralRules: Object.fromEntries(LOCALES.map((locale) => [locale, plural(locale)])),
});

/** The language that is shown. Read in a template or computed value, it is followed. */
export const locale = (): Locale => i18n.global.locale.value as Locale;

/** For Intl: the system's own variety of the language, such as en-GB, where it names one. */
export const region = (): string => globalThis.navigator?.languages?.find((tag) => tag.slice(0, 2).toLowerCase() === locale()) ?? locale();

const formats = new Map<string, Intl.NumberFormat>();
/** A number as the language writes it. */
export function number(x: number, options: Intl.NumberFormatOptions = {}): string {
  const key = `${region()} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(region(), options));
  return formats.get(key)!.format(x);
}

/** A message in the language shown, English where it has none. Numbers are written as the language does; `n` also picks the plural. */
export function t(key: MessageKey, named: Readonly<Record<string, string | number>> = {}): string {
  const written = Object.fromEntries(Object.entries(named).map(([name, x]) => [name, typeof x === 'number' ? number(x) : x]));
  return i18n.global.t(key, written, typeof named['n'] === 'number' ? { plural: named['n'] } : {});
}

/** Text that the command line shows too and that therefore comes in English (rewards, presets, settings, alarms, verdicts, errors): its translation, or the text. */
export function fromMain(text: string): string {
  return translation(text) ?? translator().sayPartly(text) ?? text;
}

/** The same, null where the language has not words for all of it; English is English's. */
export function translation(text: string): string | null {
  const shown = locale();
  if (shown === 'en') return text;
  const { said } = i18n.global.getLocaleMessage(shown) as { said?: Sentences };
  return said && Object.hasOwn(said, text) ? said[text]! : translator().say(text);
}

const translators = new Map<Locale, Translator>();
function translator(): Translator {
  const shown = locale();
  const { said = {}, sentences } = i18n.global.getLocaleMessage(shown) as { said?: Sentences; sentences?: Sentences };
  if (!translators.has(shown)) translators.set(shown, new Translator({ ...phrases(said), ...sentences }, digits, shown === 'de' ? ' ' : ''));
  return translators.get(shown)!;
}

/** What can stand within a sentence: no titles or single words, which a name may be too. */
const phrases = (said: Sentences): Sentences => Object.fromEntries(Object.entries(said).filter(([text]) => /^[a-z].* .* /.test(text)));

/** Digits such as "0.50" as the language writes them, with as many decimals. */
function digits(text: string): string {
  const decimals = text.split('.')[1]?.length ?? 0;
  return number(Number(text), { minimumFractionDigits: decimals, maximumFractionDigits: decimals, useGrouping: false });
}

const KEPT = 'drtune.locale';

/** The language of a choice; "system" takes the first one of the system's that there is. */
export function localeOf(choice: Settings['language'], system: readonly string[] = globalThis.navigator?.languages ?? []): Locale {
  if (choice !== 'system') return choice;
  const known = system.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => (LOCALES as readonly string[]).includes(tag));
  return (known as Locale | undefined) ?? 'en';
}

/** Shows the app in a language from now on. */
export async function setLanguage(choice: Settings['language']): Promise<void> {
  const next = localeOf(choice);
  if (next !== 'en' && !i18n.global.availableLocales.includes(next)) i18n.global.setLocaleMessage(next, (await LOADERS[next]()).default);
  i18n.global.locale.value = next;
  document.documentElement.lang = TAGS[next];
  localStorage.setItem(KEPT, choice);
}

/** The choice of last time, before the settings have come: the first words are right at once. */
export function keptLanguage(): Settings['language'] {
  const kept = localStorage.getItem(KEPT);
  return (LOCALES as readonly (string | null)[]).includes(kept) ? (kept as Locale) : 'system';
}
