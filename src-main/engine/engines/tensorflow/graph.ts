/**
 * Records operations into a TF_Graph and cuts functions out of it.
 * While a recorder is attached to the binding, each operation of tfjs becomes a node, each new tensor a constant, and what
 * tfjs handles are symbols: results of nodes, whose shapes TensorFlow infers.
 */
import { assert } from '../../../base/errors.ts';
import { asRecorded, attributeType, bitcastAttributes, castAttributes, setAttributes, type Attribute } from './attributes.ts';
import { dataType, type Output, type Pointer } from './capi.ts';
import { inOrder } from './ordered.ts';
import type { TensorFlowBinding, TensorMetadata } from './binding.ts';

/** A node: an operation of the graph and the symbols it reads. */
interface Node {
  readonly name: string;
  readonly oper: Pointer;
  readonly inputs: readonly Symbolic[];
  /** 'widened': a step from an input kept in half precision to its float32 form, made again wherever it is needed. */
  readonly kind: 'input' | 'widened' | 'constant' | 'operation';
  /** Position in recording order. */
  readonly order: number;
  /** The first node that computes the same. */
  same: Node;
}

/** A symbolic tensor: output 0 of a node with a single output (functions can be cut at no other). */
export interface Symbolic extends Output {
  readonly node: Node;
  readonly shape: readonly number[];
  readonly dtype: number;
}

/** How many leading inputs of an operation form a list; the rest are single inputs. */
const listInputs: Readonly<Record<string, (inputs: number) => readonly [first: number, count: number]>> = {
  ConcatV2: (n) => [0, n - 1],
  ConcatOffset: (n) => [1, n - 1],
  AddN: (n) => [0, n],
  Pack: (n) => [0, n],
  Einsum: (n) => [0, n],
  _FusedMatMul: (n) => [2, n - 2],
  _FusedConv2D: (n) => [2, n - 2],
};

export class GraphRecorder {
  /** Of the block being traced, for messages. */
  readonly name: string;
  private readonly binding: TensorFlowBinding;
  private readonly graph: Pointer;
  private readonly symbols = new Map<number, Symbolic>();
  private nodes = 0;
  /** Values by what they are, so that no small one is computed twice: TensorFlow takes 5 us for each operation, however small. */
  private readonly known = new Map<string, Symbolic[]>();
  /** Functions cut out run their operations as recorded, one after the other: less memory. */
  ordered = false;

  constructor(binding: TensorFlowBinding, name: string) {
    this.binding = binding;
    this.name = name;
    this.graph = binding.capi.newGraph();
  }

  /** Nodes recorded so far: a symbol whose node's order is lower was made earlier. */
  get position(): number {
    return this.nodes;
  }

  /** A new argument of the traced function. */
  input(shape: readonly number[], dtype: number): TensorMetadata {
    const { capi } = this.binding;
    const description = capi.newOperation(this.graph, 'Placeholder', `input_${this.nodes}`);
    setAttributes(capi, 'graph', description, [{ name: 'dtype', type: 4, value: dtype }, { name: 'shape', type: 5, value: shape }], this.binding.status);
    return this.keep(this.finish(description, [], 'input', 'Placeholder'), 0, shape, dtype);
  }

  /** The float32 form of an argument kept in half precision as `type`. */
  widened(argument: TensorMetadata, type: number): TensorMetadata {
    const half = this.widening('Bitcast', bitcastAttributes(type), argument, type);
    return this.widening('Cast', castAttributes(type, dataType.float), half, dataType.float);
  }

  private widening(name: string, attributes: readonly Attribute[], of: TensorMetadata, dtype: number): TensorMetadata {
    const { capi, status } = this.binding;
    const input = this.symbol(of.id);
    const description = capi.newOperation(this.graph, name, `widened_${this.nodes}`);
    capi.graphInput(description, input);
    setAttributes(capi, 'graph', description, attributes, status);
    return this.keep(this.finish(description, [input], 'widened', name), 0, input.shape, dtype);
  }

  /** A constant of the values in `data`. @param make a tensor of them, which is deleted */
  constant(shape: readonly number[], dtype: number, data: ArrayBufferView, make: () => Pointer): number {
    const key = data.byteLength <= 256 ? `${dtype}[${shape}]${Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('latin1')}` : undefined;
    return this.once(key, () => [this.newConstant(shape, dtype, make())])[0]!.id;
  }

