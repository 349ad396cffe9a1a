/** The app's languages: the same keys and placeholders in each, every key used and there, no English left in the pages. */
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import ts from 'typescript';
import { parse } from 'vue/compiler-sfc';
import { createI18n } from 'vue-i18n';
import { describe, expect, it } from 'vitest';
import { REWARDS } from '../../src-main/rewards/index.ts';

const root = join(import.meta.dirname, '../../src-renderer');
const LOCALES = ['en', 'de', 'zh', 'ja'];
/** Text that comes in English and is looked up by itself: rewards, presets, catalogue, a run's settings, stages of work; and sentences, see sentences.spec.ts. */
const SAID = 'said';
const BY_TEXT = [`${SAID}.`, 'sentences.'];
const SETTINGS = 'stores/setting-fields.ts';

/** Files with words that are still English. It only gets shorter. */
const NOT_YET: readonly string[] = [
];
/** Names, formats and the like that every language writes alike. */
const NAMES = /\b(DRTune( Studio)?|Apache-2\.0|LoRA|VAE|CPU|GPU|TensorFlow|sha256|arXiv|px|hf_|Deep Reward Supervisions for Tuning Text-to-Image Diffusion Models|Space|Esc|Shift|SD [12]|SDXL|main|python3)\b/g;

type Messages = { [key: string]: string | Messages };
function flat(messages: Messages, at = ''): [string, string][] {
  return Object.entries(messages).flatMap(([key, value]): [string, string][] => (typeof value === 'string' ? [[at + key, value]] : flat(value, `${at}${key}.`)));
}
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const areas = (locale: string): Messages => Object.fromEntries(globSync(`locales/${locale}/*.json`, { cwd: root }).map((file) => [basename(file, '.json'), JSON.parse(read(file)) as Messages]));
const messages = Object.fromEntries(LOCALES.map((locale) => [locale, new Map(flat(areas(locale)).filter(([key]) => !BY_TEXT.some((each) => key.startsWith(each))))]));
const english = messages['en']!;
const placeholders = (text: string): string[] => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

const sources = globSync('**/*.{ts,vue}', { cwd: root }).filter((file) => !/^(dev|locales)\//.test(file) && !['i18n.ts', SETTINGS].includes(file)).sort();

/** What a person could read: at least one word of two letters; names, paths and addresses taken out. */
const isEnglish = (text: string): boolean => /[a-z]{2}/i.test(text.replace(NAMES, '').replace(/\S*[/_.:]\w\S*/g, ''));
/** A literal of a script that reads like a sentence or a title, not like a class, an address or a key. */
const isSentence = (text: string): boolean => isEnglish(text) && /^[A-Z“"][\w’'-]*[ .…?!,:]/.test(text) && !/^[A-Z][a-z]+ [A-Z]\w*$/.test(text.replace(NAMES, 'x'));

/** String literals of an expression that would be shown: not arguments of t(), not compared, no keys of an index. */
function shownLiterals(source: string): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) {
      visit(node.expression);
      if (!ts.isIdentifier(node.expression) || !['t', '$emit', 'emit', 'getAt', 'setAt'].includes(node.expression.text)) node.arguments.forEach(visit);
      return;
    }
    if (ts.isBinaryExpression(node) && [ts.SyntaxKind.EqualsEqualsEqualsToken, ts.SyntaxKind.ExclamationEqualsEqualsToken].includes(node.operatorToken.kind)) return;
    if (ts.isElementAccessExpression(node)) return visit(node.expression);
    if (ts.isStringLiteralLike(node)) found.push(node.text);
    if (ts.isTemplateHead(node) || ts.isTemplateMiddle(node) || ts.isTemplateTail(node)) found.push(node.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('expression.ts', `(${source})`, ts.ScriptTarget.Latest, true));
  return found.filter((text) => !english.has(text));
}

const SHOWN_ATTRIBUTES = ['title', 'alt', 'label', 'hint', 'lead', 'description', 'action', 'placeholder', 'text', 'aria-label', 'aria-valuetext', 'aria-description', 'kept', 'remedy'];

interface Node { type: number; children?: Node[]; content?: string | Node; props?: { type: number; name: string; value?: { content: string }; arg?: { content: string }; exp?: { content: string } }[] }
/** Words a template shows that do not come from the locales. */
function wordsOf(node: Node): string[] {
  const own: string[] = [];
  if (node.type === 2 && typeof node.content === 'string' && isEnglish(node.content)) own.push(node.content.trim());
  if (node.type === 5 && typeof node.content === 'object') own.push(...shownLiterals((node.content as unknown as { content: string }).content).filter(isEnglish));
  for (const prop of node.props ?? []) {
    const name = prop.type === 6 ? prop.name : (prop.arg?.content ?? '');
    if (!SHOWN_ATTRIBUTES.includes(name)) continue;
    if (prop.type === 6 && isEnglish(prop.value?.content ?? '')) own.push(`${name}="${prop.value!.content}"`);
    if (prop.type === 7 && prop.name === 'bind' && prop.exp) own.push(...shownLiterals(prop.exp.content).filter(isEnglish).map((text) => `:${name} ${text}`));
  }
  return [...own, ...(node.children ?? []).flatMap(wordsOf)];
}
/** Sentences in a script. */
function sentencesOf(source: string): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isLiteralTypeNode(node)) return;
    if (ts.isNewExpression(node) || ts.isThrowStatement(node)) return ts.forEachChild(node, visit);
    if ((ts.isStringLiteralLike(node) || ts.isTemplateHead(node)) && isSentence(node.text)) found.push(node.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('script.ts', source, ts.ScriptTarget.Latest, true));
  return found;
}
/** All that a file says in English by itself. */
function englishOf(file: string): string[] {
  const source = read(file);
  if (!file.endsWith('.vue')) return sentencesOf(source);
  const { descriptor } = parse(source, { filename: file });
  return [...(descriptor.template?.ast ? wordsOf(descriptor.template.ast as unknown as Node) : []), ...sentencesOf(descriptor.scriptSetup?.content ?? '')];
}

