/** Numbers, sizes and times as the interface writes them, in its language. Every list and chart uses these. */
import { fromMain, number, region, t } from './i18n.ts';

const MINUS = '−';
export const fixed = (x: number, digits: number): string => number(x, { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: false });

/** 3 significant decimals at most, a true minus sign. */
export function value(x: number | null | undefined, digits = 3): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return '–';
  const size = Math.abs(x);
  const text = size !== 0 && size < 10 ** -digits ? number(x, { notation: 'scientific', minimumFractionDigits: 1, maximumFractionDigits: 1 }).toLowerCase() : fixed(x, size >= 100 ? 1 : size >= 10 ? 2 : digits);
  return text.replaceAll('-', MINUS);
}

export function change(x: number | null | undefined, digits = 3): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return '–';
  return x > 0 ? `+${value(x, digits)}` : value(x, digits);
}

export function bytes(x: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let size = x;
  while (size >= 999.5 && unit < units.length - 1) [size, unit] = [size / 1000, unit + 1];
  return `${fixed(size, unit === 0 || size >= 100 ? 0 : 1)} ${units[unit]}`;
}

export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return t('format.seconds', { s });
  if (s < 3600) return t('format.minutes', { m: Math.floor(s / 60), s: String(s % 60).padStart(2, '0') });
  const minutes = Math.round(s / 60);
  return t('format.hours', { h: Math.floor(minutes / 60), m: String(minutes % 60).padStart(2, '0') });
}

/** "about 3 minutes": for forecasts, where seconds would pretend. */
export function about(seconds: number): string {
  if (seconds < 50) return t('format.aboutSeconds', { n: Math.max(5, Math.round(seconds / 5) * 5) });
  if (seconds < 5400) return t('format.aboutMinutes', { n: Math.max(1, Math.round(seconds / 60)) });
  return t('format.aboutHours', { hours: fixed(seconds / 3600, 1) });
}

export function when(milliseconds: number, now = Date.now()): string {
  const seconds = (now - milliseconds) / 1000;
  if (seconds < 60) return t('format.justNow');
  if (seconds < 3600) return t('format.minutesAgo', { n: Math.floor(seconds / 60) });
  const date = new Date(milliseconds);
  const time = date.toLocaleTimeString(region(), { hour: '2-digit', minute: '2-digit' });
  if (date.toDateString() === new Date(now).toDateString()) return t('format.today', { time });
  return `${date.toLocaleDateString(region(), { day: 'numeric', month: 'short', year: date.getFullYear() === new Date(now).getFullYear() ? undefined : 'numeric' })} ${time}`;
}

/** What a run is at, as the trainer says it ("painting 3 of 8"). */
export function phaseWords(phase: string): string {
  const [, what, done, total] = /^(.*?) \(?(\d+) of (\d+)\)?$/.exec(phase) ?? [];
  return what === undefined ? fromMain(phase) : t('run.phaseOf', { phase: fromMain(what), done: Number(done), total: Number(total) });
}

export function fullDate(milliseconds: number): string {
  return new Date(milliseconds).toLocaleString(region());
}

export function count(n: number, word: string, plural = `${word}s`): string {
  return `${n.toLocaleString('en')} ${n === 1 ? word : plural}`;
}
