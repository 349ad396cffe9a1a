/** Attributes of operations, from tfjs's form to the C API's, eager and in graphs. */
import koffi from 'koffi';
import { assert } from '../../../base/errors.ts';
import { dataType, type CApi, type Pointer } from './capi.ts';

/** TF_AttrType, as the kernels of tfjs-node number them. */
export const attributeType = { string: 0, int: 1, float: 2, bool: 3, type: 4, shape: 5, resource: 99 } as const;

/** One attribute as the kernels of tfjs-node give it; lists of types and strings are our own use. */
export interface Attribute {
  name: string;
  type: number;
  value: unknown;
}

/** Attributes of the operation Cast. */
export function castAttributes(from: number, to: number): Attribute[] {
  return [
    { name: 'SrcT', type: attributeType.type, value: from }, { name: 'DstT', type: attributeType.type, value: to },
    { name: 'Truncate', type: attributeType.bool, value: false },
  ];
}

/** Attributes of Bitcast from int16. */
export function bitcastAttributes(to: number): Attribute[] {
  return [{ name: 'T', type: attributeType.type, value: dataType.int16 }, { name: 'type', type: attributeType.type, value: to }];
}

/**
 * The function called is run as it was recorded. TensorFlow's own rewriting finds nothing in ours that makes them faster, and takes
 * seconds where functions call functions. ConfigProto { GraphOptions graph_options = 10 { RewriterConfig rewrite_options = 10 {
 * bool disable_meta_optimizer = 19 } } }
 */
export const asRecorded: Attribute = { name: 'config_proto', type: attributeType.string, value: Uint8Array.of(0x52, 5, 0x52, 3, 0x98, 1, 1) };

const listCache = new Map<string, BigInt64Array>();

/** The int64 form of a list of numbers; lists recur, so they are kept. */
function int64List(values: readonly number[]): BigInt64Array {
  const key = values.join();
  let list = listCache.get(key);
  if (!list) {
    // An empty list still needs an address.
    list = values.length ? BigInt64Array.from(values, BigInt) : new BigInt64Array(1);
    if (listCache.size < 10000) listCache.set(key, list);
  }
  return list;
}

/** Pointers to the strings and their lengths. The returned buffers must outlive the call they are passed to. */
function stringList(values: readonly string[]) {
  const bytes = values.map((value) => new TextEncoder().encode(value + '\0'));
  return { bytes, pointers: BigUint64Array.from(bytes, (b) => koffi.address(b)), lengths: BigUint64Array.from(bytes, (b) => BigInt(b.length - 1)) };
}

/**
 * Sets the attributes on an operation under construction.
 * @param kind an eager operation or one in a graph
 * @param status takes the error of a setter that can fail; the caller checks it
 */
export function setAttributes(capi: CApi, kind: 'eager' | 'graph', op: Pointer, attributes: readonly Attribute[], status: Pointer): void {
  const setters = capi[kind];
  for (const { name, type, value } of attributes) {
    if (type === attributeType.type) {
      if (Array.isArray(value)) setters.typeList(op, name, Int32Array.from(value as number[]), value.length);
      else setters.type(op, name, value as number);
    } else if (type === attributeType.bool || type === dataType.bool) {
      // tfjs's createOpAttr numbers booleans by data type (10) instead of attribute type (3).
      setters.bool(op, name, value ? 1 : 0);
    } else if (type === attributeType.int) {
      if (Array.isArray(value)) setters.intList(op, name, int64List(value as number[]), value.length);
      else setters.int(op, name, value as number);
    } else if (type === attributeType.float) {
      setters.float(op, name, value as number);
    } else if (type === attributeType.string) {
      if (Array.isArray(value)) {
        const list = stringList(value as string[]);
        setters.stringList(op, name, list.pointers, list.lengths, value.length);
      } else {
        const bytes = Buffer.from(value as string | Uint8Array);
        setters.string(op, name, bytes.length ? bytes : Buffer.alloc(1), bytes.length);
      }
    } else if (type === attributeType.shape) {
      const dims = value as number[];
      if (kind === 'eager') capi.eager.shape(op, name, int64List(dims), dims.length, status);
      else capi.graph.shape(op, name, int64List(dims), dims.length);
    } else {
      assert(false, `attribute ${name} of type ${type} is not known`);
    }
  }
}