  private newConstant(shape: readonly number[], dtype: number, tensor: Pointer): TensorMetadata {
    const { capi, status } = this.binding;
    const description = capi.newOperation(this.graph, 'Const', `constant_${this.nodes}`);
    capi.graph.type(description, 'dtype', dtype);
    capi.graph.tensor(description, 'value', tensor, status);
    capi.deleteTensor(tensor);
    this.binding.check('recording a constant');
    return this.keep(this.finish(description, [], 'constant', 'Const'), 0, shape, dtype);
  }

  /** What `make` records, or what it recorded before under the same key if that costs nothing to keep. */
  private once(key: string | undefined, make: () => TensorMetadata[]): TensorMetadata[] {
    const before = key === undefined ? undefined : this.known.get(key);
    if (before?.every((symbol) => symbol.node.name === 'Reshape' || elements(symbol) < worthMakingAgain)) return before.map((symbol) => this.alias(symbol));
    const made = make();
    const symbols = made.map(({ id }) => this.symbol(id));
    if (before) symbols.forEach(({ node }, i) => (node.same = before[i]!.node));
    else if (key !== undefined) this.known.set(key, symbols);
    return made;
  }

  /** Another tensor with the same value. */
  private alias(symbol: Symbolic): TensorMetadata {
    const id = this.binding.newId();
    this.symbols.set(id, symbol);
    return { id, shape: [...symbol.shape], dtype: symbol.dtype };
  }

  /** Records an operation. */
  operation(name: string, attributes: readonly Attribute[], ids: readonly number[], outputs: number): TensorMetadata[] {
    const inputs = ids.map((id) => this.symbol(id));
    if (this.binding.functions.has(name)) return this.call(name, inputs);
    while (name === 'Reshape' && inputs[0]!.node.name === 'Reshape') inputs[0] = inputs[0]!.node.inputs[0]!; // the last shape is what counts
    if (name === 'Cast' && attributes.find((each) => each.name === 'DstT')!.value === inputs[0]!.dtype) return [this.alias(inputs[0]!)]; // tfjs's mean
    const key = /Random|Multinomial/.test(name) ? undefined : `${name}(${inputs.map((each) => `${each.node.same.order}:${each.index}`)})${attributes.map((each) => `${each.name}=${JSON.stringify(each.value)}`)}`;
    const results = this.once(key, () => this.newOperation(name, attributes, inputs, outputs));
    return name === 'Reshape' && results[0]!.shape.join() === inputs[0]!.shape.join() ? [this.alias(inputs[0]!)] : results;
  }

  /** A call of a function cut before. */
  private call(name: string, inputs: readonly Symbolic[]): TensorMetadata[] {
    const { capi, status, functions } = this.binding;
    const returned = functions.get(name)!;
    const description = capi.newOperation(this.graph, 'PartitionedCall', `${name}_${this.nodes}`);
    capi.graphInputList(description, packOutputs(inputs), inputs.length);
    const types = (list: readonly { readonly dtype: number }[]): number[] => list.map(({ dtype }) => dtype);
    setAttributes(capi, 'graph', description, [{ name: 'Tin', type: attributeType.type, value: types(inputs) }, { name: 'Tout', type: attributeType.type, value: types(returned) }, asRecorded], status);
    capi.graph.function(description, 'f', name, name.length);
    const node = this.finish(description, inputs, 'operation', name);
    return returned.map(({ shape, dtype }, index) => {
      const output = { oper: node.oper, index, node, shape, dtype };
      capi.setOutputShape(this.graph, output, BigInt64Array.from(shape, BigInt), shape.length, status);
      this.binding.check(`tracing ${this.name}: shape of ${name}`);
      return returned.length === 1 ? this.keep(node, 0, shape, dtype) : this.identity(output);
    });
  }

