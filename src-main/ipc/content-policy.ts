/** What the page may load and do; the same for Electron's app:// and for the served app. */

/** @param pictures further sources of pictures, e.g. "run-image:" */
export function contentPolicy(pictures = ''): string {
  return [
    "default-src 'none'", "script-src 'self'", "style-src 'self' 'unsafe-inline'", `img-src 'self' data: blob: ${pictures}`.trim(), "font-src 'self'", "connect-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "object-src 'none'",
  ].join('; ');
}

export function securityHeaders(pictures = ''): Record<string, string> {
  return {
    'content-security-policy': contentPolicy(pictures),
    'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY', 'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin', 'cross-origin-resource-policy': 'same-origin',
    'permissions-policy': 'camera=(), microphone=(), geolocation=(), usb=(), serial=(), hid=()',
  };
}

/** Of a file that is passed on or handed out: its type is what we say, and with a name it is saved, never shown. */
export function fileHeaders({ type, bytes, name, cache }: { type: string; bytes: number | null; name: string | null; cache: string }): Record<string, string> {
  return {
    'content-type': type, 'cache-control': cache, ...(bytes === null ? {} : { 'content-length': String(bytes) }),
    ...(name === null ? {} : { 'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(name).replaceAll("'", '%27')}` }),
  };
}

const MIME: Record<string, string> = {
  html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', json: 'application/json', svg: 'image/svg+xml',
  png: 'image/png', jpg: 'image/jpeg', webp: 'image/webp', woff2: 'font/woff2', woff: 'font/woff', ico: 'image/x-icon', map: 'application/json', txt: 'text/plain; charset=utf-8',
};

export function mimeOf(path: string): string {
  return MIME[path.slice(path.lastIndexOf('.') + 1).toLowerCase()] ?? 'application/octet-stream';
}

/** Files under resources/ that pages may show: pictures, nothing else. */
export function isShownResource(path: string): boolean {
  return /^(starter|presets|pictures|rewards)\/[\w./-]+\.(png|jpg|webp|svg)$/.test(path) && !path.split('/').includes('..');
}
