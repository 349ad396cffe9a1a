/** The operations of ops.json, run on an engine and compared with PyTorch: forward and every gradient. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { Engine, TraceOptions } from '../../../src-main/engine/engine.ts';
import * as fast from '../../../src-main/engine/ops.ts';
import { readFloatsSync, scope } from '../../../src-main/engine/scope.ts';
import { tf, type Tensor, type Tensor1D, type Tensor4D } from '../../../src-main/engine/tf.ts';
import * as plain from './plain-ops.ts';

interface Packed {
  shape: number[];
  data: string;
}
export interface Case {
  name: string;
  op: string;
  attributes: Record<string, unknown>;
  inputs: Record<string, Packed>;
  output: Packed;
  dy: Packed;
  grads: Record<string, Packed>;
}

export const cases = (JSON.parse(readFileSync(new URL('ops.json', import.meta.url), 'utf8')) as { cases: Case[] }).cases;

type Tensors = Record<string, Tensor>;
type Operation = (inputs: Tensors, attributes: never) => Tensor;

/** The operations of ops.ts, fast or plain. */
function networkOps(ops: typeof fast | typeof plain): Record<string, Operation> {
  return {
    groupNorm: ({ x, gamma, beta }, { groups, eps }: { groups: number; eps: number }) => ops.groupNorm(x!, gamma!, beta!, groups, eps),
    layerNorm: ({ x, gamma, beta }, { eps }: { eps: number }) => ops.layerNorm(x!, gamma!, beta!, eps),
    softmax: ({ x }) => ops.softmax(x!),
    gelu: ({ x }) => ops.gelu(x!),
    geluTanh: ({ x }) => ops.geluTanh(x!),
    quickGelu: ({ x }) => ops.quickGelu(x!),
    silu: ({ x }) => ops.silu(x!),
    attention: ({ q, k, v, mask }, { scale }: { scale: number }) => ops.attention(q!, k!, v!, scale, mask),
    nearestUpsample2x: ({ x }) => ops.nearestUpsample2x(x!),
    conv2d: ({ x, w, bias }, { stride, pad }: { stride: number; pad: fast.Padding2D }) => ops.conv2d(x!, w!, bias!, stride, pad),
    linear: ({ x, weight, bias }) => ops.linear(x!, weight!, bias),
  };
}

const roundThrough = tf.customGrad((x) => ({ value: tf.round(x as Tensor), gradFunc: (dy: Tensor) => dy.clone() }));

const tfjsOps: Record<string, Operation> = {
  matMul: ({ a, b }, { transposeA, transposeB }: { transposeA: boolean; transposeB: boolean }) => tf.matMul(a!, b!, transposeA, transposeB),
  transpose: ({ x }, { perm }: { perm: number[] }) => tf.transpose(x!, perm),
  slice: ({ x }, { begin, size }: { begin: number[]; size: number[] }) => tf.slice(x!, begin, size),
  concat: ({ a, b }, { axis }: { axis: number }) => tf.concat([a!, b!], axis),
  split: ({ x }) => {
    const [left, right] = tf.split(x!, 2, -1) as [Tensor, Tensor];
    return tf.mul(left, right);
  },
  gather: ({ x }, { indices }: { indices: number[][] }) => tf.gather(x!, tf.tensor(indices, undefined, 'int32') as Tensor1D),
  pad: ({ x }, { paddings }: { paddings: [number, number][] }) => tf.pad(x as Tensor4D, paddings as never),
  mean: ({ x }, { axis }: { axis: number[] }) => tf.mean(x!, axis),
  sum: ({ x }, { axis }: { axis: number[] }) => tf.sum(x!, axis, true),
  abs: ({ x }) => tf.abs(x!),
  clip: ({ x }, { low, high }: { low: number; high: number }) => tf.clipByValue(x!, low, high),
  exp: ({ x }) => tf.exp(x!),
  log: ({ x }) => tf.log(x!),
  erf: ({ x }) => tf.erf(x!),
  tanh: ({ x }) => tf.tanh(x!),
  sigmoid: ({ x }) => tf.sigmoid(x!),
  sqrt: ({ x }) => tf.sqrt(x!),
  relu: ({ x }) => tf.relu(x!),
  divide: ({ a, b }) => tf.div(a!, b!),
  variance: ({ x }, { axis }: { axis: number[] }) => tf.moments(x!, axis).variance,
  l2Normalize: ({ x }) => tf.div(x!, tf.norm(x!, 'euclidean', -1, true)),
  cumsum: ({ x }) => tf.cumsum(x!, 1),
  roundThrough: ({ x }) => roundThrough(x!),
  avgPool: ({ x }) => tf.avgPool(x as Tensor4D, 2, 2, 'valid'),
  maximum: ({ a, b }) => tf.maximum(a!, b!),
  reverse: ({ x }, { axis }: { axis: number }) => tf.reverse(x!, axis),
  max: ({ x }) => tf.max(x!, -1),
  where: ({ a, b }) => tf.where(tf.greater(a!, b!), tf.mul(a!, 2), tf.mul(b!, 3)),
};