  private newOperation(name: string, attributes: readonly Attribute[], inputs: readonly Symbolic[], outputs: number): TensorMetadata[] {
    const { capi, status } = this.binding;
    const description = capi.newOperation(this.graph, name, `${name}_${this.nodes}`);
    const [first, count] = listInputs[name]?.(inputs.length) ?? [inputs.length, 0];
    for (const input of inputs.slice(0, first)) capi.graphInput(description, input);
    if (name in listInputs) capi.graphInputList(description, packOutputs(inputs.slice(first, first + count)), count);
    for (const input of inputs.slice(first + count)) capi.graphInput(description, input);
    setAttributes(capi, 'graph', description, attributes, status);
    const node = this.finish(description, inputs, 'operation', name);
    const results: TensorMetadata[] = [];
    for (let index = 0; index < outputs; index++) {
      const output = { oper: node.oper, index };
      const dtype = capi.outputType(output);
      const shape = this.shapeOf(output, name);
      results.push(outputs === 1 ? this.keep(node, 0, shape, dtype) : this.identity({ ...output, node, shape, dtype }));
    }
    return results;
  }

  symbol(id: number): Symbolic {
    const symbol = this.symbols.get(id);
    assert(symbol, () => `${this.name}: the block uses a tensor from outside its arguments; pass it as weight, adapter or input`);
    return symbol;
  }

  forget(id: number): void {
    this.symbols.delete(id);
  }

  /**
   * What `results` read of the nodes before `boundary` (constants, which functions copy, and `except` left out). Of large values
   * that a few cheap operations make of others in the list, only those others.
   * @returns each value once, in recording order
   */
  readsBefore(boundary: number, results: readonly Symbolic[], except: Symbolic): Symbolic[] {
    const reads = new Map<Node, Symbolic>();
    const seen = new Set<Node>();
    const waiting = [...results];
    for (let symbol = waiting.pop(); symbol; symbol = waiting.pop()) {
      const { node } = symbol;
      if (seen.has(node) || node === except.node || node.kind === 'constant') continue;
      seen.add(node);
      if (node.order >= boundary) waiting.push(...node.inputs);
      else if (node.kind === 'widened' || node.name === 'Reshape') waiting.push(...node.inputs); // costs nothing to make again: down to the argument, or what has the other shape
      else reads.set(node, symbol);
    }
    for (const [node, symbol] of [...reads].sort(([a], [b]) => b.order - a.order)) {
      const others = elements(symbol) < worthMakingAgain ? null : madeFrom(symbol, reads, elements(symbol) / 8);
      if (!others) continue;
      reads.delete(node);
      for (const other of others) reads.set(other.node, other);
    }
    return [...reads.values()].sort((a, b) => a.node.order - b.node.order);
  }

  /**
   * Cuts the sub-graph between `inputs` and `outputs` into a function known to the eager context.
   * @param inputs results of single-output nodes: arguments of the trace or values computed elsewhere
   * @param apart whether it stays a function of its own where another calls it, computed beside others on one core: in order, without handing over
   * @throws AppError or Error by the binding's check
   */
  cut(functionName: string, inputs: readonly Symbolic[], outputs: readonly Symbolic[], apart = false): void {
    const { capi, status, context } = this.binding;
    const given = new Set(inputs.map((input) => input.node));
    const returned = new Set<Node>();
    // A function may not return its own argument, nor one value twice: such outputs pass through an Identity.
    const results = outputs.map((output) => {
      if (!given.has(output.node) && !returned.has(output.node)) {
        returned.add(output.node);
        return output;
      }
      return this.symbol(this.identity(output).id);
    });
    const operations = this.between(given, results);
    const missing = operations.find((node) => node.kind === 'input');
    assert(!missing, () => `${this.name}: ${functionName} needs an argument it was not given`);
    const pointers = BigUint64Array.from(operations, (node) => node.oper);
    const result = capi.graphToFunction(
      this.graph, functionName, 0, pointers.length, pointers, inputs.length, packOutputs(inputs), results.length, packOutputs(results), null, null, null, status);
    this.binding.check(`tracing ${this.name}`);
    if (apart) capi.setFunctionAttribute(result, '_noinline', Uint8Array.of(0x28, 1), 2, status); // AttrValue: bool b = 5
    this.binding.functions.set(functionName, results);
    if (this.ordered || apart) {
      const definition = inOrder(this.serialized(result));
      capi.addFunctionDef(context, definition, definition.length, status);
    } else {
      capi.addFunction(context, result, status);
    }
    capi.deleteFunction(result); // the context keeps its own reference
    this.binding.check(`tracing ${this.name}`);
  }

  dispose(): void {
    this.symbols.clear();
    this.binding.capi.deleteGraph(this.graph);
  }

