/** The desktop's parts that need no Electron: log, files handed over, window's place, links, menus, releases. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { logTail } from '../../../src-main/app/logs.ts';
import { isLater, latestRelease } from '../../../src-main/app/releases.ts';
import { LogBook, withoutSecrets } from '../../../src-main/base/log-book.ts';
import { logTailSchema, releaseSchema, type GivenFile } from '../../../src-main/contract/desktop.ts';
import { filesOf, GivenFiles, readGiven } from '../../../src-main/ipc/given-files.ts';
import { outwardAddress } from '../../../src-main/ipc/links.ts';
import { appMenu, trayLine, trayMenu } from '../../../src-main/ipc/menu.ts';
import { followLanguage, NATIVE, nativeWords } from '../../../src-main/ipc/native-words.ts';
import { keepWindow, recallWindow } from '../../../src-main/ipc/window-state.ts';
import { config, tempHome } from '../../helpers/temp-home.ts';

describe('the log', () => {
  it('keeps entries of several lines, newest last, and tells no secret', () => {
    const log = new LogBook(join(tempHome(), 'logs'), { now: () => 1e12 });
    log.write('info', 'main', 'started');
    log.write('error', 'request', 'runs.get: Error: bad\n    at file.ts:3\n2026-01-01T00:00:00Z error fake: not an entry');
    log.write('warning', 'served', 'GET http://127.0.0.1:1/?token=abc-DEF_1&x=2 with Bearer xyz and hf_abcdefghij');
    expect(logTailSchema.parse(logTail(log, 10)).entries).toEqual([
      { at: 1e12, level: 'info', source: 'main', text: 'started' },
      { at: 1e12, level: 'error', source: 'request', text: 'runs.get: Error: bad\n    at file.ts:3\n2026-01-01T00:00:00Z error fake: not an entry' },
      { at: 1e12, level: 'warning', source: 'served', text: 'GET http://127.0.0.1:1/?token=...&x=2 with Bearer ... and hf_...' },
    ]);
    expect(log.tail(1)).toHaveLength(1);
    expect(withoutSecrets('no secret here')).toBe('no secret here');
  });

  it('turns over by size and keeps so many files, in order over a restart', () => {
    const folder = join(tempHome(), 'logs');
    for (let part = 0; part < 4; part++) {
      const log = new LogBook(folder, { bytes: 1000, older: 2 });
      for (let i = 0; i < 10; i++) log.write('info', 'main', `line ${part * 10 + i} ${'x'.repeat(100)}`);
    }
    expect(readdirSync(folder).sort()).toEqual(['app.log', 'app.log.1', 'app.log.2']);
    for (const file of readdirSync(folder)) expect(statSync(join(folder, file)).size).toBeLessThanOrEqual(1000);
    const numbers = new LogBook(folder, { bytes: 1000, older: 2 }).tail(100).map(({ text }) => Number(text.split(' ')[1]));
    expect(numbers.at(-1)).toBe(39);
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    expect(numbers.length).toBeGreaterThan(10);
  });

  it('does not throw where it cannot write, and lists crash reports', () => {
    const home = tempHome();
    writeFileSync(join(home, 'file'), '');
    new LogBook(join(home, 'file/logs')).write('error', 'main', 'nowhere to go');
    mkdirSync(join(home, 'logs/crashes/completed'), { recursive: true });
    writeFileSync(join(home, 'logs/crashes/completed/a.dmp'), 'MDMP');
    expect(logTail(new LogBook(join(home, 'logs')), 10).crashes).toEqual([{ file: join(home, 'logs/crashes/completed/a.dmp'), at: expect.any(Number) as number, bytes: 4 }]);
  });
});

describe('files the system hands over', () => {
  it('are found among arguments', () => {
    expect(filesOf(['--no-sandbox', '/app', 'a.drtune', '/m/Model.SAFETENSORS', 'x.txt', '--file=b.drtune', 'nul\0.drtune'], '/work')).toEqual(['/work/a.drtune', '/m/Model.SAFETENSORS']);
    if (process.platform !== 'win32') expect(filesOf(['file:///home/me/My%20run.drtune', 'file://elsewhere/x.drtune', 'file:///bad%2F.drtune'], '/work')).toEqual(['/home/me/My run.drtune']);
  });

  it('become settings, a model or a problem in words', () => {
    const home = tempHome();
    const file = (name: string, text: string): string => {
      writeFileSync(join(home, name), text);
      return join(home, name);
    };
    expect(readGiven('/m/x.safetensors')).toEqual({ kind: 'model', path: '/m/x.safetensors' });
    expect(readGiven(file('a.drtune', JSON.stringify({ drtune: 1, name: 'Mine', config: config() })))).toMatchObject({ kind: 'settings', name: 'Mine', config: { prompts: ['a red circle'] } });
    const problems = { 'b.drtune': 'not json', 'c.drtune': '{"drtune":1,"config":{"itterations":3}}', 'd.drtune': `"${'x'.repeat(5e6)}"`, 'e.drtune': '[]' };
    for (const [name, text] of Object.entries(problems)) expect(readGiven(file(name, text)), name).toMatchObject({ kind: 'problem', message: expect.stringContaining(name) as string });
    expect(readGiven(file('run.drtune', 'PK\x03\x04 and more'))).toMatchObject({ kind: 'run' });
    expect(readGiven(join(home, 'gone.drtune'))).toMatchObject({ kind: 'problem' });
  });

  it('wait until a page asks, and count as opened by the user', () => {
    const [opened, told]: [string[], number[]] = [[], []];
    const given = new GivenFiles((path) => opened.push(path), () => told.push(1));
    given.add([]);
    expect(told).toEqual([]);
    given.add(['/m/x.safetensors']);
    expect([opened, told]).toEqual([['/m/x.safetensors'], [1]]);
    expect(given.take()).toEqual<GivenFile[]>([{ kind: 'model', path: '/m/x.safetensors' }]);
    expect(given.take()).toEqual([]);
  });
});

describe('the window\'s place', () => {
  const screen = { x: 0, y: 0, width: 1920, height: 1080 };
  const state = { x: 2000, y: 50, width: 1200, height: 800, maximized: false };
  it('is kept, and given up where its display is gone', () => {
    const home = tempHome();
    expect(recallWindow(home, [screen])).toEqual({ width: 1360, height: 900, maximized: false });
    keepWindow(home, state);
    const second = { x: 1920, y: 0, width: 1920, height: 1080 };
    expect(recallWindow(home, [screen, second])).toEqual(state);
    expect(recallWindow(home, [screen])).toEqual({ width: 1200, height: 800, maximized: false });
    keepWindow(home, { ...state, x: -1150, y: 10 });
    expect(recallWindow(home, [screen])).not.toHaveProperty('x');
    keepWindow(home, { ...state, x: 10, y: -300 });
    expect(recallWindow(home, [screen])).not.toHaveProperty('x');
  });

  it('fits a smaller screen, and a damaged note is no matter', () => {
    const home = tempHome();
    keepWindow(home, { ...state, width: 3000, height: 2000, maximized: true });
    expect(recallWindow(home, [{ ...screen, width: 1280, height: 720 }])).toEqual({ width: 1280, height: 720, maximized: true });
    for (const text of ['', '{"x":"a"}', '{"x":1e9,"y":0,"width":1,"height":1,"maximized":true}']) {
      writeFileSync(join(home, 'window.json'), text);
      expect(recallWindow(home, [screen])).toEqual({ width: 1360, height: 900, maximized: false });
    }
    keepWindow(join(home, 'window.json'), state); // no folder there: nothing happens
    expect(readFileSync(join(home, 'window.json'), 'utf8')).toContain('1e9');
  });
});

describe('links that leave the app', () => {
  it.each([
    ['https://example.org/a?b=c#d', true], ['https://xn--bcher-kva.example/', true], ['http://example.org/', false], ['file:///etc/passwd', false], ['javascript:alert(1)', false],
    ['https://user:pass@example.org/', false], ['https://127.0.0.1/', false], ['https://localhost/', false], ['https://printer.local/', false], ['https://[::1]/', false], ['https://0x7f000001/', false],
    ['ms-settings:privacy', false], ['smb://host/share', false], ['https://example.org/ --flag', false], ['https://example.org/\n', false], [`https://example.org/${'x'.repeat(2000)}`, false], ['', false],
  ])('%j: %s', (address, is) => expect(outwardAddress(address) !== null).toBe(is));
});

describe('the menus', () => {
  const actions = { go: () => {}, openFile: () => {}, openHome: () => {}, openLink: () => {} };
  const accelerators = (platform: NodeJS.Platform): string[] => appMenu(actions, platform, true).flatMap(({ submenu }) => (Array.isArray(submenu) ? submenu : [])).flatMap(({ accelerator }) => (accelerator ? [String(accelerator)] : []));
  it.each(['darwin', 'win32', 'linux'] as const)('%s: every page has keys, no two the same, and no developer tools in a package', (platform) => {
    const keys = accelerators(platform);
    expect(keys).toEqual(expect.arrayContaining(['CmdOrCtrl+N', 'CmdOrCtrl+O', 'CmdOrCtrl+,', 'CmdOrCtrl+1', 'CmdOrCtrl+6']));
    expect(new Set(keys).size).toBe(keys.length);
    expect(JSON.stringify(appMenu(actions, platform, true))).not.toContain('toggleDevTools');
    expect(JSON.stringify(appMenu(actions, platform, false))).toContain('toggleDevTools');
    expect(JSON.stringify(appMenu(actions, platform, true))).toContain('quit');
  });

  it('speak the chosen language, or the system\'s, and follow a change', async () => {
    expect(nativeWords('system', 'de-AT')).toBe(NATIVE.de);
    expect(nativeWords('ja', 'de-AT')).toBe(NATIVE.ja);
    expect(nativeWords('system', 'fr')).toBe(NATIVE.en);
    const labels = (language: keyof typeof NATIVE): string[] => appMenu(actions, 'linux', true, NATIVE[language]).flatMap(({ label, submenu }) => [label, ...(Array.isArray(submenu) ? submenu.map((each) => each.label) : [])]).filter((label) => label !== undefined);
    expect(labels('de')).toContain('Neuer Lauf');
    expect(labels('de')).toEqual(expect.arrayContaining(['Kopieren', 'Minimieren', '&Hilfe']));
    expect(new Set([labels('en'), labels('de'), labels('zh'), labels('ja')].map((each) => each.length)).size).toBe(1);
    for (const platform of ['darwin', 'linux'] as const) {
      const unnamed = appMenu(actions, platform, true, NATIVE.de).flatMap((top) => [top, ...(Array.isArray(top.submenu) ? top.submenu : [])]).filter(({ label, type }) => label === undefined && type !== 'separator');
      expect(unnamed).toEqual([]); // Electron's own words are English
    }
    expect(trayLine({ name: 'A', state: 'stopped', step: 3, iterations: 9 }, NATIVE.de)).toBe('A: angehalten, 3 von 9 Iterationen');
    const settings = { language: 'en' };
    let changed: (name: string) => void = () => {};
    const heard: unknown[] = [];
    followLanguage({ on: (listener: (name: string) => void) => ((changed = listener), () => {}), handlers: { 'settings.get': async () => settings } } as never, 'de', (words) => heard.push(words));
    for (const next of ['en', 'zh', 'system']) {
      settings.language = next;
      changed('system');
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    expect(heard).toEqual([NATIVE.en, NATIVE.zh, NATIVE.de]);
  });

  it('the tray pauses what runs and resumes what was stopped', () => {
    const did: string[] = [];
    const tray = { show: () => {}, quit: () => {}, stop: (id: string) => did.push(`stop ${id}`), resume: (id: string) => did.push(`resume ${id}`) };
    const run = { id: 'r', name: 'n'.repeat(60), state: 'running' as const, step: 5, iterations: 8 };
    const item = (of: Parameters<typeof trayMenu>[0], label: RegExp) => trayMenu(of, tray).find((each) => label.test(String(each.label)))!;
    (item(run, /^Pause/).click as () => void)();
    (item({ ...run, state: 'stopped' }, /^Resume/).click as () => void)();
    expect(did).toEqual(['stop r', 'resume r']);
    expect(item({ ...run, state: 'finished' }, /^Resume/).enabled).toBe(false);
    expect(item(null, /Nothing/).enabled).toBe(false);
    expect(trayLine(run)).toBe(`${'n'.repeat(39)}…: 62 %`);
  });
});

describe('later versions', () => {
  it('are told apart', () => {
    expect([isLater('v0.2.0', '0.1.9'), isLater('0.1.9', '0.1.9'), isLater('0.1.10', '0.1.9'), isLater('nonsense', '0.1.9'), isLater('0.0.99', '0.1.0')]).toEqual([true, false, true, false, false]);
  });

  it('are asked for only where that is allowed, by a GET that says nothing about the machine', async () => {
    const asked: { method: string | undefined; url: string | undefined; headers: Record<string, unknown> }[] = [];
    let answer = JSON.stringify({ tag_name: 'v9.1.0', html_url: 'https://example.org/releases/9.1.0' });
    const server = createServer((request, response) => {
      asked.push({ method: request.method, url: request.url, headers: request.headers });
      response.end(answer);
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const address = `http://127.0.0.1:${(server.address() as { port: number }).port}/latest`;
    try {
      expect(await latestRelease(false, address, '0.1.0')).toMatchObject({ newer: null, problem: expect.stringContaining('off') as string });
      expect(asked).toEqual([]);
      expect(releaseSchema.parse(await latestRelease(true, address, '0.1.0'))).toEqual({ current: '0.1.0', newer: '9.1.0', page: 'https://example.org/releases/9.1.0', problem: null });
      expect(asked).toMatchObject([{ method: 'GET', url: '/latest', headers: { 'user-agent': 'DRTune Studio' } }]);
      expect(asked[0]!.headers).not.toHaveProperty('cookie');
      expect((await latestRelease(true, address, '9.1.0')).newer).toBeNull();
      for (const wrong of ['[]', 'x', '{"tag_name":"v9.9.9","html_url":"javascript:alert(1)"}', '{"version":"9.9.9","page":"http://example.org/"}']) {
        answer = wrong;
        expect(await latestRelease(true, address, '0.1.0'), wrong).toMatchObject({ newer: null, page: null, problem: expect.any(String) as string });
      }
      expect(await latestRelease(true, 'http://example.org/', '0.1.0')).toMatchObject({ problem: expect.stringContaining('https') as string });
      expect(await latestRelease(true, null, '0.1.0')).toMatchObject({ problem: expect.stringContaining('no place') as string });
    } finally {
      server.close();
    }
  });
});
