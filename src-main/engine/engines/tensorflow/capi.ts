/**
 * TensorFlow's C API (tensorflow/c/c_api.h, tensorflow/c/eager/c_api.h, 2.21), as far as the engine uses it.
 * Pointers are bigints. The two libraries come out of TensorFlow's own Python wheels (see hub/engine-pack.ts).
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import koffi, { type LibraryHandle as Library } from 'koffi';
import { AppError, errorLine } from '../../../base/errors.ts';
import { libraryNames } from '../../library-names.ts';
import { giveBackLoadedPages } from './lean.ts';

export type Pointer = bigint;
/** TF_Output: one result of an operation in a graph. */
export interface Output {
  oper: Pointer;
  index: number;
}

/** TF_DataType. */
export const dataType = { float: 1, int32: 3, uint8: 4, int16: 5, string: 7, complex64: 8, int64: 9, bool: 10, bfloat16: 14, half: 19, resource: 20 } as const;
/** Bytes of one element, by TF_DataType. */
export const elementBytes: Readonly<Record<number, number>> = { 1: 4, 3: 4, 4: 1, 5: 2, 8: 8, 9: 8, 10: 1, 14: 2, 19: 2 };
/** TF_Code of a failed allocation. */
export const resourceExhausted = 8;

const P = 'void *';
let outputType: unknown;