  private serialized(traced: Pointer): Uint8Array {
    const { capi, status } = this.binding;
    const buffer = capi.newBuffer();
    try {
      capi.functionToDef(traced, buffer, status);
      this.binding.check(`tracing ${this.name}`);
      const head = new BigUint64Array(2);
      capi.memcpy(head, buffer, 16);
      const bytes = new Uint8Array(Number(head[1]));
      capi.memcpy(bytes, head[0]!, bytes.length);
      return bytes;
    } finally {
      capi.deleteBuffer(buffer);
    }
  }

  /** The operations the results need, down to the given nodes. */
  private between(given: ReadonlySet<Node>, results: readonly Symbolic[]): Node[] {
    const found = new Set<Node>();
    const waiting = results.map((result) => result.node);
    for (let node = waiting.pop(); node; node = waiting.pop()) {
      if (found.has(node) || given.has(node)) continue;
      found.add(node);
      for (const input of node.inputs) waiting.push(input.node);
    }
    return [...found].sort((a, b) => a.order - b.order);
  }

  private identity(of: Symbolic): TensorMetadata {
    const { capi } = this.binding;
    const description = capi.newOperation(this.graph, 'Identity', `identity_${this.nodes}`);
    capi.graphInput(description, of);
    capi.graph.type(description, 'T', of.dtype);
    return this.keep(this.finish(description, [of], 'operation', 'Identity'), 0, of.shape, of.dtype);
  }

  private finish(description: Pointer, inputs: readonly Symbolic[], kind: Node['kind'], name: string): Node {
    const oper = this.binding.capi.finishOperation(description, this.binding.status);
    this.binding.check(`tracing ${this.name}: ${name}(${inputs.map((input) => `[${input.shape}]`).join(', ')})`);
    const node = { name, oper, inputs, kind, order: this.nodes++ } as Node;
    node.same = node;
    return node;
  }

  private keep(node: Node, index: number, shape: readonly number[], dtype: number): TensorMetadata {
    const id = this.binding.newId();
    this.symbols.set(id, { oper: node.oper, index, node, shape, dtype });
    return { id, shape: [...shape], dtype };
  }

  private shapeOf(output: Output, name: string): number[] {
    const { capi, status } = this.binding;
    const rank = capi.outputRank(this.graph, output, status);
    assert(rank >= 0, () => `${this.name}: the rank of ${name} depends on values, which a traced block may not`);
    const dims = new BigInt64Array(Math.max(rank, 1));
    capi.outputShape(this.graph, output, dims, rank, status);
    this.binding.check(`tracing ${this.name}: shape of ${name}`);
    const shape = Array.from(dims.subarray(0, rank), Number);
    assert(shape.every((dim) => dim >= 0), () => `${this.name}: the shape [${shape}] of ${name} depends on values, which a traced block may not`);
    return shape;
  }
}

/** Operations that read and write each value once: half a norm, an activation, another layout. */
const cheap = new Set(['Add', 'AddV2', 'Sub', 'Mul', 'Square', 'Sigmoid', 'Tanh', 'Erf', 'Reshape', 'Transpose', 'Identity']);
const worthMakingAgain = 8192;

const elements = ({ shape }: Symbolic): number => shape.reduce((product, dim) => product * dim, 1);

/** What has to be kept besides `kept` so that `depth` cheap operations can make the value again: none larger than `small`. Null if they cannot. */
function madeFrom({ node }: Symbolic, kept: ReadonlyMap<Node, Symbolic>, small: number, depth = 6): Symbolic[] | null {
  if (depth === 0 || !cheap.has(node.name)) return null;
  const others: Symbolic[] = [];
  for (const input of node.inputs) {
    if (input.node.kind === 'constant' || kept.has(input.node)) continue;
    const found = input.node.kind !== 'widened' && elements(input) <= small ? [input] : madeFrom(input, kept, small, depth - 1);
    if (!found) return null;
    others.push(...found);
  }
  return others;
}

/** An array of TF_Output in memory: 8 bytes of pointer, 4 of index, 4 of padding each. */
function packOutputs(outputs: readonly Output[]): BigUint64Array {
  const packed = new BigUint64Array(Math.max(outputs.length, 1) * 2);
  outputs.forEach((output, i) => {
    packed[2 * i] = output.oper;
    packed[2 * i + 1] = BigInt(output.index); // little-endian: the low half is the index
  });
  return packed;
}
