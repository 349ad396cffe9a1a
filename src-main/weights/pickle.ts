/**
 * A reader of pickles that executes nothing. Pickle is a language for a stack machine whose words may name any function of Python and call
 * it; this machine has no functions at all. It builds plain values, and notes what else the file asks for:
 *
 * - `collections.OrderedDict` and `dict` become maps, `torch.Size` a list, the functions that rebuild tensors a {@link PickledTensor}
 * - names that training frameworks leave in checkpoints (see `inert`) become a {@link Placeholder}; so does whatever "calling" one of
 *   them would give. A placeholder is a name that is stored: no code stands behind it, here or elsewhere, so that keeping it is safe.
 * - any other name is refused, naming it: a file with such a name either wants to run code or is no model
 *
 * Time and memory are bounded by the number of words, which is limited. Shared values are never copied, nested ones never walked here.
 * Source: CPython Lib/pickletools.py (opcodes of protocols 0 to 5); torch/serialization.py, torch/_utils.py.
 */
import { AppError } from '../base/errors.ts';

export type PickleValue = null | boolean | number | string | PickleValue[] | PickleMap | PickleGlobal | Placeholder | PickledStorage | PickledTensor;
export type PickleMap = Map<PickleValue, PickleValue>;

/** A name that stands for a class or function. */
export class PickleGlobal {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** Something that only Python could build; it is kept as the name of its maker. */
export class Placeholder {
  readonly maker: string;
  constructor(maker: string) {
    this.maker = maker;
  }
}

/** What a persistent id names: a part of the file that tensors share. */
export class PickledStorage {
  /** E.g. "FloatStorage". */
  readonly type: string;
  readonly key: string;
  readonly count: number;
  constructor(type: string, key: string, count: number) {
    this.type = type;
    this.key = key;
    this.count = count;
  }
}

/** Arguments of torch._utils._rebuild_tensor_v2, their types checked. */
export class PickledTensor {
  readonly storage: PickledStorage;
  /** In values, as are strides. */
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  constructor(storage: PickledStorage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/** A checkpoint of SDXL with averages and optimiser states has some 700,000 words; this many may take 500 MB. */
const wordLimit = 2_000_000;

/** Names that may stand in a checkpoint without meaning harm; nothing of theirs is run, what they would make is a placeholder. */
const inert: readonly RegExp[] = [
  /^(pytorch_lightning|lightning|lightning_fabric|omegaconf|numpy|transformers|diffusers|ldm|sgm)(\.\w+)+$/,
  /^torch\.(\w+Storage|per_\w+_affine\w*|dtype|device|float\d+\w*|bfloat16|int\d+|uint8|bool|storage\.\w+|serialization\._get_layout|nn\.parameter\.\w+|nn\.modules\.container\.ParameterDict|optim\.[\w.]+|_utils\._rebuild_\w+|_tensor\._rebuild_\w+)$/,
  /^(__builtin__|builtins)\.(set|frozenset|list|tuple|int|float|complex|bool|str|bytes|bytearray|slice|range|object)$/,
  /^(collections\.(defaultdict|Counter|deque)|_codecs\.encode|copyreg\._reconstructor|copy_reg\._reconstructor|argparse\.Namespace|pathlib\.\w+|datetime\.\w+|typing\.\w+)$/,
];

const mark = Symbol('mark');
type Slot = PickleValue | typeof mark;

/**
 * Reads one pickle.
 * @param path for messages
 * @throws AppError('weights'): one line naming what is wrong or not allowed
 */
export function readPickle(bytes: Uint8Array, path: string): PickleValue {
  return new Machine(bytes, path).run();
}

class Machine {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly path: string;
  readonly stack: Slot[] = [];
  readonly memo = new Map<number, PickleValue>();
  at = 0;

  constructor(bytes: Uint8Array, path: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.path = path;
  }

  run(): PickleValue {
    for (let read = 0; read < wordLimit; read++) {
      const code = this.byte();
      if (code === 0x2e) return this.pop(); // STOP
      const act = words[code];
      if (!act) throw this.broken(`its word ${code} at byte ${this.at - 1} is none of a model's`);
      act(this);
    }
    throw this.broken(`it has more than ${wordLimit} words`);
  }

  broken(problem: string): AppError {
    return new AppError('weights', `${this.path} is not a usable pickle: ${problem}.`, { hint: 'Use the safetensors version of the model, or download this file again.' });
  }

  /** A call of, or an attribute on, something that is not allowed. */
  forbidden(name: string): AppError {
    const shown = name.replace(/[^\w. ]/g, '?').slice(0, 80);
    return new AppError('weights', `${this.path} asks to use Python's ${shown}, which no tensors need: it could run code, and is refused.`, {
      hint: 'Use the safetensors version of the model, and do not open this file with other programs.',
    });
  }

  byte(): number {
    this.need(1);
    return this.bytes[this.at++]!;
  }

  /** Moves over `count` bytes and returns where they begin. */
  skip(count: number): number {
    this.need(count);
    this.at += count;
    return this.at - count;
  }

  need(count: number): void {
    if (!(count >= 0 && count <= this.bytes.length - this.at)) throw this.broken(`it ends at byte ${this.bytes.length}, where ${this.at + count} are needed`);
  }

  /** A length of 4 or 8 bytes. */
  length(width: 4 | 8): number {
    const from = this.skip(width);
    return width === 4 ? this.view.getUint32(from, true) : Number(this.view.getBigUint64(from, true));
  }

  text(count: number): string {
    const from = this.skip(count);
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + from, count).toString('utf8');
  }

  line(): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0 || end - this.at > 10_000) throw this.broken(`the line at byte ${this.at} has no end`);
    const line = this.text(end - this.at);
    this.at = end + 1;
    return line;
  }

