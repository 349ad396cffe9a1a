/** Numbers, sizes and times as the interface writes them. Pure; every list and chart uses these. */

const MINUS = '−';

/** 3 significant decimals at most, a true minus sign. */
export function value(x: number | null | undefined, digits = 3): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return '–';
  const size = Math.abs(x);
  const text = size !== 0 && size < 10 ** -digits ? x.toExponential(1) : x.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : digits);
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
  return `${unit === 0 || size >= 100 ? size.toFixed(0) : size.toFixed(1)} ${units[unit]}`;
}

export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
  const minutes = Math.round(s / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** "about 3 minutes": for forecasts, where seconds would pretend. */
export function about(seconds: number): string {
  if (seconds < 50) return `about ${Math.max(5, Math.round(seconds / 5) * 5)} seconds`;
  if (seconds < 5400) {
    const minutes = Math.max(1, Math.round(seconds / 60));
    return `about ${minutes} minute${minutes === 1 ? '' : 's'}`;
  }
  return `about ${(seconds / 3600).toFixed(1)} hours`;
}

export function when(milliseconds: number, now = Date.now()): string {
  const seconds = (now - milliseconds) / 1000;
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  const date = new Date(milliseconds);
  const time = date.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });
  if (date.toDateString() === new Date(now).toDateString()) return `today ${time}`;
  return `${date.toLocaleDateString(undefined, { day: 'numeric', month: 'short', year: date.getFullYear() === new Date(now).getFullYear() ? undefined : 'numeric' })} ${time}`;
}

export function fullDate(milliseconds: number): string {
  return new Date(milliseconds).toLocaleString();
}

export function count(n: number, word: string, plural = `${word}s`): string {
  return `${n.toLocaleString('en')} ${n === 1 ? word : plural}`;
}
