/** The direction rule of src-main/ARCHITECTURE.md: which room may import which. An arrow that is not in the table is an error. */
import { cruise, type ICruiseResult } from 'dependency-cruiser';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');

/** room -> rooms it may import (besides itself). Compute knows neither Electron nor SQLite; only history writes SQL. */
const ARROWS: Record<string, readonly string[]> = {
  base: [],
  contract: [],
  engine: ['base'],
  hub: ['base', 'engine'],
  nn: ['base', 'engine'],
  schedulers: ['base', 'engine'],
  weights: ['base', 'engine', 'nn'],
  models: ['base', 'engine', 'nn', 'weights'],
  pipeline: ['base', 'engine', 'nn', 'schedulers', 'weights', 'models'],
  rewards: ['base', 'contract', 'engine', 'nn', 'weights', 'models', 'pipeline'],
  train: ['base', 'contract', 'engine', 'nn', 'schedulers', 'weights', 'models', 'pipeline', 'rewards'],
  worker: ['base', 'contract', 'engine', 'models', 'pipeline', 'rewards', 'train'],
  history: ['base', 'contract'],
  app: ['base', 'contract', 'engine', 'hub', 'history', 'models', 'weights', 'rewards', 'worker', 'pipeline', 'train'],
  ipc: ['base', 'contract', 'app'],
  preload: ['contract'],
  cli: ['base', 'contract', 'engine', 'hub', 'nn', 'schedulers', 'weights', 'models', 'pipeline', 'rewards', 'train', 'history', 'app'],
  renderer: ['contract'],
};

/** Composition roots wire rooms together; nothing imports them. */
const ROOTS = ['main.ts', 'serve.ts'];

/** package -> the rooms that may import it. */
const PACKAGES: Record<string, readonly string[]> = {
  '@tensorflow/': ['engine'],
  koffi: ['engine'],
  'better-sqlite3': ['history'],
  electron: ['app', 'ipc', 'preload', 'root'],
  ws: ['ipc', 'root'],
  vue: ['renderer'],
};

function roomOf(path: string): string | undefined {
  if (path.startsWith('src-renderer/')) return 'renderer';
  const match = /^src-main\/([^/]+)(\/|$)/.exec(path);
  if (!match) return undefined;
  return ROOTS.includes(match[1]!) ? 'root' : match[1];
}

async function dependencies(): Promise<{ from: string; to: string; circular: boolean }[]> {
  const result = await cruise(['src-main', 'src-renderer'], {
    baseDir: root,
    exclude: { path: '^(node_modules|out)/' },
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { extensions: ['.ts', '.mjs', '.js', '.vue', '.json'] },
    ruleSet: { forbidden: [{ name: 'circular', severity: 'error', from: {}, to: { circular: true } }] },
    validate: true,
  });
  const output = result.output as ICruiseResult;
  return output.modules.flatMap((module) =>
    module.dependencies.map((each) => ({ from: module.source, to: each.resolved, circular: each.circular && !each.dependencyTypes.includes('type-only') })),
  );
}

describe('the direction rule', async () => {
  const edges = await dependencies();

  it('sees the source files and their imports', () => {
    expect(edges.length).toBeGreaterThan(100);
  });

  it('names every room', () => {
    const rooms = readdirSync(join(root, 'src-main')).filter((name) => statSync(join(root, 'src-main', name)).isDirectory());
    expect(rooms.filter((room) => room !== 'setup' && !(room in ARROWS))).toEqual([]);
  });

  it('has no arrow outside the table', () => {
    const wrong = edges.filter(({ from, to }) => {
      const [source, target] = [roomOf(from), roomOf(to)];
      if (!source || !target || source === target || source === 'root') return false;
      return !(ARROWS[source] ?? []).includes(target);
    });
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });

  it('keeps each package in its rooms', () => {
    const wrong = edges.filter(({ from, to }) => {
      const source = roomOf(from);
      const name = /node_modules\/(.*)$/.exec(to)?.[1] ?? to;
      const rule = Object.keys(PACKAGES).find((each) => name === each || name.startsWith(each.endsWith('/') ? each : `${each}/`));
      return rule && source && !PACKAGES[rule]!.includes(source);
    });
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });

  it('has no circle', () => {
    expect(edges.filter((each) => each.circular).map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });
});
