/** How a part of a model is kept in memory. */
import type { Precision } from '../weights/load.ts';

/** Networks of up to so many bytes are small: traced whole (fewer calls, operations side by side), larger ones block by block. */
export const SMALL_NETWORK_BYTES = 200e6;

export interface PartMemory {
  readonly precision: Precision;
  /** What gradients keep of the forward pass; see TraceOptions. */
  readonly memory: 'residuals' | 'recompute';
}

/** Everything as float32, and everything kept: the fastest. */
export const inFull: PartMemory = { precision: 'float32', memory: 'residuals' };
