/** The native engine: tfjs on TensorFlow 2.21, without a compiler. */
import { availableParallelism, cpus } from 'node:os';
import { tf } from '../../tf.ts';
import type { Engine, ParameterType } from '../../engine.ts';
import { registerBackend } from './backend.ts';
import { TensorFlowBinding } from './binding.ts';
import { dataType, loadCApi } from './capi.ts';
import { Tracer } from './trace.ts';

const parameterTypes: Readonly<Record<ParameterType, number>> = { F32: dataType.float, F16: dataType.half, BF16: dataType.bfloat16 };

/**
 * Opens the engine on the libraries of `folder` and makes it tfjs's backend. Once per process.
 * @param gpu that the libraries compute on
 * @throws AppError('engine') if the libraries are missing or unusable.
 */
export async function openTensorFlow(folder: string, why: string, gpu?: string): Promise<Engine> {
  const binding = new TensorFlowBinding(loadCApi(folder));
  const backend = await registerBackend(binding);
  const tracer = new Tracer(backend);
  const cores = cpus().length;
  return {
    name: 'tensorflow',
    version: binding.TF_Version,
    device: `CPU, ${cores} ${cores === 1 ? 'core' : 'cores'}`,
    why,
    half: true,
    lanes: () => binding.lanes,
    beSmall() {
      if (!gpu && !binding.hasStarted) binding.lanes = availableParallelism();
    },
    parameter(shape, type, bytes, { as, axes } = {}) {
      const options = { ...(as && { as: parameterTypes[as] }), ...(axes && { axes }) };
      return backend.createOutputTensor(binding.createParameter(shape, parameterTypes[type], bytes, options));
    },
    trace: (key, block, options) => tracer.trace(key, block, options),
    memory: () => ({ tensors: tf.memory().numTensors, bytes: binding.bytesAlive }),
    dispose: () => undefined,
  };
}
