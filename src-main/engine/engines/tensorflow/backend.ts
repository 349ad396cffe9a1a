/** tfjs-node's JavaScript kernels, registered on our binding instead of the package's compiled one. */
import { assert } from '../../../base/errors.ts';
import { requirePackage, tf } from '../../tf.ts';
import { replaceKernels } from './replaced-kernels.ts';
import type { TensorFlowBinding } from './binding.ts';
import type { NodeBackend } from './node-backend.ts';

/**
 * Makes `tensorflow` tfjs's backend.
 * Takes two files of the package, never its index: that one looks for the compiled addon.
 */
export async function registerBackend(binding: TensorFlowBinding): Promise<NodeBackend> {
  restoreRemovedNodeFunctions();
  const { NodeJSKernelBackend } = requirePackage('@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js') as {
    NodeJSKernelBackend: new (binding: TensorFlowBinding, packageName: string) => NodeBackend;
  };
  requirePackage('@tensorflow/tfjs-node-gpu/dist/register_all_kernels.js');
  const backend = new NodeJSKernelBackend(binding, 'drtune-studio');
  replaceKernels(backend);
  guardTraces(backend);
  tf.registerBackend('tensorflow', () => backend as never, 3);
  const ready = await tf.setBackend('tensorflow');
  assert(ready, 'tfjs refused the tensorflow backend');
  return backend;
}

/** tfjs-node calls two functions that newer Node versions warn about (isArray) or removed (isNullOrUndefined, Node 23). */
function restoreRemovedNodeFunctions(): void {
  const util = requirePackage('node:util') as Record<string, unknown>;
  util['isNullOrUndefined'] = (value: unknown) => value === null || value === undefined;
  util['isArray'] = Array.isArray;
}

/**
 * tfjs-node uploads a tensor's values at its first use. While a block is traced that upload would turn an outside tensor into
 * a symbol of the graph for ever, so a tensor written before the trace is refused here.
 */
function guardTraces(backend: NodeBackend): void {
  const written = new WeakMap<object, object>(); // by whom
  const move = backend.move;
  backend.move = function (dataId, ...rest) {
    if (backend.binding.recorder) written.set(dataId, backend.binding.recorder);
    move.call(backend, dataId, ...rest);
  };
  const getInputTensorIds = backend.getInputTensorIds;
  backend.getInputTensorIds = function (tensors) {
    const active = backend.binding.recorder;
    if (active) {
      for (const tensor of tensors) {
        const pending = backend.tensorMap.get(tensor.dataId)?.values ?? null;
        assert(pending === null || written.get(tensor.dataId) === active, () =>
          `${active.name}: the block uses a tensor of shape [${tensor.shape}] from outside its arguments; pass it as weight, adapter or input`);
      }
    }
    return getInputTensorIds.call(backend, tensors);
  };
}
