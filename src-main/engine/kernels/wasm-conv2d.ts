/** Conv2D and Conv2DBackpropInput for tfjs's wasm engine, whose own are half as fast and a plain loop. */
import { tf, type Tensor } from '../tf.ts';
import { multiply } from './wasm/multiply.ts';
import type { WasmTensors } from './wasm/heap.ts';

type Shape4 = [number, number, number, number];
interface Attributes {
  strides: number | [number, number];
  pad: 'valid' | 'same' | number | [[number, number], [number, number], [number, number], [number, number]];
  dataFormat: string;
  dilations?: number | [number, number];
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

const infoOf = (xShape: Shape4, wShape: Shape4, { strides, pad, dilations = 1, dimRoundingMode }: Attributes) =>
  tf.backend_util.computeConv2DInfo(xShape, wShape, strides, dilations, pad as never, dimRoundingMode, false, 'channelsLast');

/**
 * @param x [B, h, w, Cin] @param w [kh, kw, Cin, Cout] @param bias [Cout]
 * @returns [B, h', w', Cout]; null for what this kernel does not do: channels first, a dilated filter, unequal strides
 */
export function wasmConv2d(tensors: WasmTensors, x: Tensor, w: Tensor, attributes: Attributes, bias?: Tensor): Tensor | null {
  const info = infoOf(x.shape as Shape4, w.shape as Shape4, attributes);
  const { filterHeight: kh, filterWidth: kw, inChannels: Cin, outChannels: Cout, strideHeight: stride } = info;
  const plain = attributes.dataFormat === 'NHWC' && info.dilationHeight === 1 && info.dilationWidth === 1 && info.strideWidth === stride;
  const y = plain ? tensors.empty(info.outShape) : null;
  if (!y || y.size === 0) return y;
  multiply(tensors.pool, {
    x: { at: tensors.at(x), matrixStride: 0 },
    factor: { at: tensors.at(w), taps: kh * kw, tapStride: 4 * Cin * Cout, rows: Cin, rowStride: 4 * Cout, columns: Cout, columnStride: 4, matrixStride: 0 },
    bias: bias ? tensors.at(bias) : 0, y: tensors.at(y), count: 1, rows: y.size / Cout,
    window: { h: info.inHeight, w: info.inWidth, outH: info.outHeight, outW: info.outWidth, kh, kw, stride, top: info.padInfo.top, left: info.padInfo.left, dilation: 1 },
  });
  return y;
}

/**
 * The filter is turned round and goes over dy, between whose pixels the stride leaves zeros.
 * @param dy [B, h', w', Cout] @param w [kh, kw, Cin, Cout]
 * @returns tensor of shape xShape; null as above
 */
export function wasmConv2dInputGradient(tensors: WasmTensors, dy: Tensor, w: Tensor, xShape: Shape4, attributes: Attributes): Tensor | null {
  const info = infoOf(xShape, w.shape as Shape4, attributes);
  const { filterHeight: kh, filterWidth: kw, inChannels: Cin, outChannels: Cout, strideHeight: stride, inHeight, inWidth } = info;
  const plain = attributes.dataFormat === 'NHWC' && info.strideWidth === stride;
  const dx = plain ? tensors.empty(xShape) : null;
  if (!dx || dx.size === 0) return dx;
  const taps = kh * kw;
  multiply(tensors.pool, {
    x: { at: tensors.at(dy), matrixStride: 0 },
    factor: {
      at: tensors.at(w) + 4 * (taps - 1) * Cin * Cout, taps, tapStride: -4 * Cin * Cout, rows: Cout, rowStride: 4, columns: Cin, columnStride: 4 * Cout,
      matrixStride: 0,
    },
    bias: 0, y: tensors.at(dx), count: 1, rows: dx.size / Cin,
    window: {
      h: info.outHeight, w: info.outWidth, outH: inHeight, outW: inWidth, kh, kw, stride: 1,
      top: kh - 1 - info.padInfo.top, left: kw - 1 - info.padInfo.left, dilation: stride,
    },
  });
  return dx;
}

/** Puts them in the place of the engine's own, which go on doing the rest. */
export function registerWasmConv2d(tensors: WasmTensors): void {
  const backendName = 'wasm';
  for (const kernelName of ['Conv2D', 'Conv2DBackpropInput']) {
    const original = tf.getKernel(kernelName, backendName)!;
    tf.unregisterKernel(kernelName, backendName);
    tf.registerKernel({
      kernelName, backendName,
      kernelFunc(call) {
        const { x, dy, filter } = call.inputs as { x?: Tensor; dy?: Tensor; filter: Tensor };
        const attributes = call.attrs as unknown as Attributes & { inputShape: Shape4 };
        const own = x ? wasmConv2d(tensors, x, filter, attributes) : wasmConv2dInputGradient(tensors, dy!, filter, attributes.inputShape, attributes);
        return own ?? original.kernelFunc(call);
      },
    });
  }
}
