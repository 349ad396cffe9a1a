/**
 * The compute engine behind everything: TensorFlow.js's tape and ops, on kernels of one of several backends.
 * Nothing outside engine/ names a backend.
 */
import type { Tensor } from './tf.ts';

export type EngineName = 'tensorflow' | 'webgpu' | 'wasm';

/** A tree of tensors: a tensor, or a list or record of trees. Undefined leaves are left out. */
export type TensorTree = Tensor | readonly TensorTree[] | { readonly [name: string]: TensorTree | undefined };

/** A network block: a pure function of frozen weights, trainable adapter and inputs; numbers and shapes only in its closure. */
export type BlockFunction<W extends TensorTree, A extends TensorTree, I extends TensorTree> = (weights: W, adapter: A, inputs: I) => Tensor;

export interface TraceOptions {
  /**
   * What the gradient keeps of the forward pass: its intermediate values (fast), or only the arguments, computing the forward
   * pass again (small). Default 'residuals'.
   */
  readonly memory?: 'residuals' | 'recompute';
  /** Compile with XLA where the engine has it: some seconds per block and shape, then faster. Default false. */
  readonly xla?: boolean;
  /** Inside another trace it is called as one operation that takes one core, not inlined. Default false. */
  readonly called?: boolean;
}

export interface EngineInfo {
  readonly name: EngineName;
  /** Version of the kernels' library, e.g. "2.21.0". */
  readonly version: string;
  /** Words for the status bar, e.g. "CPU, 2 cores". */
  readonly device: string;
  /** Why this engine was taken, e.g. "chosen in the config", "the GPU pack is not installed". */
  readonly why: string;
}

/** How a parameter's values are written: IEEE float32, IEEE float16, or the upper half of a float32. */
export type ParameterType = 'F32' | 'F16' | 'BF16';

export interface ParameterOptions {
  /** Type it is kept in: rounds to it. As it is written, if left out. */
  readonly as?: ParameterType;
  /** The order its axes are kept in, as transpose takes it. */
  readonly axes?: readonly number[];
}

/** The same engine, whose traces keep as much for the gradient as told, where they do not say it themselves. */
export function keeping(engine: Engine, memory: 'residuals' | 'recompute'): Engine {
  return { ...engine, trace: (key, block, options) => engine.trace(key, block, { memory, ...options }) };
}

export interface Engine extends EngineInfo {
  /** How many parts of a batch it computes at the same time, each on one core; 1 where all cores share every operation. */
  lanes(): number;
  /** Tells, before anything is computed, that all of it will be small: where that is faster, cores then take pictures each. */
  beSmall(): void;
  /** Whether parameters can be kept in half precision. */
  readonly half: boolean;
  /**
   * A frozen parameter: a float32 tensor for all who use it, kept in the type its values are written in, or in another if
   * asked. Where `half` is false only F32 can be had. Its memory goes back to the system when it is disposed.
   * @param bytes row-major, little-endian values of `shape`; copied
   */
  parameter(shape: readonly number[], type: ParameterType, bytes: Uint8Array, options?: ParameterOptions): Tensor;
  /**
   * Returns a function equal to `block`. An engine that can trace records it once per distinct shapes of its arguments and
   * then runs it as one operation; elsewhere `block` is called as it is. Differentiable by the tape with respect to adapter
   * and inputs; never to weights. Inside another trace it is inlined.
   * @param key names the block's code and its closed-over constants: equal keys must mean equal functions.
   * @throws assertion naming the key if the block uses a tensor from outside its arguments or reads a tensor's values.
   */
  trace<W extends TensorTree, A extends TensorTree, I extends TensorTree>(
    key: string,
    block: BlockFunction<W, A, I>,
    options?: TraceOptions,
  ): BlockFunction<W, A, I>;
  /** Tensors alive, and the bytes the engine holds for them (values it has not used yet may still be JavaScript's). */
  memory(): { tensors: number; bytes: number };
  /** Frees the engine's own resources; the process may then exit cleanly. */
  dispose(): void;
}
