/**
 * The only import of TensorFlow.js in the project: everything else takes `tf` and its types from here.
 *
 * Loaded by `require`, not `import`: the native kernels require '@tensorflow/tfjs' themselves, and both must get the same
 * instance (one registry, one tape). Bundlers and test runners would otherwise resolve an import to the package's ES build,
 * a second copy with a registry of its own.
 */
import { createRequire } from 'node:module';
import type * as tfjs from '@tensorflow/tfjs';

/** Resolves packages as a CommonJS module beside this file would. */
export const requirePackage = createRequire(import.meta.url);

export const tf = requirePackage('@tensorflow/tfjs') as typeof tfjs;

export type Tensor<R extends tfjs.Rank = tfjs.Rank> = tfjs.Tensor<R>;
export type Scalar = tfjs.Scalar;
export type Tensor1D = tfjs.Tensor1D;
export type Tensor2D = tfjs.Tensor2D;
export type Tensor3D = tfjs.Tensor3D;
export type Tensor4D = tfjs.Tensor4D;
export type Variable<R extends tfjs.Rank = tfjs.Rank> = tfjs.Variable<R>;
export type DataType = tfjs.DataType;
export type TensorLike = tfjs.TensorLike;
export type NamedTensorMap = tfjs.NamedTensorMap;
