/**
 * TFJSBinding, the small interface under tfjs-node's 155 kernels, in TypeScript over TensorFlow's C API.
 * Eager operations run here; while a {@link GraphRecorder} is attached, operations go to its graph instead.
 *
 * Source: @tensorflow/tfjs-node-gpu 4.22 dist/tfjs_binding.d.ts (the interface), binding/tfjs_backend.cc (its behaviour).
 */
import { AppError, assert } from '../../../base/errors.ts';
import { attributeType, bitcastAttributes, castAttributes, setAttributes, type Attribute } from './attributes.ts';
import { dataType, elementBytes, resourceExhausted, type CApi, type Pointer } from './capi.ts';
import type { GraphRecorder } from './graph.ts';

/** What an operation returns: the id of a tensor kept by the binding. */
export interface TensorMetadata {
  id: number;
  shape: number[];
  dtype: number;
}
export type Values = Float32Array | Int32Array | Uint8Array | BigInt64Array | readonly number[];

/** Parameters of at least so many bytes get pages of their own. */
const pageWorth = 65536;

export class TensorFlowBinding {
  readonly capi: CApi;
  readonly status: Pointer;
  /** Cores that run an operation each; 1 where they share every operation. Read when the first operation starts. */
  lanes = 1;
  /** Set while a block is being traced. */
  recorder: GraphRecorder | undefined;
  /** Bytes of the tensors alive. */
  bytesAlive = 0;
  /** Traced functions by name, which take their arguments as they are kept: what they return. */
  readonly functions = new Map<string, readonly { readonly shape: readonly number[]; readonly dtype: number }[]>();

  private started: Pointer | undefined;
  private readonly handles = new Map<number, Pointer>();
  private readonly sizes = new Map<number, number>();
  /** Types of the tensors kept in half precision, which tfjs takes for float32 and TensorFlow for int16. */
  private readonly halfTypes = new Map<number, number>();
  private nextId = 1;
  /** Grows: a network traced whole returns all its residuals, thousands where its blocks are many. */
  private results = new BigUint64Array(256);
  private readonly resultCount = new Int32Array(1);

  // The constants tfjs-node's kernels read.
  readonly TF_FLOAT = dataType.float;
  readonly TF_INT32 = dataType.int32;
  readonly TF_UINT8 = dataType.uint8;
  readonly TF_STRING = dataType.string;
  readonly TF_COMPLEX64 = dataType.complex64;
  readonly TF_INT64 = dataType.int64;
  readonly TF_BOOL = dataType.bool;
  readonly TF_RESOURCE = dataType.resource;
  readonly TF_ATTR_STRING = attributeType.string;
  readonly TF_ATTR_INT = attributeType.int;
  readonly TF_ATTR_FLOAT = attributeType.float;
  readonly TF_ATTR_BOOL = attributeType.bool;
  readonly TF_ATTR_TYPE = attributeType.type;
  readonly TF_ATTR_SHAPE = attributeType.shape;
  readonly TF_ATTR_RESOURCE = attributeType.resource;
  readonly TF_Version: string;

  constructor(capi: CApi) {
    this.capi = capi;
    this.TF_Version = capi.version();
    this.status = capi.newStatus();
  }

  /** What operations run in, made for the first of them. */
  get context(): Pointer {
    return (this.started ??= this.newContext());
  }

  get hasStarted(): boolean {
    return this.started !== undefined;
  }

  private newContext(): Pointer {
    const { capi, status, lanes } = this;
    const options = capi.newContextOptions();
    // ConfigProto: int32 intra_op_parallelism_threads = 2, inter_op_parallelism_threads = 5
    if (lanes > 1) capi.setConfig(options, Uint8Array.of(0x10, 1, 0x28, Math.min(lanes, 127)), 4, status);
    const context = capi.newContext(options, status);
    capi.deleteContextOptions(options);
    this.check('starting TensorFlow');
    return context;
  }

  /** @throws AppError('engine') when memory ran out, Error for anything else TensorFlow refused. */
  check(what: string): void {
    const code = this.capi.code(this.status);
    if (code === 0) return;
    const message = this.capi.message(this.status);
    if (code === resourceExhausted) throw outOfMemory(`${what}: ${message}`);
    throw new Error(`TensorFlow: ${what}: ${message}`);
  }

  /** A fresh id, of a handle here or of a symbol in the recorder. */
  newId(): number {
    return this.nextId++;
  }

  /** Copies values into a new tensor. @param dtype a TF_DataType */
  createTensor(shape: readonly number[], dtype: number, values: Values): number {
    const data = inMemoryForm(dtype, values);
    if (this.recorder) return this.recorder.constant(shape, dtype, data, () => this.newTensor(shape, dtype, data));
    return this.keepHandle(this.newHandle(this.newTensor(shape, dtype, data)), shape, dtype);
  }

