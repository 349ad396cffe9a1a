/** Norms and activations of the webgpu engine, each in one dispatch instead of four to twelve. The formulas are those of ../ops.ts. */
import type { FusedKernels } from '../fused.ts';
import { tf, type Tensor } from '../tf.ts';

/** A program as tfjs's WebGPU backend runs it. Source: @tensorflow/tfjs-backend-webgpu 4.22 dist/webgpu_program.d.ts. */
interface Program {
  variableNames: string[];
  outputShape: number[];
  workgroupSize: [number, number, number];
  dispatchLayout: { x: number[] };
  dispatch: [number, number, number];
  shaderKey: string;
  uniforms: string;
  size: boolean;
  getUserCode(): string;
}
interface Backend {
  runWebGPUProgram(program: Program, inputs: Tensor[], dtype: 'float32', uniforms: { type: 'int32' | 'float32'; data: number[] }[]): object;
}

const run = (program: Program, inputs: Tensor[], uniforms: { type: 'int32' | 'float32'; data: number[] }[]): Tensor => {
  const backend = tf.backend() as unknown as Backend;
  return tf.engine().makeTensorFromTensorInfo(backend.runWebGPUProgram(program, inputs, 'float32', uniforms) as never, backend as never) as Tensor;
};

/** Threads that share a group. */
const NORM_THREADS = 64;
const ACTIVATION_THREADS = 128;

/**
 * One workgroup for each group of each picture: `pixels` rows of `perGroup` channels that lie side by side.
 * A dispatch may be rounded up to more workgroups than there are groups; those do the last one again.
 */
const normCode = (gradient: boolean): string => `
  var<workgroup> shared_sums : array<f32, ${NORM_THREADS}>;
  fn total(value : f32) -> f32 {
    let tid = localId.x;
    shared_sums[tid] = value;
    workgroupBarrier();
    for (var half = ${NORM_THREADS / 2}u; half > 0u; half = half >> 1u) {
      if (tid < half) { shared_sums[tid] = shared_sums[tid] + shared_sums[tid + half]; }
      workgroupBarrier();
    }
    let sum = shared_sums[0];
    workgroupBarrier();
    return sum;
  }
  fn main(index : i32) {
    let row = min(index / ${NORM_THREADS}, uniforms.rows - 1);
    let count = uniforms.pixels * uniforms.perGroup;
    let channels = uniforms.perGroup * uniforms.groups;
    let channel0 = (row % uniforms.groups) * uniforms.perGroup;
    let start = (row / uniforms.groups) * uniforms.pixels * channels + channel0;
    let first = i32(localId.x);
    var sum = 0.0;
    for (var i = first; i < count; i += ${NORM_THREADS}) { sum += x[start + (i / uniforms.perGroup) * channels + i % uniforms.perGroup]; }
    let mean = total(sum) / f32(count);
    sum = 0.0;
    for (var i = first; i < count; i += ${NORM_THREADS}) {
      let gap = x[start + (i / uniforms.perGroup) * channels + i % uniforms.perGroup] - mean;
      sum += gap * gap;
    }
    let inverse = 1.0 / sqrt(total(sum) / f32(count) + uniforms.eps);
    ${gradient ? `
    var sumG = 0.0;
    var sumGN = 0.0;
    for (var i = first; i < count; i += ${NORM_THREADS}) {
      let at = start + (i / uniforms.perGroup) * channels + i % uniforms.perGroup;
      let g = dy[at] * gamma[channel0 + i % uniforms.perGroup];
      sumG += g;
      sumGN += g * (x[at] - mean) * inverse;
    }
    let meanG = total(sumG) / f32(count);
    let meanGN = total(sumGN) / f32(count);` : ''}
    for (var i = first; i < count; i += ${NORM_THREADS}) {
      let at = start + (i / uniforms.perGroup) * channels + i % uniforms.perGroup;
      let scale = gamma[channel0 + i % uniforms.perGroup];
      let normal = (x[at] - mean) * inverse;
      result[at] = ${gradient ? 'inverse * (dy[at] * scale - meanG - normal * meanGN)' : 'normal * scale + beta[channel0 + i % uniforms.perGroup]'};
    }
  }
`;

