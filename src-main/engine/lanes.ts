/**
 * Parts of a batch side by side. The operations of a small network take microseconds, and to share each among cores costs more than
 * it gives: two cores take longer for four 64-pixel pictures than one. Given two pictures each, they need two thirds of the time.
 */
import type { BlockFunction, Engine, TensorTree, TraceOptions } from './engine.ts';
import { tf, type Tensor } from './tf.ts';
import { flatten, rebuild } from './tree.ts';

/**
 * `engine.trace` of a block that treats each of a batch by itself.
 * @param block every tensor of its inputs, and what it returns, has the batch as the first axis, or a multiple of it
 */
export function traceInLanes<W extends TensorTree, A extends TensorTree, I extends TensorTree>(
  engine: Engine, key: string, block: BlockFunction<W, A, I>, options: TraceOptions = {},
): BlockFunction<W, A, I> {
  const whole = engine.trace(key, block, options);
  const one = engine.trace(`lane of ${key}`, block, { ...options, called: true });
  return (weights, adapter, inputs) => {
    const B = Math.min(...flatten(inputs).map(({ tensor }) => tensor.shape[0]!));
    const parts = Math.min(engine.lanes(), B);
    if (parts === 1) return whole(weights, adapter, inputs);
    const counts = Array.from({ length: parts }, (_, k) => Math.floor(((k + 1) * B) / parts) - Math.floor((k * B) / parts));
    const all = engine.trace(`${parts} lanes of ${key}`, (w: W, a: A, i: I): Tensor => {
      const leaves = flatten(i).map(({ tensor }) => tf.split(tensor, counts.map((count) => (count * tensor.shape[0]!) / B)));
      return tf.concat(counts.map((_, k) => one(w, a, rebuild(i, leaves.map((each) => each[k]!)))), 0);
    }, options);
    return all(weights, adapter, inputs);
  };
}
