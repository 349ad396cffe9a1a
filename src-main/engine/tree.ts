/** Trees of tensors as flat lists and back: the arguments of traced blocks. */
import { assert } from '../base/errors.ts';
import { tf, type Tensor } from './tf.ts';
import type { TensorTree } from './engine.ts';

/** A tensor and its place in the tree, e.g. "attn1.to_q.weight" or "1" for the second of a list. */
export interface Leaf {
  readonly path: string;
  readonly tensor: Tensor;
}

function isTensor(value: unknown): value is Tensor {
  return value instanceof tf.Tensor;
}

/** The tensors of a tree in the order of their paths: record keys sorted, lists in order. Undefined leaves are left out. */
export function flatten(tree: TensorTree): Leaf[] {
  const leaves: Leaf[] = [];
  const visit = (node: TensorTree, path: string): void => {
    if (isTensor(node)) {
      leaves.push({ path, tensor: node });
      return;
    }
    assert(typeof node === 'object' && node !== null, () => `tree of tensors: found ${typeof node} at "${path}"`);
    const children = node as Readonly<Record<string, TensorTree | undefined>>;
    const keys = Array.isArray(node) ? Object.keys(node) : Object.keys(node).sort();
    for (const key of keys) {
      const child = children[key];
      if (child !== undefined) visit(child, path ? `${path}.${key}` : key);
    }
  };
  visit(tree, '');
  return leaves;
}

/** A tree of the same form, whose leaves are `tensors` in flatten's order. */
export function rebuild<T extends TensorTree>(tree: T, tensors: readonly Tensor[]): T {
  let next = 0;
  const visit = (node: TensorTree): TensorTree => {
    if (isTensor(node)) return tensors[next++]!;
    if (Array.isArray(node)) return (node as readonly TensorTree[]).map((child) => (child === undefined ? child : visit(child)));
    const children = node as Readonly<Record<string, TensorTree | undefined>>;
    const copy: Record<string, TensorTree> = {};
    for (const key of Object.keys(children).sort()) {
      const child = children[key];
      if (child !== undefined) copy[key] = visit(child);
    }
    return copy;
  };
  const result = visit(tree) as T;
  assert(next === tensors.length, () => `tree has ${next} leaves, got ${tensors.length} tensors`);
  return result;
}
