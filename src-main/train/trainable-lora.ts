/** The LoRA being tuned: plain numbers that the optimiser changes, and their tensors on the engine. */
import { assert } from '../base/errors.ts';
import { readFloatsSync } from '../engine/scope.ts';
import { tf, type Tensor2D } from '../engine/tf.ts';
import type { Adapter } from '../nn/lora.ts';
import { adapterParameters, withParameters } from './parameters.ts';

export class TrainableLora {
  readonly names: readonly string[];
  readonly shapes: readonly (readonly [number, number])[];
  /** In the order of `names`; after a change call `upload`. */
  readonly values: Float32Array[];
  private readonly template: Adapter;
  private tensors: Tensor2D[];

  /** Takes over the tensors of `adapter`. */
  constructor(adapter: Adapter) {
    const parameters = adapterParameters(adapter);
    this.template = adapter;
    this.names = parameters.map((each) => each.name);
    this.shapes = parameters.map((each) => each.tensor.shape);
    this.tensors = parameters.map((each) => each.tensor);
    this.values = this.tensors.map((each) => Float32Array.from(readFloatsSync(each)));
  }

  get size(): number {
    return this.values.reduce((sum, each) => sum + each.length, 0);
  }

  /** alpha / rank */
  get scale(): number {
    return this.template.scale;
  }

  /** The adapter with the values of the last upload; borrowed. */
  get adapter(): Adapter {
    return withParameters(this.template, this.tensors);
  }

  /** Brings the engine's tensors up to `values`. */
  upload(): void {
    const old = this.tensors;
    this.tensors = this.tensorsOf(this.values);
    tf.dispose(old);
  }

  /** An adapter of other values (an average, a checkpoint); the caller frees it with disposeAdapter. */
  adapterOf(values: readonly Float32Array[]): Adapter {
    return withParameters(this.template, this.tensorsOf(values));
  }

  dispose(): void {
    tf.dispose(this.tensors);
    this.tensors = [];
  }

  private tensorsOf(values: readonly Float32Array[]): Tensor2D[] {
    return values.map((each, k) => {
      const [rows, columns] = this.shapes[k]!;
      assert(each.length === rows * columns, () => `TrainableLora: ${this.names[k]} has ${each.length} values for [${rows},${columns}]`);
      return tf.tensor2d(each.slice(), [rows, columns]);
    });
  }
}