const resources = join(root, '../resources');
const json = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'));
/** Everything that pages show through fromMain() and that is known beforehand. */
function saidInEnglish(): string[] {
  const rewards = REWARDS.flatMap(({ title, what, habit, needs, licence, range, memory }) => [title, what, habit, needs, licence, range, memory]);
  const presets = globSync(`${resources}/presets/*.json`).map((file) => json(file) as { title: string; what: string }).flatMap(({ title, what }) => [title, what]);
  const prompts = globSync(`${resources}/prompts/*.txt`).flatMap((file) => /^# ([^:\n]+): (.+)/.exec(readFileSync(file, 'utf8'))?.slice(1) ?? []);
  const { models } = json(`${resources}/catalog.json`) as { models: { title: string; what: string; note?: string; licence: { allows: string } }[] };
  const catalogue = models.flatMap(({ title, what, note, licence }) => [/^[\w. -]+$/.test(title) ? undefined : title, what, note, licence.allows]);
  const fields = settingWords(read(SETTINGS));
  const main = globSync('../src-main/{train,pipeline,app,worker,rewards}/**/*.ts', { cwd: root }).map(read).join('\n');
  const stages = [...main.matchAll(/'((?:painting|loading|checking|measuring|merging|reading|scoring|drawing|comparing) [a-z ]+)'/g)].map((match) => match[1]!);
  return [...rewards, ...presets, ...prompts, ...catalogue, ...fields, ...stages].filter((text): text is string => text !== undefined && text !== '' && !['the files'].includes(text));
}
/** Labels, units and explanations of a run's settings: literals of these properties, of the groups and of the tables of options. */
function settingWords(source: string): string[] {
  const found: string[] = [];
  const shown = ['label', 'group', 'unit', 'what', 'less', 'more', 'placeholder'];
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyAssignment(node) && ts.isStringLiteralLike(node.initializer) && (shown.includes(node.name.getText().replaceAll("'", '')) || /_WORDS/.test(node.parent.parent.getText().slice(0, 20)))) found.push(node.initializer.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('fields.ts', source, ts.ScriptTarget.Latest, true));
  return found;
}

describe('the languages', () => {
  const inEnglish = [...new Set(saidInEnglish())];
  it.each(LOCALES.slice(1))('%s has the keys of English, no more and no less', (locale) => {
    expect([...messages[locale]!.keys()].sort()).toEqual([...english.keys()].sort());
  });

  it.each(LOCALES.slice(1))('%s has the placeholders of English in each message', (locale) => {
    const wrong = [...english].filter(([key, text]) => placeholders(text).join() !== placeholders(messages[locale]!.get(key) ?? '').join());
    expect(wrong).toEqual([]);
  });

  it.each(LOCALES)('%s: every message can be said, in every number', (locale) => {
    const i18n = createI18n({ legacy: false, locale, messages: { [locale]: areas(locale) } });
    const named = (text: string): Record<string, string> => Object.fromEntries(placeholders(text).map((name) => [name.slice(1, -1), 'X']));
    for (const [key, text] of messages[locale]!) {
      const forms = text.split(' | ');
      for (const [at, form] of forms.entries()) expect(i18n.global.t(key, named(text), forms.length > 1 ? { plural: forms.length === 2 ? (at === 0 ? 1 : 2) : at } : {}), key).toBe(form.replace(/\{'(.)'\}/g, '$1').replace(/\{\w+\}/g, 'X'));
      expect(forms.length === 1 || (forms.length === 2 && ['en', 'de'].includes(locale)), `${locale} ${key}: one form, or two where the language has singular and plural`).toBe(true);
      expect(text.includes('{n}') || forms.length === 1, `${key} counts by n`).toBe(true);
    }
  });

  it('every key is used, and every key that is used is there', () => {
    const text = sources.map(read).join('\n');
    const literals = new Set([...text.matchAll(/['"`]([a-z][\w-]*(?:\.[\w-]+)+)['"`]/gi)].map((match) => match[1]!));
    const patterns = [...text.matchAll(/`([a-z][\w]*\.[^`\s]*\$\{[^`]*)`/gi)].map((match) => new RegExp(`^${match[1]!.replaceAll('.', '\\.').replace(/\$\{[^}]*\}/g, '[\\w-]+')}$`));
    expect([...english.keys()].filter((key) => !literals.has(key) && !patterns.some((pattern) => pattern.test(key)))).toEqual([]);
    const called = [...text.matchAll(/\bt\('([^']+)'/g)].map((match) => match[1]!);
    expect(called.filter((key) => !english.has(key))).toEqual([]);
    expect(called.length).toBeGreaterThan(80);
  });

  it.each(LOCALES.slice(1))('%s has words for what comes in English: rewards, presets, prompts, catalogue, settings, stages', (locale) => {
    const said = JSON.parse(read(`locales/${locale}/${SAID}.json`)) as Record<string, string>;
    expect(inEnglish.filter((text) => !(text in said))).toEqual([]);
    expect(inEnglish.length).toBeGreaterThan(300);
  });

  it('no page says anything in English only', () => {
    const found = sources.map((file) => ({ file, words: englishOf(file) })).filter(({ file, words }) => words.length > 0 && !NOT_YET.includes(file));
    expect(found).toEqual([]);
    expect(NOT_YET.filter((file) => englishOf(file).length === 0), 'files that are done leave the list').toEqual([]);
    expect(sources.length).toBeGreaterThan(80);
  });
});
