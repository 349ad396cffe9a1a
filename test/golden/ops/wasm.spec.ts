import { beforeAll, describe, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import type { Engine } from '../../../src-main/engine/engine.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { cases, check, isNetworkOp } from './suite.ts';

describe('operations on the wasm engine equal PyTorch', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ prefer: 'wasm', home: drtuneHome() });
  });
  it.each(cases)('$name', (each) => check(engine, each, 'eager'));
  it.each(cases.filter(({ op }) => isNetworkOp(op)))('$name, plain form', (each) => check(engine, each, 'plain'));
  it('traced blocks run as they are', () => check(engine, cases[0]!, 'traced'));
});