  /**
   * A tensor in pages of its own, which the system gets back when it is deleted. In half precision it stands for the float32
   * values of its bits: operations, traces and reads widen it. To TensorFlow it is int16 until then, as oneDNN looks at every
   * function with arguments in half precision and warns that it has no kernels for them here.
   * @param bytes row-major values of `shape`, of `type`
   * @param options.as the type it is kept in, `type` if left out
   * @param options.axes the order its axes are kept in
   */
  createParameter(shape: readonly number[], type: number, bytes: Uint8Array, options: { as?: number; axes?: readonly number[] }): TensorMetadata {
    const { as = type, axes } = options;
    const moved = elementBytes[type] === 2 ? dataType.int16 : type;
    let handle = this.newHandle(this.newTensor(shape, moved, bytes));
    let kept = shape;
    const through = (name: string, attributes: readonly Attribute[], others: readonly Pointer[]): void => {
      const [next] = this.run(name, attributes, [handle, ...others], 1);
      this.capi.deleteHandle(handle);
      handle = next!;
    };
    if (axes) {
      const order = this.newHandle(this.newTensor([axes.length], dataType.int32, Int32Array.from(axes)));
      through('Transpose', [{ name: 'T', type: attributeType.type, value: moved }, { name: 'Tperm', type: attributeType.type, value: dataType.int32 }], [order]);
      this.capi.deleteHandle(order);
      kept = axes.map((axis) => shape[axis]!);
    }
    if (as !== type) through('Cast', castAttributes(type, as), []);
    const half = as !== dataType.float;
    const id = this.keepHandle(this.inOwnPages(handle, kept, half ? dataType.int16 : as), kept, as);
    if (half) this.halfTypes.set(id, as);
    return { id, shape: [...kept], dtype: dataType.float };
  }

  /** The TF_DataType of a tensor kept in half precision, undefined for others. */
  halfType(id: number): number | undefined {
    return this.halfTypes.get(id);
  }

  deleteTensor(id: number): void {
    const handle = this.handles.get(id);
    if (handle === undefined) {
      this.recorder?.forget(id);
      return;
    }
    this.capi.deleteHandle(handle);
    this.bytesAlive -= this.sizes.get(id)!;
    this.handles.delete(id);
    this.sizes.delete(id);
    this.halfTypes.delete(id);
  }

  /** The values of a tensor, copied. */
  tensorDataSync(id: number): Float32Array | Int32Array | Uint8Array | BigInt64Array {
    const handle = this.handles.get(id);
    assert(handle !== undefined, () =>
      this.recorder ? `${this.recorder.name}: a traced block may not read the values of its tensors` : `tensor ${id} is not alive`);
    if (this.halfTypes.has(id)) {
      const wide = this.widen(id);
      const values = this.tensorDataSync(wide);
      this.deleteTensor(wide);
      return values;
    }
    const tensor = this.capi.resolve(handle!, this.status);
    this.check('reading a tensor');
    const bytes = this.capi.tensorByteSize(tensor);
    const buffer = new ArrayBuffer(bytes);
    if (bytes) this.capi.memcpy(new Uint8Array(buffer), this.capi.tensorData(tensor), bytes);
    this.capi.deleteTensor(tensor);
    switch (this.capi.handleType(handle!)) {
      case dataType.float:
      case dataType.complex64:
        return new Float32Array(buffer);
      case dataType.int32:
        return new Int32Array(buffer);
      case dataType.int64:
        return new BigInt64Array(buffer);
      default:
        return new Uint8Array(buffer);
    }
  }

  /** Runs one operation, or a traced function by its name. @returns metadata of `outputs` new tensors */
  executeOp(name: string, attributes: readonly Attribute[], inputs: readonly number[], outputs: number): TensorMetadata[] {
    if (this.recorder) return this.recorder.operation(name, attributes, inputs, outputs);
    const halves = this.halfTypes.size > 0 && !this.functions.has(name) ? inputs.filter((id) => this.halfTypes.has(id)) : [];
    const wide = new Map(halves.map((id) => [id, this.widen(id)]));
    try {
      const handles = inputs.map((id) => {
        const handle = this.handles.get(wide.get(id) ?? id);
        assert(handle !== undefined, () => `${name}: input tensor ${id} is not alive`);
        return handle!;
      });
      return this.run(name, attributes, handles, outputs).map((handle) => this.describe(handle));
    } finally {
      for (const id of wide.values()) this.deleteTensor(id);
    }
  }

  /** Runs one operation on handles as they are. @returns new handles */
  private run(name: string, attributes: readonly Attribute[], inputs: readonly Pointer[], outputs: number): Pointer[] {
    const { capi, status } = this;
    if (outputs > this.results.length) this.results = new BigUint64Array(2 * outputs);
    const { results } = this;
    const op = capi.newOp(this.context, name, status);
    this.check(name);
    try {
      for (const handle of inputs) capi.addInput(op, handle, status);
      setAttributes(capi, 'eager', op, attributes, status);
      this.resultCount[0] = outputs;
      capi.execute(op, results, this.resultCount, status);
      this.check(name);
    } finally {
      capi.deleteOp(op);
    }
    return Array.from(results.subarray(0, outputs));
  }

