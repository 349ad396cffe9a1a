/** Norms, activations and linear layers of the wasm engine, each in one kernel instead of three to twelve. */
import type { FusedKernels } from '../fused.ts';
import type { Tensor } from '../tf.ts';
import { activationArguments } from './wasm/activation.ts';
import type { OwnKernel, WasmTensors } from './wasm/heap.ts';
import { inOrder } from './wasm/multiply.ts';
import { groupNormArguments, layerNormArguments, MOST_GROUP_WIDTH } from './wasm/normalise.ts';
import { wasmMatMul } from './wasm-matmul.ts';

const LAYER_NORM_ROWS = 32;
const ACTIVATION_VECTORS = 1024;
/** About what an element costs, as multiplications are counted. */
const work = { norm: 8, activation: 16 } as const;

const bits = (value: number): number => new Int32Array(Float32Array.of(value).buffer)[0]!;

export function wasmFused(tensors: WasmTensors): FusedKernels {
  const groupNorm = (name: OwnKernel, x: Tensor, groups: number, eps: number, others: { gamma: Tensor; beta?: Tensor; dy?: Tensor }): Tensor | null => {
    const [B, h, w, C] = x.shape as [number, number, number, number];
    const perGroup = C / groups;
    const width = widthOf(C, perGroup);
    if (width === null || x.size === 0) return null;
    const y = tensors.empty(x.shape);
    const at = (t: Tensor | undefined): number => (t ? tensors.at(t) : 0);
    tensors.pool.run(name, inOrder(groupNormArguments, {
      x: at(x), dy: at(others.dy), y: at(y), gamma: at(others.gamma), beta: at(others.beta), pixels: h * w, channels: C, width, perGroup, epsilon: bits(eps),
    }), (B * C) / width, work.norm * x.size);
    return y;
  };
  const layerNorm = (name: OwnKernel, x: Tensor, eps: number, others: { gamma: Tensor; beta?: Tensor; dy?: Tensor }): Tensor | null => {
    const channels = x.shape.at(-1)!;
    if (channels % 4 !== 0 || x.size === 0) return null;
    const y = tensors.empty(x.shape);
    const at = (t: Tensor | undefined): number => (t ? tensors.at(t) : 0);
    const rows = x.size / channels;
    tensors.pool.run(name, inOrder(layerNormArguments, {
      x: at(x), dy: at(others.dy), y: at(y), gamma: at(others.gamma), beta: at(others.beta), rows, channels, block: LAYER_NORM_ROWS, epsilon: bits(eps),
    }), Math.ceil(rows / LAYER_NORM_ROWS), work.norm * x.size);
    return y;
  };
  const activation = (name: OwnKernel, x: Tensor, dy?: Tensor, factor = 1): Tensor | null => {
    if (x.size % 4 !== 0 || x.size === 0) return null;
    const y = tensors.empty(x.shape);
    const vectors = x.size / 4;
    tensors.pool.run(name, inOrder(activationArguments, {
      x: tensors.at(x), dy: dy ? tensors.at(dy) : 0, y: tensors.at(y), vectors, block: ACTIVATION_VECTORS, factor: bits(factor),
    }), Math.ceil(vectors / ACTIVATION_VECTORS), work.activation * x.size);
    return y;
  };
  return {
    groupNorm: (x, gamma, beta, groups, eps) => groupNorm('groupNorm', x, groups, eps, { gamma, beta }),
    groupNormGradient: (dy, x, gamma, groups, eps) => groupNorm('groupNormGradient', x, groups, eps, { gamma, dy }),
    layerNorm: (x, gamma, beta, eps) => layerNorm('layerNorm', x, eps, { gamma, beta }),
    layerNormGradient: (dy, x, gamma, eps) => layerNorm('layerNormGradient', x, eps, { gamma, dy }),
    gelu: (x) => activation('gelu', x),
    geluGradient: (dy, x) => activation('geluGradient', x, dy),
    sigmoidUnit: (x, a) => activation('sigmoidUnit', x, undefined, a),
    sigmoidUnitGradient: (dy, x, a) => activation('sigmoidUnitGradient', x, dy, a),
    linear: (x, weight, bias) => wasmMatMul(tensors, x, weight, false, true, bias),
  };
}

/** Channels of one unit of the group norm: whole groups and whole vectors, 16 or more if there are; null where a vector does not fit. */
function widthOf(C: number, perGroup: number): number | null {
  if (C % 4 !== 0 || C > MOST_GROUP_WIDTH) return null;
  for (let width = perGroup; width < C; width += perGroup) if (width >= 16 && width % 4 === 0 && C % width === 0) return width;
  return C;
}
