/**
 * AdamW whose moments are kept in 8 bits: each block of 256 values as places in a fixed map, times the block's largest. Small tensors keep theirs in 32.
 * Source: Dettmers et al., arXiv 2110.02861; bitsandbytes 0.50.2 backends/cpu/ops.py _optimizer_update_8bit_blockwise_cpu, functional.py
 * create_dynamic_map, optim/optimizer.py Optimizer2State.init_state.
 */
import type { OptimizerConfig } from '../../contract/run.ts';
import { adamW } from './adamw.ts';
import { sizeOf, zeroSlots, type Optimizer, type Shape } from './optimizer.ts';

const BLOCK = 256;
/** Tensors with fewer values are kept in 32 bits: bitsandbytes' min_8bit_size. */
const SMALL = 4096;

/** The 256 values of the map, ascending: fractions of seven decades, finer towards 1, with 0 and 1. Mean's have both signs, the square's none. */
export function dynamicMap(signed: boolean): Float32Array {
  const values = [0, 1];
  for (let i = 0; i < 7; i++) {
    const count = 2 ** (signed ? i : i + 1);
    const edge = (k: number): number => Math.fround(0.1 + (0.9 * k) / count);
    for (let k = 0; k < count; k++) {
      const value = Math.fround(10 ** (i - 6) * Math.fround(Math.fround(edge(k) + edge(k + 1)) / 2));
      values.push(value, ...(signed ? [-value] : []));
    }
  }
  return Float32Array.from(values).sort();
}

interface Blocks { readonly codes: Uint8Array; readonly scales: Float32Array }

class Quantizer {
  private readonly map: Float32Array;
  /** Between each value and the next. */
  private readonly middles: Float32Array;

  constructor(map: Float32Array) {
    this.map = map;
    this.middles = Float32Array.from({ length: 255 }, (_, i) => (map[i]! + map[i + 1]!) / 2);
  }

  /** Values of one block into `out`. */
  read({ codes, scales }: Blocks, block: number, out: Float32Array): void {
    const [begin, scale] = [block * BLOCK, scales[block]!];
    const count = Math.min(BLOCK, codes.length - begin);
    for (let i = 0; i < count; i++) out[i] = this.map[codes[begin + i]!]! * scale;
  }

  /** The nearest place of each of `count` values. */
  write({ codes, scales }: Blocks, block: number, values: Float32Array, count: number): void {
    let largest = 0;
    for (let i = 0; i < count; i++) largest = Math.max(largest, Math.abs(values[i]!));
    scales[block] = largest;
    const factor = largest > 0 ? 1 / largest : 0;
    for (let i = 0; i < count; i++) {
      const value = values[i]! * factor;
      let low = 0;
      for (let width = 128; width > 0; width >>= 1) if (value > this.middles[low + width - 1]!) low += width;
      codes[block * BLOCK + i] = low;
    }
  }
}

/** The update of {@link adamW}, its moments read from and written back to their blocks. */
export function adamW8bit(config: Pick<OptimizerConfig, 'betas' | 'eps' | 'weightDecay'>, shapes: readonly Shape[]): Optimizer {
  const small = (shape: Shape): boolean => sizeOf(shape) < SMALL;
  const none: readonly number[] = [0];
  const slots = (shape: Shape) => {
    const blocks = [Math.ceil(sizeOf(shape) / BLOCK)];
    return small(shape) ? { mean: shape, square: shape, meanScale: none, squareScale: none } : { mean: none, square: none, meanScale: blocks, squareScale: blocks };
  };
  const codes = (shape: Shape) => ({ mean8: small(shape) ? none : shape, square8: small(shape) ? none : shape });
  const kinds = [new Quantizer(dynamicMap(true)), new Quantizer(dynamicMap(false))] as const;
  const plain = adamW(config, shapes);
  const [mean, square] = [new Float32Array(BLOCK), new Float32Array(BLOCK)];
  return {
    slots, codes,
    start: () => ({
      step: 0, numbers: {}, slots: zeroSlots({ slots }, shapes, ['mean', 'square', 'meanScale', 'squareScale']),
      codes: Object.fromEntries((['mean8', 'square8'] as const).map((name) => [name, shapes.map((shape) => new Uint8Array(sizeOf(codes(shape)[name])))])),
    }),
    step(parameters, gradients, state, lr) {
      const step = state.step;
      parameters.forEach((p, k) => {
        const g = gradients[k]!;
        if (small(shapes[k]!)) {
          plain.step([p], [g], { step, numbers: {}, slots: { mean: [state.slots['mean']![k]!], square: [state.slots['square']![k]!] } }, lr);
          return;
        }
        const means = { codes: state.codes!['mean8']![k]!, scales: state.slots['meanScale']![k]! };
        const squares = { codes: state.codes!['square8']![k]!, scales: state.slots['squareScale']![k]! };
        for (let block = 0; block * BLOCK < p.length; block++) {
          const [begin, end] = [block * BLOCK, Math.min(p.length, (block + 1) * BLOCK)];
          kinds[0].read(means, block, mean);
          kinds[1].read(squares, block, square);
          plain.step([p.subarray(begin, end)], [g.subarray(begin, end)], { step, numbers: {}, slots: { mean: [mean], square: [square] } }, lr);
          kinds[0].write(means, block, mean, end - begin);
          kinds[1].write(squares, block, square, end - begin);
        }
      });
      state.step += 1;
    },
  };
}