  /** A float32 tensor of the values of one in half precision. */
  private widen(id: number): number {
    const type = this.halfTypes.get(id)!;
    const [half] = this.run('Bitcast', bitcastAttributes(type), [this.handles.get(id)!], 1);
    const [wide] = this.run('Cast', castAttributes(type, dataType.float), [half!], 1);
    this.capi.deleteHandle(half!);
    return this.describe(wide!).id;
  }

  /** A handle sharing the tensor's buffer; the tensor is given up. */
  private newHandle(tensor: Pointer): Pointer {
    const handle = this.capi.newHandle(tensor, this.status);
    this.capi.deleteTensor(tensor);
    this.check('creating a tensor');
    return handle;
  }

  /** The same bits as a tensor of `dtype`, in pages of its own unless it would hardly fill them; the handle is given up. */
  private inOwnPages(handle: Pointer, shape: readonly number[], dtype: number): Pointer {
    const { capi } = this;
    const tensor = capi.resolve(handle, this.status);
    this.check('reading a tensor');
    try {
      const bytes = capi.tensorByteSize(tensor);
      const dims = BigInt64Array.from(shape, BigInt);
      let own: Pointer | null;
      if (bytes < pageWorth) {
        own = capi.allocateTensor(dtype, dims, shape.length, bytes);
        if (own) capi.memcpy(capi.tensorData(own), capi.tensorData(tensor), bytes);
      } else {
        const address = capi.pages.allocate(bytes);
        if (address) capi.memcpy(address, capi.tensorData(tensor), bytes);
        own = address && capi.newTensor(dtype, dims, shape.length, address, bytes, capi.pages.release, null);
      }
      if (!own) throw outOfMemory(`allocating ${bytes} bytes for a parameter of shape [${shape}]`);
      capi.deleteHandle(handle);
      return this.newHandle(own);
    } finally {
      capi.deleteTensor(tensor);
    }
  }

  isUsingGpuDevice(): boolean {
    return false;
  }
  getNumOfTensors(): number {
    return this.handles.size;
  }
  getNumOfSavedModels(): number {
    return 0;
  }

  /** Reads shape and type of a new handle and keeps it. */
  private describe(handle: Pointer): TensorMetadata {
    const { capi, status } = this;
    const rank = capi.handleRank(handle, status);
    const shape = new Array<number>(rank);
    for (let i = 0; i < rank; i++) shape[i] = Number(capi.handleDim(handle, i, status));
    const dtype = capi.handleType(handle);
    return { id: this.keepHandle(handle, shape, dtype), shape, dtype };
  }

  private keepHandle(handle: Pointer, shape: readonly number[], dtype: number): number {
    const id = this.newId();
    let bytes = elementBytes[dtype] ?? 0;
    for (const dim of shape) bytes *= dim;
    this.handles.set(id, handle);
    this.sizes.set(id, bytes);
    this.bytesAlive += bytes;
    return id;
  }

  /** A TF_Tensor holding a copy of `data`; the caller deletes it. */
  private newTensor(shape: readonly number[], dtype: number, data: ArrayBufferView): Pointer {
    let elements = 1;
    for (const dim of shape) elements *= dim;
    const bytes = elements * elementBytes[dtype]!;
    assert(bytes === data.byteLength, () => `tensor of shape [${shape}], type ${dtype} takes ${bytes} bytes, got ${data.byteLength}`);
    const dims = shape.length ? BigInt64Array.from(shape, BigInt) : null;
    const tensor = this.capi.allocateTensor(dtype, dims, shape.length, bytes);
    if (!tensor) throw outOfMemory(`allocating ${bytes} bytes for a tensor of shape [${shape}]`);
    if (bytes) this.capi.memcpy(this.capi.tensorData(tensor), data, bytes);
    return tensor;
  }
}

/** Values laid out as TensorFlow keeps them. */
function inMemoryForm(dtype: number, values: Values): ArrayBufferView {
  switch (dtype) {
    case dataType.float:
    case dataType.complex64: // pairs of (real, imaginary)
      return values instanceof Float32Array ? values : Float32Array.from(values as readonly number[]);
    case dataType.int32:
      return values instanceof Int32Array ? values : Int32Array.from(values as readonly number[]);
    case dataType.bool:
    case dataType.uint8:
      return values instanceof Uint8Array ? values : Uint8Array.from(values as readonly number[]);
    case dataType.int64:
      // tfjs-node hands an int64 scalar over as two int32 words, low first.
      if (values instanceof Int32Array || values instanceof BigInt64Array) return values;
      return BigInt64Array.from(values as readonly number[], BigInt);
    default:
      throw new AppError('engine', `The TensorFlow engine does not hold tensors of type ${dtype} (text or resources).`);
  }
}

function outOfMemory(detail: string): AppError {
  return new AppError('engine', `The TensorFlow engine ran out of memory (${detail}).`, {
    hint: 'Use a smaller batch or picture, or set memory to low.',
  });
}
