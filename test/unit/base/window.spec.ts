/** Where `npm start` opens a window on Linux, and where it serves to a browser instead. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const { noSandbox, noWindow } = (await import('../../../src-main/setup/dependencies.mjs' as string)) as {
  noWindow(env: Record<string, string>, user?: number): string;
  noSandbox(binary: string, read: (file: string) => string | false): string;
};

describe.skipIf(process.platform !== 'linux')('a window on Linux', () => {
  it('needs a display and another user than root', () => {
    expect([noWindow({}, 1000), noWindow({ DISPLAY: ':0' }, 0)]).toEqual(['there is no display', 'its sandbox does not work for root']);
    expect([noWindow({ DISPLAY: ':0' }, 1000), noWindow({ WAYLAND_DISPLAY: 'wayland-0' }, 1000)]).toEqual(['', '']);
  });

  it('needs user namespaces, or root\'s word for the helper beside the binary', () => {
    const folder = mkdtempSync(join(tmpdir(), 'drtune-window-'));
    writeFileSync(join(folder, 'chrome-sandbox'), '');
    const closed = (name: string, value: string) => (file: string): string | false => (file.endsWith(name) ? value : false);
    expect(noSandbox(join(folder, 'electron'), closed('apparmor_restrict_unprivileged_userns', '1'))).toContain(`sudo chown root:root "${folder}/chrome-sandbox"`);
    expect(noSandbox(join(folder, 'electron'), closed('max_user_namespaces', '0'))).not.toBe('');
    for (const read of [closed('apparmor_restrict_unprivileged_userns', '0'), () => false as const]) expect(noSandbox(join(folder, 'electron'), read)).toBe('');
    rmSync(folder, { recursive: true });
  });
});
