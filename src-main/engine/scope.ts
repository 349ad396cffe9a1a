/** Lifetimes of tensors: scopes, reads and the leak count. */
import { tf, type Tensor } from './tf.ts';

/**
 * Runs `body` and frees every tensor made inside it, except those it returns (a tensor, or lists and records of tensors).
 * No await inside: the scope ends when `body` returns.
 */
export function scope<T>(body: () => T): T {
  tf.engine().startScope('scope');
  try {
    const result = body();
    tf.engine().endScope(tensorsIn(result) as never);
    return result;
  } catch (error) {
    tf.engine().endScope();
    throw error;
  }
}

/** The tensors among what a body returns. Plain numbers are not looked through: TensorFlow.js would, value by value, at a microsecond each. */
function tensorsIn(value: unknown, found: Tensor[] = [], seen = new Set<object>()): Tensor[] {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || seen.has(value)) return found;
  seen.add(value);
  if (value instanceof tf.Tensor) found.push(value);
  else for (const key in value) tensorsIn((value as Record<string, unknown>)[key], found, seen);
  return found;
}

/** The values of `t` in row-major order, as a copy the caller owns. @throws if `t` is not float32. */
export function readFloatsSync(t: Tensor): Float32Array {
  const values = t.dataSync();
  if (!(values instanceof Float32Array)) throw new Error(`readFloats: expected a float32 tensor, got ${t.dtype} of shape [${t.shape}]`);
  return values;
}

/**
 * As {@link readFloatsSync} of each. An engine that computes elsewhere has to be waited for: there they are put side by side and
 * read at once.
 */
export function readAllFloatsSync(tensors: readonly Tensor[]): Float32Array[] {
  if (tf.getBackend() !== 'webgpu' || tensors.length < 2) return tensors.map(readFloatsSync);
  const together = scope(() => tf.concat(tensors.map((each) => tf.reshape(each, [-1]))));
  const values = readFloatsSync(together);
  together.dispose();
  let from = 0;
  return tensors.map(({ size }) => values.subarray(from, (from += size)));
}

/** As {@link readFloatsSync}, waiting for engines that compute elsewhere. */
export async function readFloats(t: Tensor): Promise<Float32Array> {
  const values = await t.data();
  if (!(values instanceof Float32Array)) throw new Error(`readFloats: expected a float32 tensor, got ${t.dtype} of shape [${t.shape}]`);
  return values;
}

/** Tensors alive in this process: equal before and after a step, or something leaks. */
export function tensorCount(): number {
  return tf.memory().numTensors;
}
