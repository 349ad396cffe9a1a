/** tfjs's wasm tensors as addresses. Source: @tensorflow/tfjs-backend-wasm 4.22 dist/backend_wasm.js. */
import { tf, type Tensor } from '../../tf.ts';
import type { SharedMemory } from './assembler.ts';
import { KernelPool } from './pool.ts';
import { activationKernels } from './activation.ts';
import { productKernels } from './multiply.ts';
import { normKernels } from './normalise.ts';

interface Backend {
  readonly wasm: { _malloc(bytes: number): number; _free(at: number): void };
  readonly dataIdMap: { get(dataId: object): { memoryOffset: number } };
  makeOutput(shape: readonly number[], dtype: 'float32'): object & { dataId: object };
}

const ownKernels = { ...productKernels, ...normKernels, ...activationKernels };
export type OwnKernel = keyof typeof ownKernels;

/** Our kernels over the tensors of tfjs's open wasm backend. */
export class WasmTensors {
  readonly pool: KernelPool<OwnKernel>;
  readonly #backend: Backend;

  /** @param memory that of the backend */
  constructor(memory: SharedMemory) {
    this.#backend = tf.backend() as unknown as Backend;
    const { wasm } = this.#backend;
    this.pool = new KernelPool({ memory, allocate: (bytes) => wasm._malloc(bytes) >>> 0, free: (at) => wasm._free(at) }, ownKernels);
  }

  /** Where its values lie. */
  at(t: Tensor): number {
    return this.#backend.dataIdMap.get(t.dataId).memoryOffset;
  }

  /** A tensor of any values, to be filled. */
  empty(shape: readonly number[]): Tensor {
    return tf.engine().makeTensorFromTensorInfo(this.#backend.makeOutput(shape, 'float32') as never, this.#backend as never) as Tensor;
  }
}
