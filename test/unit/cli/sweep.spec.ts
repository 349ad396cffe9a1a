import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Arguments } from '../../../src-main/cli/arguments.ts';
import { CONFIG_FLAGS, readConfig } from '../../../src-main/cli/config-file.ts';
import { expandSweeps } from '../../../src-main/cli/sweep.ts';
import { tinyConfig } from '../../helpers/tiny.ts';

describe('--sweep', () => {
  it('makes one run for each value, a grid of several sweeps', () => {
    expect(expandSweeps([])).toEqual([[]]);
    expect(expandSweeps(['lora.rank=4, 8'])).toEqual([['lora.rank=4'], ['lora.rank=8']]);
    expect(expandSweeps(['lora.rank=4,8', 'seed=1,2'])).toEqual([
      ['lora.rank=4', 'seed=1'], ['lora.rank=4', 'seed=2'], ['lora.rank=8', 'seed=1'], ['lora.rank=8', 'seed=2'],
    ]);
    expect(expandSweeps(['rewards=[[{"name":"symmetry"}],[{"name":"brightness","weight":2}]]'])).toEqual([['rewards=[{"name":"symmetry"}]'], ['rewards=[{"name":"brightness","weight":2}]']]);
  });

  it.each([['lora.rank', /is not key=a,b,c/], ['=1,2', /is not key/], ['a=', /is not key/], ['engine=wasm,tensorflow', /engine cannot be swept/], [`seed=${Array.from({ length: 201 }, (_, i) => i).join()}`, /more than 200 runs/]])('refuses %s', (sweep, words) => {
    expect(() => expandSweeps([sweep])).toThrow(words);
  });

  it('goes value by value where it is paired, and refuses lists of different lengths', () => {
    expect(expandSweeps(['lora.rank=4,8', 'lora.alpha=8,16'], 'list')).toEqual([['lora.rank=4', 'lora.alpha=8'], ['lora.rank=8', 'lora.alpha=16']]);
    expect(expandSweeps([], 'list')).toEqual([[]]);
    expect(() => expandSweeps(['lora.rank=4,8', 'seed=1'], 'list')).toThrow('as many values of each setting: lora.rank has 2, seed has 1');
  });

  it('refuses a key that is named twice', () => {
    expect(() => expandSweeps(['seed=1', 'seed=2'])).toThrow(/names seed twice/);
  });
});

describe('--config', () => {
  it('takes the config out of a run\'s manifest', () => {
    const folder = mkdtempSync(join(tmpdir(), 'drtune-config-'));
    try {
      const config = tinyConfig({ seed: 11 });
      const file = join(folder, 'manifest.json');
      writeFileSync(file, JSON.stringify({ version: 1, app: '1', engine: { name: 'wasm' }, inputs: {}, config }));
      expect(readConfig(new Arguments(['--config', file], CONFIG_FLAGS))).toEqual(config);
      const saved = join(folder, 'settings.json');
      writeFileSync(saved, JSON.stringify({ drtune: 1, name: 'x', config }));
      expect(readConfig(new Arguments(['--config', saved], CONFIG_FLAGS))).toEqual(config);
      writeFileSync(saved, 'PK\x03\x04');
      expect(() => readConfig(new Arguments(['--config', saved], CONFIG_FLAGS))).toThrow(/is a shared run, not settings/);
      expect(readConfig(new Arguments(['--config', file, '--set', 'seed=3'], CONFIG_FLAGS), ['lora.rank=5'])).toMatchObject({ seed: 3, lora: { rank: 5 } });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
