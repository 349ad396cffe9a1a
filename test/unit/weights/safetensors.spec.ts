import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../../../src-main/base/errors.ts';
import { bfloatToFloat, floatToHalf, halfToFloat } from '../../../src-main/weights/half.ts';
import { openSafetensors, writeSafetensors } from '../../../src-main/weights/safetensors.ts';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'safetensors-'))));
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(header: string | Buffer, data: number, length?: bigint): string {
  const head = Buffer.from(header);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(length ?? BigInt(head.length));
  const path = join(folder, 'x.safetensors');
  writeFileSync(path, Buffer.concat([size, head, Buffer.alloc(data)]));
  return path;
}

const refusal = (path: string): string => {
  try {
    openSafetensors(path).close();
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).code).toBe('weights');
    expect((error as AppError).line).not.toContain('\n');
    return (error as AppError).message;
  }
  return 'accepted';
};

describe('safetensors', () => {
  it('reads what it wrote, with metadata, and leaves no temporary file', () => {
    const path = join(folder, 'a.safetensors');
    const data = Float32Array.of(1, -2.5, 3e-8, 4, 5, 6);
    writeSafetensors(path, { 'b.weight': { shape: [2, 3], data }, a: { shape: [], data: Float32Array.of(7) } }, { metadata: { prompt: 'é' } });
    const file = openSafetensors(path);
    expect(file.metadata).toEqual({ prompt: 'é' });
    expect([...file.entries.keys()].sort()).toEqual(['a', 'b.weight']);
    expect(file.readFloats('b.weight')).toEqual(data);
    expect(file.readFloats('a')).toEqual(Float32Array.of(7));
    expect(() => file.readFloats('c')).toThrow('no tensor "c"');
    file.close();
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('leaves the old file when a write fails', () => {
    const path = join(folder, 'kept.safetensors');
    writeSafetensors(path, { a: { shape: [1], data: Float32Array.of(1) } });
    const before = readFileSync(path);
    expect(() => writeSafetensors(join(folder, 'no', 'such.safetensors'), { a: { shape: [1], data: Float32Array.of(2) } })).toThrow(AppError);
    expect(readFileSync(path)).toEqual(before);
  });

  it('converts number types', () => {
    const path = fileOf('{"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}}', 12);
    const bytes = readFileSync(path);
    bytes.writeBigInt64LE(-3n, bytes.length - 12);
    bytes.writeUInt16LE(0x3fc0, bytes.length - 4); // 1.5
    writeFileSync(path, bytes);
    const file = openSafetensors(path);
    expect(file.readFloats('i')).toEqual(Float32Array.of(-3));
    expect(file.readFloats('b')).toEqual(Float32Array.of(1.5, 0));
    file.close();
  });

  it.each([
    ['missing', () => join(folder, 'none.safetensors'), 'There is no file'],
    ['a folder', () => folder, 'regular file'],
    ['a pipe', () => { if (process.platform === 'win32') return folder; execFileSync('mkfifo', [join(folder, 'pipe')]); return join(folder, 'pipe'); }, 'regular file'],
    ['shorter than its length', () => { writeFileSync(join(folder, 'short'), 'abc'); return join(folder, 'short'); }, '3 bytes'],
    ['a huge header length', () => fileOf('{}', 0, 1n << 62n), 'header claims'],
    ['a header beyond the file', () => fileOf('{}', 0, 5000n), 'truncated'],
    ['no JSON', () => fileOf('{"a":', 0), 'not JSON'],
    ['a byte order mark', () => fileOf('\uFEFF{}', 0), 'not JSON'],
    ['broken UTF-8', () => fileOf(Buffer.from([0x7b, 0xff, 0x7d]), 0), 'not JSON'],
    ['a list', () => fileOf('[]', 0), 'not JSON'],
    ['an unknown type', () => fileOf('{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', 4), 'unknown type'],
    ['an inherited type', () => fileOf('{"a":{"dtype":"toString","shape":[1],"data_offsets":[0,4]}}', 4), 'unknown type'],
    ['a negative shape', () => fileOf('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4), 'shape'],
    ['offsets backwards', () => fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', 4), 'offsets'],
    ['offsets that are no numbers', () => fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,"4"]}}', 4), 'offsets'],
    ['bytes that do not fit the shape', () => fileOf('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', 4), 'needs 8 bytes'],
    ['an overflowing shape', () => fileOf('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', 0), 'needs'],
    ['an overlap', () => fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4), 'overlaps'],
    ['a hole', () => fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8), 'hole'],
    ['a name twice', () => fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8), 'twice'],
    ['a name twice in the same place', () => fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4), 'twice'],
    ['a name twice, once escaped', () => fileOf('{"a\\":":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"\\u0061\\":":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}', 0), 'twice'],
    ['a type twice', () => fileOf('{"a":{"dtype":"F16","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4), 'twice'],
    ['metadata twice', () => fileOf('{"__metadata__":{"a":"1"},"__metadata__":{"b":"1"}}', 0), 'twice'],
    ['a header of lists in lists', () => fileOf(`{"a":${'['.repeat(3e6)}`, 0), 'deep'],
    ['data missing', () => fileOf('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', 15), 'truncated'],
    ['data left over', () => fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 5), '1 bytes after'],
    ['metadata that is no text', () => fileOf('{"__metadata__":{"a":1}}', 0), 'metadata'],
  ])('refuses %s in one line', (_, make, words) => {
    expect(refusal(make())).toContain(words);
  });

  it('never crashes on random headers', () => {
    fc.assert(fc.property(fc.oneof(fc.json(), fc.string()), fc.integer({ min: 0, max: 40 }), (header, data) => {
      refusal(fileOf(header, data));
    }), { numRuns: 200 });
  });

  it('rounds to half precision as IEEE 754 says', () => {
    const cases: Array<[number, number]> = [[0, 0], [1, 0x3c00], [-2, 0xc000], [65504, 0x7bff], [65519.9, 0x7bff], [65520, 0x7c00], [1e9, 0x7c00], [2 ** -24, 1], [2 ** -25, 0], [2 ** -25 * 1.01, 1], [1 + 2 ** -11, 0x3c00], [1 + 3 * 2 ** -11, 0x3c02], [2 ** -14, 0x400], [2 ** -14 * (1 - 2 ** -12), 0x400]];
    for (const [value, bits] of cases) expect(floatToHalf(Float32Array.of(value))[0], String(value)).toBe(bits);
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((b) => (b & 0x7fff) <= 0x7c00);
    expect(floatToHalf(halfToFloat(all))).toEqual(all);
    expect(bfloatToFloat(Uint16Array.of(0xbf80))).toEqual(Float32Array.of(-1));
  });
});