/** Opens the libraries and binds the functions. */
function bind(framework: Library, cc: Library, c: Library) {
  outputType ??= koffi.struct('TF_Output', { oper: 'void *', index: 'int' });
  const f = <A extends unknown[], R>(lib: Library, returns: string, name: string, args: string[]) =>
    lib.func(name, returns, args) as unknown as (...args: A) => R;
  type Data = ArrayBufferView | bigint | null;
  return {
    // status
    newStatus: f<[], Pointer>(framework, P, 'TF_NewStatus', []),
    code: f<[Pointer], number>(framework, 'int', 'TF_GetCode', [P]),
    message: f<[Pointer], string>(framework, 'str', 'TF_Message', [P]),
    version: f<[], string>(cc, 'str', 'TF_Version', []),
    // tensors
    allocateTensor: f<[number, Data, number, number], Pointer | null>(framework, P, 'TF_AllocateTensor', ['int', P, 'int', 'size_t']),
    /** @param deallocator a C function (data, bytes, argument) */
    newTensor: f<[number, Data, number, Pointer, number, Pointer, null], Pointer | null>(framework, P, 'TF_NewTensor', ['int', P, 'int', P, 'size_t', P, P]),
    tensorData: f<[Pointer], Pointer>(framework, P, 'TF_TensorData', [P]),
    tensorByteSize: f<[Pointer], number>(framework, 'size_t', 'TF_TensorByteSize', [P]),
    deleteTensor: f<[Pointer], void>(framework, 'void', 'TF_DeleteTensor', [P]),
    memcpy: f<[Data, Data, number], void>(c, 'void', 'memcpy', [P, P, 'size_t']),
    pages: pages(c),
    giveBackLoadedPages: () => giveBackLoadedPages(c),
    // eager context and handles
    newContextOptions: f<[], Pointer>(cc, P, 'TFE_NewContextOptions', []),
    /** @param config a serialized ConfigProto */
    setConfig: f<[Pointer, Uint8Array, number, Pointer], void>(cc, 'void', 'TFE_ContextOptionsSetConfig', [P, P, 'size_t', P]),
    deleteContextOptions: f<[Pointer], void>(cc, 'void', 'TFE_DeleteContextOptions', [P]),
    newContext: f<[Pointer, Pointer], Pointer>(cc, P, 'TFE_NewContext', [P, P]),
    newHandle: f<[Pointer, Pointer], Pointer>(cc, P, 'TFE_NewTensorHandle', [P, P]),
    deleteHandle: f<[Pointer], void>(cc, 'void', 'TFE_DeleteTensorHandle', [P]),
    resolve: f<[Pointer, Pointer], Pointer>(cc, P, 'TFE_TensorHandleResolve', [P, P]),
    handleType: f<[Pointer], number>(cc, 'int', 'TFE_TensorHandleDataType', [P]),
    handleRank: f<[Pointer, Pointer], number>(cc, 'int', 'TFE_TensorHandleNumDims', [P, P]),
    handleDim: f<[Pointer, number, Pointer], number>(cc, 'int64_t', 'TFE_TensorHandleDim', [P, 'int', P]),
    // eager operations
    newOp: f<[Pointer, string, Pointer], Pointer>(cc, P, 'TFE_NewOp', [P, 'str', P]),
    deleteOp: f<[Pointer], void>(cc, 'void', 'TFE_DeleteOp', [P]),
    addInput: f<[Pointer, Pointer, Pointer], void>(cc, 'void', 'TFE_OpAddInput', [P, P, P]),
    execute: f<[Pointer, BigUint64Array, Int32Array, Pointer], void>(cc, 'void', 'TFE_Execute', [P, P, P, P]),
    eager: {
      type: f<[Pointer, string, number], void>(cc, 'void', 'TFE_OpSetAttrType', [P, 'str', 'int']),
      int: f<[Pointer, string, number], void>(cc, 'void', 'TFE_OpSetAttrInt', [P, 'str', 'int64_t']),
      float: f<[Pointer, string, number], void>(cc, 'void', 'TFE_OpSetAttrFloat', [P, 'str', 'float']),
      bool: f<[Pointer, string, number], void>(cc, 'void', 'TFE_OpSetAttrBool', [P, 'str', 'uint8_t']),
      string: f<[Pointer, string, Data, number], void>(cc, 'void', 'TFE_OpSetAttrString', [P, 'str', P, 'size_t']),
      intList: f<[Pointer, string, Data, number], void>(cc, 'void', 'TFE_OpSetAttrIntList', [P, 'str', P, 'int']),
      typeList: f<[Pointer, string, Data, number], void>(cc, 'void', 'TFE_OpSetAttrTypeList', [P, 'str', P, 'int']),
      stringList: f<[Pointer, string, Data, Data, number], void>(cc, 'void', 'TFE_OpSetAttrStringList', [P, 'str', P, P, 'int']),
      shape: f<[Pointer, string, Data, number, Pointer], void>(cc, 'void', 'TFE_OpSetAttrShape', [P, 'str', P, 'int', P]),
    },
    // graphs and functions
    newGraph: f<[], Pointer>(cc, P, 'TF_NewGraph', []),
    deleteGraph: f<[Pointer], void>(cc, 'void', 'TF_DeleteGraph', [P]),
    newOperation: f<[Pointer, string, string], Pointer>(cc, P, 'TF_NewOperation', [P, 'str', 'str']),
    graphInput: f<[Pointer, Output], void>(cc, 'void', 'TF_AddInput', [P, 'TF_Output']),
    graphInputList: f<[Pointer, Data, number], void>(cc, 'void', 'TF_AddInputList', [P, P, 'int']),
    finishOperation: f<[Pointer, Pointer], Pointer>(cc, P, 'TF_FinishOperation', [P, P]),
    graph: {
      type: f<[Pointer, string, number], void>(cc, 'void', 'TF_SetAttrType', [P, 'str', 'int']),
      int: f<[Pointer, string, number], void>(cc, 'void', 'TF_SetAttrInt', [P, 'str', 'int64_t']),
      float: f<[Pointer, string, number], void>(cc, 'void', 'TF_SetAttrFloat', [P, 'str', 'float']),
      bool: f<[Pointer, string, number], void>(cc, 'void', 'TF_SetAttrBool', [P, 'str', 'uint8_t']),
      string: f<[Pointer, string, Data, number], void>(cc, 'void', 'TF_SetAttrString', [P, 'str', P, 'size_t']),
      intList: f<[Pointer, string, Data, number], void>(cc, 'void', 'TF_SetAttrIntList', [P, 'str', P, 'int']),
      typeList: f<[Pointer, string, Data, number], void>(cc, 'void', 'TF_SetAttrTypeList', [P, 'str', P, 'int']),
      stringList: f<[Pointer, string, Data, Data, number], void>(cc, 'void', 'TF_SetAttrStringList', [P, 'str', P, P, 'int']),
      shape: f<[Pointer, string, Data, number], void>(cc, 'void', 'TF_SetAttrShape', [P, 'str', P, 'int']),
      tensor: f<[Pointer, string, Pointer, Pointer], void>(cc, 'void', 'TF_SetAttrTensor', [P, 'str', P, P]),
      function: f<[Pointer, string, string, number], void>(cc, 'void', 'TF_SetAttrFuncName', [P, 'str', 'str', 'size_t']),
    },
    outputRank: f<[Pointer, Output, Pointer], number>(cc, 'int', 'TF_GraphGetTensorNumDims', [P, 'TF_Output', P]),
    outputShape: f<[Pointer, Output, BigInt64Array, number, Pointer], void>(cc, 'void', 'TF_GraphGetTensorShape', [P, 'TF_Output', P, 'int', P]),
    setOutputShape: f<[Pointer, Output, BigInt64Array, number, Pointer], void>(cc, 'void', 'TF_GraphSetTensorShape', [P, 'TF_Output', P, 'int', P]),
    outputType: f<[Output], number>(cc, 'int', 'TF_OperationOutputType', ['TF_Output']),
    graphToFunction: f<
      [Pointer, string, number, number, Data, number, Data, number, Data, null, null, null, Pointer],
      Pointer
    >(cc, P, 'TF_GraphToFunction', [P, 'str', 'uint8_t', 'int', P, 'int', P, 'int', P, P, P, P, P]),
    /** @param value a serialized AttrValue */
    setFunctionAttribute: f<[Pointer, string, Uint8Array, number, Pointer], void>(cc, 'void', 'TF_FunctionSetAttrValueProto', [P, 'str', P, 'size_t', P]),
    deleteFunction: f<[Pointer], void>(cc, 'void', 'TF_DeleteFunction', [P]),
    /** Serialized, into a new TF_Buffer { const void* data; size_t length; ... }. */
    functionToDef: f<[Pointer, Pointer, Pointer], void>(cc, 'void', 'TF_FunctionToFunctionDef', [P, P, P]),
    newBuffer: f<[], Pointer>(cc, P, 'TF_NewBuffer', []),
    deleteBuffer: f<[Pointer], void>(cc, 'void', 'TF_DeleteBuffer', [P]),
    addFunctionDef: f<[Pointer, Data, number, Pointer], void>(cc, 'void', 'TFE_ContextAddFunctionDef', [P, P, 'size_t', P]),
    addFunction: f<[Pointer, Pointer, Pointer], void>(cc, 'void', 'TFE_ContextAddFunction', [P, P, P]),
  };
}