  push(value: Slot): void {
    this.stack.push(value);
  }

  pop(): PickleValue {
    const value = this.stack.pop();
    if (value === undefined || value === mark) throw this.broken(`it takes a value at byte ${this.at} where none is`);
    return value;
  }

  top(): PickleValue {
    const value = this.stack.at(-1);
    if (value === undefined || value === mark) throw this.broken(`it takes a value at byte ${this.at} where none is`);
    return value;
  }

  /** All values above the last mark, which goes as well. */
  popToMark(): PickleValue[] {
    const from = this.stack.lastIndexOf(mark);
    if (from < 0) throw this.broken(`it takes values at byte ${this.at} where no mark is`);
    const values = this.stack.splice(from) as PickleValue[];
    values.shift();
    return values;
  }

  recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.broken(`it recalls value ${index}, which it has not kept`);
    this.push(value);
  }

  name(module: unknown, name: unknown): void {
    if (typeof module !== 'string' || typeof name !== 'string') throw this.broken('a name in it is no text');
    const full = `${module}.${name}`;
    if (!Object.hasOwn(makers, full) && !inert.some((pattern) => pattern.test(full))) throw this.forbidden(full);
    this.push(new PickleGlobal(full));
  }

  /** What calling would give: a plain value of the known makers, else a placeholder. */
  make(maker: PickleValue, args: PickleValue): void {
    if (!Array.isArray(args)) throw this.broken('arguments in it are no list');
    if (maker instanceof PickleGlobal) this.push(Object.hasOwn(makers, maker.name) ? makers[maker.name]!(args, this) : new Placeholder(maker.name));
    else if (maker instanceof Placeholder) this.push(new Placeholder(maker.maker));
    else throw this.broken('it calls a value');
  }

  append(values: readonly PickleValue[]): void {
    const list = this.top();
    if (list instanceof Placeholder) return;
    if (!Array.isArray(list)) throw this.broken('it appends to what is no list');
    for (const value of values) list.push(value);
  }

  setItems(values: readonly PickleValue[]): void {
    const map = this.top();
    if (values.length % 2 !== 0) throw this.broken('a key in it has no value');
    if (map instanceof Placeholder) return;
    if (!(map instanceof Map)) throw this.broken('it sets an entry of what is no dictionary');
    for (let i = 0; i < values.length; i += 2) map.set(values[i]!, values[i + 1]!);
  }

  storage(id: PickleValue): void {
    const [kind, type, key, , count] = Array.isArray(id) ? id : [];
    const name = type instanceof PickleGlobal ? /^torch\.(?:storage\.)?(\w+Storage)$/.exec(type.name)?.[1] : undefined;
    if (kind !== 'storage' || !name || typeof key !== 'string' || !natural(count)) throw this.broken('a part of the file is not named as torch does');
    this.push(new PickledStorage(name, key, count));
  }
}

