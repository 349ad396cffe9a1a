/**
 * WebAssembly as TypeScript writes it: enough of the binary format for loops over vectors of four floats. Code is a tree of bytes;
 * an operand is the code that leaves it on the stack. Source: WebAssembly core specification 3.0, chapter 5 (binary format).
 */
export type Code = readonly (number | Code)[];
export type ValueType = 'i32' | 'f32' | 'v128';

/** What is used of WebAssembly, whose types are the browser's. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}
interface WebAssemblyApi {
  validate(bytes: Uint8Array): boolean;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: { env: { memory: SharedMemory } }) => { readonly exports: unknown };
}
export const webAssembly = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

const typeBytes: Record<ValueType, number> = { i32: 0x7f, f32: 0x7d, v128: 0x7b };
const empty = 0x40; // a block without a result

/** LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value >>> 0; ; ) {
    const low = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest ? low | 0x80 : low);
    if (!rest) return bytes;
  }
}

function signed(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value | 0; ; ) {
    const low = rest & 0x7f;
    rest >>= 7;
    const last = (rest === 0 && !(low & 0x40)) || (rest === -1 && (low & 0x40) !== 0);
    bytes.push(last ? low : low | 0x80);
    if (last) return bytes;
  }
}

const floatBytes = (value: number): number[] => [...new Uint8Array(Float32Array.of(value).buffer)];
const counted = (items: readonly Code[]): Code => [unsigned(items.length), items];
const sized = (code: Code): Code => {
  const bytes = flatten(code);
  return [unsigned(bytes.length), bytes];
};
const flatten = (code: Code): number[] => (code as number[]).flat(Infinity) as number[];

const binary = (opcode: number) => (a: Code, b: Code): Code => [a, b, opcode];
const vector = (opcode: number) => (...operands: Code[]): Code => [operands, 0xfd, unsigned(opcode)];
const memory = (opcode: Code, alignment: number) => (address: Code, offset = 0): Code => [address, opcode, alignment, unsigned(offset)];
const store = (opcode: Code, alignment: number) => (address: Code, value: Code, offset = 0): Code => [address, value, opcode, alignment, unsigned(offset)];

export const i32 = {
  const: (value: number): Code => [0x41, signed(value)],
  load: memory([0x28], 2),
  store: store([0x36], 2),
  eqz: (a: Code): Code => [a, 0x45],
  eq: binary(0x46), lt: binary(0x48), below: binary(0x49), ge: binary(0x4e), // below: as unsigned numbers
  add: binary(0x6a), sub: binary(0x6b), mul: binary(0x6c), div: binary(0x6e), rem: binary(0x70), // div, rem: unsigned
  and: binary(0x71), shl: binary(0x74), shr: binary(0x76),
  min: (a: Code, b: Code): Code => [a, b, a, b, 0x48, 0x1b],
};

export const f32 = {
  const: (value: number): Code => [0x43, floatBytes(value)],
  load: memory([0x2a], 2),
  store: store([0x38], 2),
  fromInt: (a: Code): Code => [a, 0xb2],
  sqrt: (a: Code): Code => [a, 0x91],
  add: binary(0x92), sub: binary(0x93), mul: binary(0x94), div: binary(0x95),
};

export const v128 = {
  load: memory([0xfd, 0x00], 2),
  /** One float to all four lanes. */
  loadSplat: memory([0xfd, 0x09], 2),
  store: store([0xfd, 0x0b], 2),
  storeLane: (lane: number, address: Code, value: Code, offset = 0): Code => [address, value, 0xfd, 0x5a, 2, unsigned(offset), lane],
  const: (value: number): Code => [0xfd, 0x0c, [value, value, value, value].map(floatBytes)],
  splat: vector(0x13),
  lane: (lane: number, a: Code): Code => [a, 0xfd, 0x1f, lane],
  add: vector(0xe4), sub: vector(0xe5), mul: vector(0xe6), div: vector(0xe7), sqrt: vector(0xe3), neg: vector(0xe1),
  min: vector(0xe8), max: vector(0xe9), nearest: vector(0x6a),
  /** Four floats to integers, cut off. */
  toInt: vector(0xf8),
  addInt: vector(0xae),
  shl: (a: Code, bits: number): Code => [a, i32.const(bits), 0xfd, unsigned(0xab)],
  /** a b + c, rounded once where the processor can and `fused` allows, otherwise twice. */
  madd: (a: Code, b: Code, c: Code): Code => (useFused ? [a, b, c, 0xfd, unsigned(0x105)] : [c, a, b, 0xfd, unsigned(0xe6), 0xfd, unsigned(0xe4)]),
};
let useFused = true;

