/** What engines share whose kernels run one by one: blocks are called as they are, parameters are kept in float32. */
import { assert } from '../../base/errors.ts';
import { tf } from '../tf.ts';
import type { Engine, EngineName } from '../engine.ts';

/** @param copies true where the values given may change before tfjs uses the tensor */
export function plainEngine(name: EngineName, copies: boolean): Pick<Engine, 'name' | 'half' | 'lanes' | 'beSmall' | 'parameter' | 'trace' | 'memory'> {
  return {
    name,
    half: false,
    lanes: () => 1,
    beSmall: () => undefined,
    parameter(shape, type, bytes, { axes } = {}) {
      assert(type === 'F32' && bytes.byteOffset % 4 === 0, `the ${name} engine keeps parameters in float32, got ${type}`);
      const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
      const tensor = tf.tensor(copies ? values.slice() : values, [...shape], 'float32');
      if (!axes) return tensor;
      const moved = tf.transpose(tensor, [...axes]);
      tensor.dispose();
      return moved;
    },
    trace: (_key, block) => block,
    memory: () => ({ tensors: tf.memory().numTensors, bytes: tf.memory().numBytes }),
  };
}
