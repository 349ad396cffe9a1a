/** Golden tensors: a safetensors file read without the code under test, and closeness by relative L2. */
import { readFileSync } from 'node:fs';
import { tf, type Tensor } from '../../src-main/engine/tf.ts';

export interface Fixture {
  readonly names: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  values(name: string): Float32Array;
  shape(name: string): number[];
  /** As a new float32 tensor. */
  tensor<T extends Tensor = Tensor>(name: string): T;
}

type Entry = { dtype: string; shape: number[]; data_offsets: [number, number] };

export function readFixture(path: string): Fixture {
  const file = readFileSync(path);
  const size = Number(file.readBigUInt64LE(0));
  const { __metadata__: metadata = {}, ...entries } = JSON.parse(file.toString('utf8', 8, 8 + size)) as Record<string, Entry> & { __metadata__?: Record<string, string> };
  const entry = (name: string): Entry => {
    const found = (entries as Record<string, Entry>)[name];
    if (!found) throw new Error(`${path} has no "${name}"`);
    if (found.dtype !== 'F32') throw new Error(`${name} is ${found.dtype}`);
    return found;
  };
  const values = (name: string): Float32Array => {
    const [from, to] = entry(name).data_offsets;
    return new Float32Array(Uint8Array.from(file.subarray(8 + size + from, 8 + size + to)).buffer);
  };
  return {
    names: Object.keys(entries), metadata: metadata as Record<string, string>, values,
    shape: (name) => entry(name).shape,
    tensor: <T extends Tensor>(name: string) => tf.tensor(values(name), entry(name).shape) as T,
  };
}

/** |a - b| / |b| over all values; |a| where b is zero. */
export function relativeL2(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let [difference, norm] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return Math.sqrt(norm > 0 ? difference / norm : difference);
}