/** Sum of the four lanes. */
export function sumLanes(local: Local): Code {
  return [0, 1, 2, 3].map((lane) => v128.lane(lane, local.get)).reduce((a, b) => f32.add(a, b));
}

/** A local variable of the function being written. */
export class Local {
  readonly index: number;
  constructor(index: number) {
    this.index = index;
  }
  get get(): Code {
    return [0x20, unsigned(this.index)];
  }
  set(value: Code): Code {
    return [value, 0x21, unsigned(this.index)];
  }
  /** Sets, and leaves the value on the stack. */
  tee(value: Code): Code {
    return [value, 0x22, unsigned(this.index)];
  }
  /** Adds to an integer. */
  step(by: Code | number): Code {
    return this.set(i32.add(this.get, typeof by === 'number' ? i32.const(by) : by));
  }
}

/** The function being written: its parameters, all integers, and its locals. */
export class Writer {
  readonly #types: ValueType[] = [];
  readonly #parameters: number;
  constructor(parameters: number) {
    this.#parameters = parameters;
  }
  parameter(index: number): Local {
    return new Local(index);
  }
  local(type: ValueType): Local {
    this.#types.push(type);
    return new Local(this.#parameters + this.#types.length - 1);
  }
  i32(): Local {
    return this.local('i32');
  }
  v128(): Local {
    return this.local('v128');
  }
  locals(): Code {
    return counted(this.#types.map((type) => [1, typeBytes[type]]));
  }
}

/** Runs `body` while `index` goes from 0 to `count` - 1. */
export function repeat(index: Local, count: Code, body: Code): Code {
  const again = [0x03, empty, body, i32.lt(index.tee(i32.add(index.get, i32.const(1))), count), 0x0d, 0, 0x0b];
  return [index.set(i32.const(0)), when(i32.lt(i32.const(0), count), again)];
}

export function when(condition: Code, then: Code, otherwise?: Code): Code {
  return [condition, 0x04, empty, then, otherwise ? [0x05, otherwise] : [], 0x0b];
}

/** `then` or `otherwise`, both computed. */
export const choose = (condition: Code, then: Code, otherwise: Code): Code => [then, otherwise, condition, 0x1b];

/** What a kernel is: code for one unit of a job, whose arguments are integers in memory. */
export type KernelCode = (writer: Writer, job: { args: Local; scratch: Local; unit: Local }) => Code;

/** Most pages of 64 kB of the memory that is imported. */
const mostPages = 65536;

/**
 * A module with one function (args, scratch, unit) for each kernel, over an imported memory that threads share.
 * @param fused whether products are added without being rounded before, which is twice as fast and differs in the last place
 */
export function assemble(kernels: Readonly<Record<string, KernelCode>>, fused: boolean): Uint8Array<ArrayBuffer> {
  useFused = fused;
  const names = Object.keys(kernels);
  const text = (s: string): Code => sized([...new TextEncoder().encode(s)]);
  const section = (id: number, content: Code): Code => [id, sized(content)];
  const bodies = names.map((name) => {
    const writer = new Writer(3);
    const code = kernels[name]!(writer, { args: writer.parameter(0), scratch: writer.parameter(1), unit: writer.parameter(2) });
    return sized([writer.locals(), code, 0x0b]);
  });
  const i = typeBytes.i32;
  return new Uint8Array(flatten([
    [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    section(1, counted([[0x60, 3, i, i, i, 0]])),
    section(2, counted([[text('env'), text('memory'), 0x02, 0x03, unsigned(1), unsigned(mostPages)]])),
    section(3, counted(names.map(() => [0]))),
    section(7, counted(names.map((name, index) => [text(name), 0x00, unsigned(index)]))),
    section(10, counted(bodies)),
  ]));
}
