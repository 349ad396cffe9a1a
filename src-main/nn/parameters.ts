/** Named parameters: what a model expects of its file, and what its blocks take of it. */
import type { Tensor } from '../engine/tf.ts';

/** Parameters by name: a whole model's by diffusers' state-dict key, or one block's by the name within the block. */
export interface Weights {
  readonly [name: string]: Tensor;
}

/** Expected parameters by state-dict key, in torch's shapes. */
export type ParameterShapes = Map<string, readonly number[]>;

/** Collects a model's expected parameters in the vocabulary of torch.nn. */
export class ParameterList {
  readonly shapes: ParameterShapes = new Map();

  add(name: string, shape: readonly number[]): void {
    this.shapes.set(name, shape);
  }

  linear(path: string, inSize: number, outSize: number, bias = true): void {
    this.add(`${path}.weight`, [outSize, inSize]);
    if (bias) this.add(`${path}.bias`, [outSize]);
  }

  conv(path: string, inSize: number, outSize: number, kernel: number): void {
    this.add(`${path}.weight`, [outSize, inSize, kernel, kernel]);
    this.add(`${path}.bias`, [outSize]);
  }

  norm(path: string, size: number): void {
    this.add(`${path}.weight`, [size]);
    this.add(`${path}.bias`, [size]);
  }
}

/** One block's parameters by their names within it; names the model does not have are left out. */
export function blockWeights(weights: Weights, path: string, names: readonly string[]): Weights {
  const block: Record<string, Tensor> = {};
  for (const name of names) {
    const tensor = weights[`${path}.${name}`];
    if (tensor) block[name] = tensor;
  }
  return block;
}
