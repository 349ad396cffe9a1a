import { describe } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';
import { openEngine } from '../../../src-main/engine/select.ts';
import { modelSuite } from './suite.ts';

describe('models on the wasm engine equal diffusers', () => {
  modelSuite(() => openEngine({ prefer: 'wasm', home: drtuneHome() }));
});
