/** The driver of product.ts: packs the second factor, and multiplies. */
import { assert } from '../../../base/errors.ts';
import { pack, packArguments, panelBytes, product, productArguments, TILE_COLUMNS, TILE_ROWS } from './product.ts';
import { SCRATCH_BYTES, type KernelPool } from './pool.ts';

export const productKernels = { pack, product };
type Pool = Pick<KernelPool<keyof typeof productKernels>, 'run' | 'threads' | 'allocate' | 'free' | 'zeros'>;

/** One or more second factors, [taps, rows, columns] by their strides in bytes. */
export interface Factor {
  readonly at: number;
  readonly taps: number;
  readonly tapStride: number;
  readonly rows: number;
  readonly rowStride: number;
  readonly columns: number;
  readonly columnStride: number;
  readonly matrixStride: number;
}

/** Where a row of the result finds its rows of the first factor; see productArguments. */
export interface Window {
  readonly h: number;
  readonly w: number;
  readonly outH: number;
  readonly outW: number;
  readonly kh: number;
  readonly kw: number;
  readonly stride: number;
  readonly top: number;
  readonly left: number;
  /** Above 1: zeros lie between the pixels of the input. */
  readonly dilation: number;
}

export interface Multiplication {
  /** Address, and bytes between matrices. */
  readonly x: { readonly at: number; readonly matrixStride: number };
  readonly factor: Factor;
  /** Address of one number for each column; 0 for none. */
  readonly bias: number;
  readonly y: number;
  /** Matrices of the result. */
  readonly count: number;
  /** Rows of one of them. */
  readonly rows: number;
  readonly window: Window;
}

/** Values in the order in which a kernel reads them. */
export const inOrder = <Name extends string>(names: readonly Name[], values: Readonly<Record<Name, number>>): number[] => names.map((name) => values[name]);

/** y = x * factor + bias, for each matrix. */
export function multiply(pool: Pool, { x, factor, bias, y, count, rows, window }: Multiplication): void {
  const { taps, columns, rows: depth } = factor;
  assert(taps === window.kh * window.kw && taps * TILE_ROWS * 4 <= SCRATCH_BYTES, () => `multiply: ${taps} taps of a ${window.kh} x ${window.kw} window`);
  const factors = factor.matrixStride === 0 ? 1 : count;
  const panels = Math.ceil(columns / TILE_COLUMNS);
  const packedStride = panels * panelBytes(taps * depth);
  const packed = pool.allocate((factors * packedStride) / 4);
  const { at: from, ...strides } = factor;
  pool.run('pack', inOrder(packArguments, { ...strides, from, to: packed, bias, panels, packedStride }), factors * panels, factors * taps * depth * columns);
  const tiles = Math.ceil(rows / TILE_ROWS);
  // Several units for each thread, of at most 8 tiles, which share a packed panel while it is in the cache.
  const blockPanels = Math.max(1, Math.min(8, Math.floor((count * tiles) / (6 * pool.threads)), Math.floor(SCRATCH_BYTES / (4 * TILE_ROWS * taps))));
  const blocks = Math.ceil(tiles / blockPanels);
  pool.run('product', inOrder(productArguments, {
    x: x.at, packed, y, zeros: pool.zeros(depth), rows, columns, depth, ...window, rowBytes: 4 * depth, blockPanels, blocks,
    xStride: x.matrixStride, packedStride: factors === 1 ? 0 : packedStride, yStride: 4 * rows * columns,
  }), count * blocks, count * rows * taps * depth * columns);
  pool.free(packed);
}

/** The window of plain rows. */
export function plainRows(rows: number): Window {
  return { h: 1, w: rows, outH: 1, outW: rows, kh: 1, kw: 1, stride: 1, top: 0, left: 0, dilation: 1 };
}
