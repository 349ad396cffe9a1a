/**
 * Kernels of tfjs-node replaced by ours:
 * - gradients of convolution: theirs know 'same' and 'valid' padding only, though TensorFlow's operations take any, as forward does;
 * - gather: theirs reads the indices back to check their bounds, which waits for the engine and cannot be traced. TensorFlow
 *   checks them itself.
 */
import { tf, type Tensor } from '../../tf.ts';
import { attributeType, type Attribute } from './attributes.ts';
import type { NodeBackend } from './node-backend.ts';
import { dataType } from './capi.ts';

type Shape4 = [number, number, number, number];
interface ConvolutionAttributes {
  strides: number | [number, number];
  pad: never;
  dataFormat: 'NHWC' | 'NCHW';
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
  inputShape: Shape4;
  filterShape: Shape4;
}

interface GatherAttributes {
  axis: number;
  batchDims: number;
}

export function replaceKernels(backend: NodeBackend): void {
  replace<GatherAttributes>('GatherV2', ({ x, indices }, { axis, batchDims }) => {
    const axisTensor = tf.scalar(axis, 'int32');
    const list: Attribute[] = [
      { name: 'batch_dims', type: attributeType.int, value: batchDims },
      { name: 'Tparams', type: attributeType.type, value: backend.typeAttributeFromTensor(x!) },
      { name: 'Tindices', type: attributeType.type, value: backend.typeAttributeFromTensor(indices!) },
      { name: 'Taxis', type: attributeType.type, value: dataType.int32 },
    ];
    const result = backend.executeSingleOutput('GatherV2', list, [x!, indices!, axisTensor]);
    axisTensor.dispose();
    return result;
  });
  replace<ConvolutionAttributes>('Conv2DBackpropInput', ({ dy, filter }, attributes) => {
    const sizes = tf.tensor1d(attributes.inputShape, 'int32');
    const list = operationAttributes(attributes.inputShape, filter!.shape as Shape4, attributes);
    const result = backend.executeSingleOutput('Conv2DBackpropInput', list, [sizes, filter!, dy!]);
    sizes.dispose();
    return result;
  });
  replace<ConvolutionAttributes>('Conv2DBackpropFilter', ({ x, dy }, attributes) => {
    const sizes = tf.tensor1d(attributes.filterShape, 'int32');
    const list = operationAttributes(x!.shape as Shape4, attributes.filterShape, attributes);
    const result = backend.executeSingleOutput('Conv2DBackpropFilter', list, [x!, sizes, dy!]);
    sizes.dispose();
    return result;
  });
}

function replace<A>(kernelName: string, kernel: (inputs: Record<string, Tensor>, attributes: A) => Tensor): void {
  tf.unregisterKernel(kernelName, 'tensorflow');
  tf.registerKernel({
    kernelName,
    backendName: 'tensorflow',
    kernelFunc: ({ inputs, attrs }) => kernel(inputs as Record<string, Tensor>, attrs as unknown as A),
  });
}

function operationAttributes(inputShape: Shape4, filterShape: Shape4, { strides, pad, dataFormat, dimRoundingMode }: ConvolutionAttributes): Attribute[] {
  const channels = tf.backend_util.convertConv2DDataFormat(dataFormat);
  const { padInfo, strideHeight, strideWidth } = tf.backend_util.computeConv2DInfo(
    inputShape, filterShape, strides, 1, pad, dimRoundingMode, false, channels);
  const last = channels === 'channelsLast';
  const sides = [padInfo.top, padInfo.bottom, padInfo.left, padInfo.right];
  const padding = padInfo.type === 'NUMBER' ? 'EXPLICIT' : padInfo.type;
  return [
    { name: 'T', type: attributeType.type, value: dataType.float },
    { name: 'strides', type: attributeType.int, value: last ? [1, strideHeight, strideWidth, 1] : [1, 1, strideHeight, strideWidth] },
    { name: 'padding', type: attributeType.string, value: padding },
    { name: 'data_format', type: attributeType.string, value: last ? 'NHWC' : 'NCHW' },
    { name: 'dilations', type: attributeType.int, value: [1, 1, 1, 1] },
    ...(padding === 'EXPLICIT'
      ? [{ name: 'explicit_paddings', type: attributeType.int, value: last ? [0, 0, ...sides, 0, 0] : [0, 0, 0, 0, ...sides] }]
      : []),
  ];
}
