import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseLora } from '../../../src-main/cli/lora-flag.ts';

const folder = mkdtempSync(join(tmpdir(), 'lora-flag-'));
afterAll(() => rmSync(folder, { recursive: true }));
for (const name of ['style.safetensors', 'odd:0.5']) writeFileSync(join(folder, name), '');

describe('--lora FILE[:scale]', () => {
  it.each([
    ['style.safetensors', 'style.safetensors', 1],
    ['style.safetensors:0.8', 'style.safetensors', 0.8],
    ['style.safetensors:-1', 'style.safetensors', -1],
    ['style.safetensors:.5', 'style.safetensors', 0.5],
    ['style.safetensors:1e-1', 'style.safetensors', 0.1],
    ['odd:0.5', 'odd:0.5', 1], // a file of that very name
    ['odd:0.5:2', 'odd:0.5', 2],
  ])('%s', (text, file, scale) => {
    expect(parseLora(join(folder, text))).toEqual({ file: join(folder, file), scale });
  });

  it('leaves a drive letter\'s colon alone', () => {
    expect(parseLora('C:\\loras\\style.safetensors')).toEqual({ file: resolve('C:\\loras\\style.safetensors'), scale: 1 });
    expect(parseLora('C:\\loras\\style.safetensors:0.7')).toEqual({ file: resolve('C:\\loras\\style.safetensors'), scale: 0.7 });
  });

  it('refuses a scale that is no number', () => {
    expect(() => parseLora(join(folder, 'style.safetensors:strong'))).toThrow(/"strong" is no scale; write a number/);
    expect(() => parseLora(join(folder, 'style.safetensors:1e400'))).toThrow(/"1e400" is no scale/);
    expect(() => parseLora(join(folder, 'style.safetensors:'))).toThrow(/"" is no scale/);
  });
});