/** Memory straight from the system, which gets it back at once: TensorFlow's own allocator keeps what it once had. */
function pages(c: Library) {
  const darwin = process.platform === 'darwin';
  const mmap = c.func('mmap', P, [P, 'size_t', 'int', 'int', 'int', 'int64_t']) as unknown as (at: null, bytes: number, ...flags: number[]) => Pointer;
  const dlsym = (darwin ? c : openedDl(c)).func('dlsym', P, ['intptr_t', 'str']) as unknown as (library: number, name: string) => Pointer;
  const [readWrite, anonymous] = [0x3, darwin ? 0x1002 : 0x22];
  return {
    /** @returns null where the system has none left */
    allocate(bytes: number): Pointer | null {
      const address = mmap(null, bytes, readWrite, anonymous, -1, 0);
      return address === 0xffffffffffffffffn ? null : address;
    },
    /** The C function munmap(address, bytes). */
    release: dlsym(darwin ? -2 : 0, 'munmap'),
  };
}

export type CApi = ReturnType<typeof bind>;

/**
 * Loads the libraries of `folder`. Must be called once per process: TensorFlow keeps global state.
 * @throws AppError('engine') if a library is missing or cannot be loaded here.
 */
export function loadCApi(folder: string): CApi {
  // Read by the library while it loads. Without oneDNN, attention is 1.5 to 2 times slower on CPUs lacking AVX512,
  // and the library's static destructors crash at the end of the process.
  setNativeEnvironment('TF_ENABLE_ONEDNN_OPTS', '1');
  const names = libraryNames();
  for (const name of names) {
    if (!existsSync(join(folder, name))) {
      throw new AppError('engine', `The TensorFlow engine has no ${name} in ${folder}.`, {
        hint: 'Install the engine pack again (npm run -s drtune -- doctor shows what is there), or use the wasm engine.',
      });
    }
  }
  try {
    const c = koffi.load(process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6');
    const [framework, cc] = quietly(c, () => names.map((name) => {
      pinLibrary(c, join(folder, name));
      return koffi.load(join(folder, name), { global: true });
    })) as [Library, Library];
    quietLog(framework);
    giveBackLoadedPages(c);
    return bind(framework, cc, c);
  } catch (error) {
    throw new AppError('engine', `TensorFlow's libraries in ${folder} cannot be loaded: ${errorLine(error)}.`, {
      hint: 'They need 64-bit Linux (glibc 2.27 or newer) or macOS on Apple silicon; otherwise use the wasm engine.',
      cause: error,
    });
  }
}

/**
 * Loads the libraries without the lines they print to stderr while they start ("oneDNN custom operations are on ..."), and
 * keeps informational lines off stderr later. TF_CPP_MIN_LOG_LEVEL does that under Python only.
 */
function quietly<T>(c: Library, load: () => T): T {
  const dup = c.func('dup', 'int', ['int']);
  const dup2 = c.func('dup2', 'int', ['int', 'int']);
  const nowhere = openSync('/dev/null', 'w');
  const stderr = dup(2) as number;
  dup2(nowhere, 2);
  try {
    return load();
  } finally {
    dup2(stderr, 2);
    closeSync(stderr);
    closeSync(nowhere);
  }
}

/** The log's own threshold, by the mangled name of the function in 2.21; another build of the library just logs more. */
function quietLog(framework: Library): void {
  const errorsOnly = 2; // absl::LogSeverityAtLeast::kError
  try {
    framework.func('_ZN4absl12lts_2025081414SetMinLogLevelENS0_18LogSeverityAtLeastE', 'void', ['int'])(errorsOnly);
  } catch {
    return;
  }
}

/**
 * Opens a library for good. Node unloads native libraries at the end of a process while TensorFlow's threads still run in
 * them: a segmentation fault after every run. A library opened with RTLD_NODELETE stays.
 */
function pinLibrary(c: Library, path: string): void {
  const [now, global, noDelete] = process.platform === 'darwin' ? [0x2, 0x8, 0x80] : [0x2, 0x100, 0x1000];
  const dlopen = (process.platform === 'darwin' ? c : openedDl(c)).func('dlopen', 'void *', ['str', 'int']);
  dlopen(path, now | global | noDelete); // a failure is reported by the load that follows
}

/** glibc before 2.34 keeps dlopen in a library of its own. */
function openedDl(c: Library): Library {
  try {
    c.func('dlopen', 'void *', ['str', 'int']);
    return c;
  } catch {
    return koffi.load('libdl.so.2');
  }
}

/** Node writes process.env through to the C environment; a value the user set is left alone. */
function setNativeEnvironment(name: string, value: string): void {
  process.env[name] ??= value;
}
