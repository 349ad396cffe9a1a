/**
 * Gradients of convolution with padding of any size on each side. tfjs-node's own kernels know 'same' and 'valid' only, though
 * TensorFlow's operations take explicit padding like the forward one.
 */
import { tf, type Tensor } from '../../tf.ts';
import { attributeType, type Attribute } from './attributes.ts';
import type { NodeBackend } from './backend.ts';
import { dataType } from './capi.ts';

type Shape4 = [number, number, number, number];
interface Attributes {
  strides: number | [number, number];
  pad: never;
  dataFormat: 'NHWC' | 'NCHW';
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
  inputShape: Shape4;
  filterShape: Shape4;
}

export function registerConvolutionGradients(backend: NodeBackend): void {
  replace('Conv2DBackpropInput', ({ dy, filter }, attributes) => {
    const sizes = tf.tensor1d(attributes.inputShape, 'int32');
    const list = operationAttributes(attributes.inputShape, filter!.shape as Shape4, attributes);
    const result = backend.executeSingleOutput('Conv2DBackpropInput', list, [sizes, filter!, dy!]);
    sizes.dispose();
    return result;
  });
  replace('Conv2DBackpropFilter', ({ x, dy }, attributes) => {
    const sizes = tf.tensor1d(attributes.filterShape, 'int32');
    const list = operationAttributes(x!.shape as Shape4, attributes.filterShape, attributes);
    const result = backend.executeSingleOutput('Conv2DBackpropFilter', list, [x!, sizes, dy!]);
    sizes.dispose();
    return result;
  });
}

function replace(kernelName: string, kernel: (inputs: Record<string, Tensor>, attributes: Attributes) => Tensor): void {
  tf.unregisterKernel(kernelName, 'tensorflow');
  tf.registerKernel({
    kernelName,
    backendName: 'tensorflow',
    kernelFunc: ({ inputs, attrs }) => kernel(inputs as Record<string, Tensor>, attrs as unknown as Attributes),
  });
}

function operationAttributes(inputShape: Shape4, filterShape: Shape4, { strides, pad, dataFormat, dimRoundingMode }: Attributes): Attribute[] {
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
