/** The native engine: tfjs on TensorFlow 2.21, without a compiler. */
import { cpus } from 'node:os';
import { tf } from '../../tf.ts';
import type { Engine } from '../../engine.ts';
import { registerBackend } from './backend.ts';
import { TensorFlowBinding } from './binding.ts';
import { loadCApi } from './capi.ts';
import { Tracer } from './trace.ts';

/**
 * Opens the engine on the libraries of `folder` and makes it tfjs's backend. Once per process.
 * @throws AppError('engine') if the libraries are missing or unusable.
 */
export async function openTensorFlow(folder: string, why: string): Promise<Engine> {
  const binding = new TensorFlowBinding(loadCApi(folder));
  const tracer = new Tracer(await registerBackend(binding));
  const cores = cpus().length;
  return {
    name: 'tensorflow',
    version: binding.TF_Version,
    device: `CPU, ${cores} ${cores === 1 ? 'core' : 'cores'}`,
    why,
    trace: (key, block, options) => tracer.trace(key, block, options),
    memory: () => ({ tensors: tf.memory().numTensors, bytes: binding.bytesAlive }),
    dispose: () => undefined,
  };
}
