import { beforeAll, describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { findLibraries } from '../../../src-main/engine/engine-folder.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { cases, check, isNetworkOp } from './suite.ts';

const found = findLibraries(drtuneHome());
if (found.folder === undefined) console.warn(`SKIPPED: operations on the tensorflow engine (${found.why})`);

describe.skipIf(found.folder === undefined)('operations on the tensorflow engine equal PyTorch', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ prefer: 'tensorflow', home: drtuneHome() });
  });
  it.each(cases)('$name', (each) => check(engine, each, 'eager'));
  it.each(cases)('$name, traced', (each) => check(engine, each, 'traced'));
  it.each(cases)('$name, traced and recomputed', (each) => check(engine, each, 'recomputed'));
  it.each(cases.filter(({ op }) => isNetworkOp(op)))('$name, plain form', (each) => check(engine, each, 'plain'));
  it('frees what it used', () => {
    expect(engine.memory().bytes).toBe(0);
  });
});