export const isNetworkOp = (op: string): boolean => op in networkOps(fast);

export type Way = 'eager' | 'plain' | 'traced' | 'recomputed';

function operation(engine: Engine, { op, name, attributes }: Case, way: Way): (inputs: Tensors) => Tensor {
  const f = { ...tfjsOps, ...networkOps(way === 'plain' ? plain : fast) }[op];
  if (!f) throw new Error(`suite.ts has no operation ${op}`);
  const block = (_weights: object, _adapter: object, inputs: Tensors): Tensor => f(inputs, attributes as never);
  if (way === 'eager' || way === 'plain') return (inputs) => block({}, {}, inputs);
  const options: TraceOptions = { memory: way === 'recomputed' ? 'recompute' : 'residuals' };
  const traced = engine.trace(`op ${name}`, block as never, options) as typeof block;
  return (inputs) => traced({}, {}, inputs);
}

function unpack({ shape, data }: Packed): Tensor {
  const bytes = Buffer.from(data, 'base64');
  return tf.tensor(new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)), shape);
}

/** |actual - expected| / |expected|, as L2 norms. */
function expectClose(actual: Tensor, expected: Packed, tolerance: number, what: string): void {
  expect(actual.shape, `${what}: shape`).toEqual(expected.shape);
  const [a, e] = [readFloatsSync(actual), readFloatsSync(unpack(expected))];
  let [difference, norm] = [0, 0];
  e.forEach((value, i) => {
    difference += (a[i]! - value) ** 2;
    norm += value ** 2;
  });
  expect(Math.sqrt(difference / (norm || 1)), `${what}: relative difference`).toBeLessThan(tolerance);
}

const forwardTolerance = 2e-6;
const gradientTolerance = 1e-5;

/** Compares one case, all in a scope that must leave no tensor behind. */
export function check(engine: Engine, each: Case, way: Way): void {
  const before = tf.memory().numTensors;
  scope(() => {
    const f = operation(engine, each, way);
    const inputs = Object.fromEntries(Object.entries(each.inputs).map(([name, packed]) => [name, unpack(packed)]));
    expectClose(f(inputs), each.output, forwardTolerance, each.name);
    const names = Object.keys(each.grads);
    const dy = unpack(each.dy);
    const inTurn = [names, ...(names.length > 1 ? names.map((name) => [name]) : [])]; // all together, then each alone
    for (const wanted of inTurn) {
      const gradients = tf.grads((...xs: Tensor[]) =>
        tf.sum(tf.mul(f({ ...inputs, ...Object.fromEntries(wanted.map((name, i) => [name, xs[i]!])) }), dy)),
      )(wanted.map((name) => inputs[name]!));
      wanted.forEach((name, i) => expectClose(gradients[i]!, each.grads[name]!, gradientTolerance, `${each.name}, gradient of ${name}`));
    }
  });
  expect(tf.memory().numTensors, `${each.name}: tensors left behind`).toBe(before);
}