function natural(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** The makers whose results are needed. */
const makers: Readonly<Record<string, (args: readonly PickleValue[], machine: Machine) => PickleValue>> = {
  'collections.OrderedDict': map,
  '__builtin__.dict': map,
  'builtins.dict': map,
  'torch.Size': ([sizes], machine) => {
    if (Array.isArray(sizes)) return sizes;
    throw machine.broken('a torch.Size in it is no list');
  },
  'torch._utils._rebuild_tensor_v2': ([storage, offset, shape, strides], machine) => {
    const sizes = Array.isArray(shape) && shape.length <= 16 && shape.every(natural) ? shape : null;
    const steps = Array.isArray(strides) && strides.length === sizes?.length && strides.every(natural) ? strides : null;
    if (storage instanceof PickledStorage && natural(offset) && sizes && steps) return new PickledTensor(storage, offset, [...sizes], [...steps]); // the lists may change later
    throw machine.broken('a tensor in it is not described as torch does');
  },
  'torch._utils._rebuild_parameter': ([tensor], machine) => {
    if (tensor instanceof PickledTensor || tensor instanceof Placeholder) return tensor;
    throw machine.broken('a parameter in it is no tensor');
  },
};

/** A dictionary, empty or of a list of pairs. */
function map(args: readonly PickleValue[], machine: Machine): PickleValue {
  const result: PickleMap = new Map();
  for (const pair of args.length > 0 && Array.isArray(args[0]) ? args[0] : []) {
    if (!Array.isArray(pair) || pair.length !== 2) throw machine.broken('a dictionary in it is made of no pairs');
    result.set(pair[0]!, pair[1]!);
  }
  return result;
}

/** A long of so many bytes; what no number holds exactly is a placeholder. */
function long(machine: Machine, bytes: number): void {
  const from = machine.skip(bytes);
  if (bytes > 8) return machine.push(new Placeholder('int'));
  let value = 0n;
  for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(machine.bytes[from + i]!);
  const number = Number(BigInt.asIntN(8 * bytes, value));
  machine.push(Number.isSafeInteger(number) ? number : new Placeholder('int'));
}

function decimal(machine: Machine, line: string): void {
  if (!/^[-+]?(\d+(\.\d*)?([eE][-+]?\d+)?L?|inf|nan)$/.test(line)) throw machine.broken(`${JSON.stringify(line.slice(0, 40))} is no number`);
  machine.push(Number(line.replace('inf', 'Infinity').replace('L', '')));
}

type Word = (machine: Machine) => void;
/** Words that name, import or find by means that no tensors need: extension registry, buffers outside, text ids. */
const refused = (what: string): Word => (machine) => {
  throw machine.forbidden(what);
};
const put = (index: (m: Machine) => number): Word => (m) => void m.memo.set(index(m), m.top());
const index = (m: Machine): number => {
  const line = m.line();
  if (!/^\d{1,10}$/.test(line)) throw m.broken(`${JSON.stringify(line.slice(0, 40))} is no place`);
  return Number(line);
};
const opaque = (what: string, length: (m: Machine) => number): Word => (m) => {
  m.skip(length(m));
  m.push(new Placeholder(what));
};

/** By opcode. */
const words: Readonly<Partial<Record<number, Word>>> = {
  0x28: (m) => m.push(mark),
  0x30: (m) => { // POP
    if (m.stack.pop() === undefined) throw m.broken('it drops a value where none is');
  },
  0x31: (m) => void m.popToMark(),
  0x32: (m) => m.push(m.top()), // DUP
  0x46: (m) => decimal(m, m.line()), // FLOAT
  0x49: (m) => { // INT
    const line = m.line();
    if (line === '00' || line === '01') m.push(line === '01');
    else decimal(m, line);
  },
  0x4c: (m) => decimal(m, m.line()), // LONG
  0x4a: (m) => m.push(m.view.getInt32(m.skip(4), true)),
  0x4b: (m) => m.push(m.byte()),
  0x4d: (m) => m.push(m.view.getUint16(m.skip(2), true)),
  0x47: (m) => m.push(m.view.getFloat64(m.skip(8), false)),
  0x4e: (m) => m.push(null),
  0x88: (m) => m.push(true),
  0x89: (m) => m.push(false),
  0x8a: (m) => long(m, m.byte()),
  0x8b: (m) => long(m, m.length(4)),
  0x53: (m) => m.push(m.line().replace(/^(['"])(.*)\1$/s, '$2')), // STRING
  0x54: (m) => m.push(m.text(m.length(4))),
  0x55: (m) => m.push(m.text(m.byte())),
  0x56: (m) => m.push(m.line()), // UNICODE
  0x58: (m) => m.push(m.text(m.length(4))),
  0x8c: (m) => m.push(m.text(m.byte())),
  0x8d: (m) => m.push(m.text(m.length(8))),
  0x42: opaque('bytes', (m) => m.length(4)),
  0x43: opaque('bytes', (m) => m.byte()),
  0x8e: opaque('bytes', (m) => m.length(8)),
  0x96: opaque('bytearray', (m) => m.length(8)),
  0x5d: (m) => m.push([]),
  0x29: (m) => m.push([]), // EMPTY_TUPLE
  0x7d: (m) => m.push(new Map()),
  0x8f: (m) => m.push(new Placeholder('set')),
  0x6c: (m) => m.push(m.popToMark()), // LIST
  0x74: (m) => m.push(m.popToMark()), // TUPLE
  0x85: (m) => m.push([m.pop()]),
  0x86: (m) => m.push([m.pop(), m.pop()].reverse()),
  0x87: (m) => m.push([m.pop(), m.pop(), m.pop()].reverse()),
  0x64: (m) => { // DICT
    const values = m.popToMark();
    m.push(new Map());
    m.setItems(values);
  },
  0x91: (m) => { // FROZENSET
    m.popToMark();
    m.push(new Placeholder('frozenset'));
  },
  0x61: (m) => m.append([m.pop()]),
  0x65: (m) => m.append(m.popToMark()),
  0x90: (m) => { // ADDITEMS
    m.popToMark();
    if (!(m.top() instanceof Placeholder)) throw m.broken('it adds to what is no set');
  },
  0x73: (m) => {
    const value = m.pop();
    m.setItems([m.pop(), value]);
  },
  0x75: (m) => m.setItems(m.popToMark()),
  0x63: (m) => { // GLOBAL
    const module = m.line();
    m.name(module, m.line());
  },
  0x93: (m) => { // STACK_GLOBAL
    const name = m.pop();
    m.name(m.pop(), name);
  },
  0x52: (m) => { // REDUCE
    const args = m.pop();
    m.make(m.pop(), args);
  },
  0x81: (m) => { // NEWOBJ
    const args = m.pop();
    m.make(m.pop(), args);
  },
  0x92: (m) => { // NEWOBJ_EX
    m.pop();
    const args = m.pop();
    m.make(m.pop(), args);
  },
  0x69: (m) => { // INST
    const [module, name, args] = [m.line(), m.line(), m.popToMark()];
    m.name(module, name);
    m.make(m.pop(), args);
  },
  0x6f: (m) => { // OBJ
    const [maker, ...args] = m.popToMark();
    m.make(maker ?? null, args);
  },
  0x62: (m) => void m.pop(), // BUILD: attributes, such as the version a state dict carries, say nothing of tensors
  0x51: (m) => m.storage(m.pop()), // BINPERSID
  0x50: refused('persistent ids as text'),
  0x82: refused('extension registry'), 0x83: refused('extension registry'), 0x84: refused('extension registry'),
  0x97: refused('buffers outside of the file'), 0x98: refused('buffers outside of the file'),
  0x70: put(index), 0x71: put((m) => m.byte()), 0x72: put((m) => m.length(4)), 0x94: put((m) => m.memo.size),
  0x67: (m) => m.recall(index(m)), 0x68: (m) => m.recall(m.byte()), 0x6a: (m) => m.recall(m.length(4)),
  0x80: (m) => { // PROTO
    const version = m.byte();
    if (version > 5) throw m.broken(`its protocol is ${version}, expected at most 5`);
  },
  0x95: (m) => void m.skip(8), // FRAME
};