/** @param rows pictures times groups */
function norm(x: Tensor, others: { gamma: Tensor; beta?: Tensor; dy?: Tensor }, form: { rows: number; pixels: number; perGroup: number; groups: number }, eps: number): Tensor {
  const { gamma, beta, dy } = others;
  const gradient = dy !== undefined;
  const { rows, pixels, perGroup, groups } = form;
  return run({
    variableNames: ['x', 'gamma', gradient ? 'dy' : 'beta'], outputShape: x.shape, workgroupSize: [NORM_THREADS, 1, 1], dispatchLayout: { x: x.shape.map((_, i) => i) },
    dispatch: [rows, 1, 1], shaderKey: `drtune_norm_${gradient}`, uniforms: 'rows : i32, pixels : i32, perGroup : i32, groups : i32, eps : f32,', size: false,
    getUserCode: () => normCode(gradient),
  }, [x, gamma, gradient ? dy : beta!], [...[rows, pixels, perGroup, groups].map((value) => ({ type: 'int32' as const, data: [value] })), { type: 'float32', data: [eps] }]);
}

/** erf by Abramowitz and Stegun 7.1.26, error below 1.5e-7, as tfjs's own. */
const activationFunctions = `
  fn normal_cdf(v : f32) -> f32 {
    let z = abs(v) * 0.7071067811865476;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let erf = 1.0 - (((((1.061405429 * t - 1.453152027) * t) + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * exp(-z * z);
    return 0.5 + 0.5 * sign(v) * erf;
  }
  fn gate(v : f32) -> f32 { return 1.0 / (1.0 + exp(-uniforms.factor * v)); }
`;
const activations = {
  gelu: 'v * normal_cdf(v)',
  geluGradient: 'dy[index] * (normal_cdf(v) + v * exp(-0.5 * v * v) * 0.3989422804014327)',
  sigmoidUnit: 'v * gate(v)',
  sigmoidUnitGradient: 'dy[index] * gate(v) * (1.0 + uniforms.factor * v * (1.0 - gate(v)))',
} as const;

function activation(name: keyof typeof activations, x: Tensor, dy?: Tensor, factor = 1): Tensor {
  return run({
    variableNames: dy ? ['x', 'dy'] : ['x'], outputShape: x.shape, workgroupSize: [ACTIVATION_THREADS, 1, 1], dispatchLayout: { x: x.shape.map((_, i) => i) },
    dispatch: [Math.ceil(x.size / ACTIVATION_THREADS), 1, 1], shaderKey: `drtune_${name}`, uniforms: 'factor : f32,', size: true,
    getUserCode: () => `${activationFunctions}
      fn main(index : i32) {
        if (index < uniforms.size) {
          let v = x[index];
          result[index] = ${activations[name]};
        }
      }`,
  }, dy ? [x, dy] : [x], [{ type: 'float32', data: [factor] }]);
}

export const webgpuFused: Partial<FusedKernels> = {
  groupNorm: (x, gamma, beta, groups, eps) => (x.size === 0 ? null : norm(x, { gamma, beta }, groupForm(x, groups), eps)),
  groupNormGradient: (dy, x, gamma, groups, eps) => (x.size === 0 ? null : norm(x, { gamma, dy }, groupForm(x, groups), eps)),
  layerNorm: (x, gamma, beta, eps) => (x.size === 0 ? null : norm(x, { gamma, beta }, rowForm(x), eps)),
  layerNormGradient: (dy, x, gamma, eps) => (x.size === 0 ? null : norm(x, { gamma, dy }, rowForm(x), eps)),
  gelu: (x) => activation('gelu', x),
  geluGradient: (dy, x) => activation('geluGradient', x, dy),
  sigmoidUnit: (x, a) => activation('sigmoidUnit', x, undefined, a),
  sigmoidUnitGradient: (dy, x, a) => activation('sigmoidUnitGradient', x, dy, a),
};

function groupForm(x: Tensor, groups: number): { rows: number; pixels: number; perGroup: number; groups: number } {
  const [B, h, w, C] = x.shape as [number, number, number, number];
  return { rows: B * groups, pixels: h * w, perGroup: C / groups, groups };
}

/** A row is a picture of one pixel and one group. */
function rowForm(x: Tensor): { rows: number; pixels: number; perGroup: number; groups: number } {
  const C = x.shape.at(-1)!;
  return { rows: x.size / C, pixels: 1, perGroup: C, groups: 1 };
}
