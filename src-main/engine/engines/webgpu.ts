/**
 * The engine for every GPU that has Vulkan, Direct3D 12 or Metal: tfjs's WebGPU kernels on Dawn. Values are read synchronously,
 * as everywhere else; see webgpu-device.ts.
 */
import { assert } from '../../base/errors.ts';
import type { Engine } from '../engine.ts';
import { useFused } from '../fused.ts';
import { webgpuFused } from '../kernels/webgpu-fused.ts';
import { requirePackage, tf } from '../tf.ts';
import { plainEngine } from './plain.ts';
import { adapterWords } from './webgpu-adapter.ts';
import { openDevice, type GpuBuffer } from './webgpu-device.ts';

/** The part of tfjs's WebGPU backend that reading needs. Source: @tensorflow/tfjs-backend-webgpu 4.22 dist/backend_webgpu.js. */
interface WebGpuBackend {
  readonly bufferManager: { acquireBuffer(size: number, usage: number): GpuBuffer; releaseBuffer(buffer: GpuBuffer, reuse: boolean): void };
  readonly tensorMap: { get(dataId: object): { values?: ArrayLike<number> | null; dtype: string; resource?: GpuBuffer | null } };
  commandEncoder: { copyBufferToBuffer(from: GpuBuffer, fromOffset: number, to: GpuBuffer, toOffset: number, size: number): void };
  readSync(dataId: object): unknown;
  read(dataId: object): Promise<unknown>;
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
}

/** About a block's; tfjs submits every 15. What it frees is free for others from the next submission on. */
const DISPATCHES_AT_ONCE = 64;
const mapRead = 0x1;
const copyDestination = 0x8;

/** Opens the engine and makes it tfjs's backend. @throws AppError('engine') if there is no GPU for it */
export async function openWebGpu(why: string): Promise<Engine> {
  const opened = await openDevice();
  const { WebGPUBackend } = requirePackage('@tensorflow/tfjs-backend-webgpu') as { WebGPUBackend: new (device: unknown, info: unknown) => WebGpuBackend };
  // The constructor asks for navigator.gpu as a sign of a browser; the device is given.
  const scope = globalThis as { navigator?: object };
  if (!scope.navigator) Object.defineProperty(scope, 'navigator', { value: {}, configurable: true });
  if (!('gpu' in scope.navigator!)) Object.defineProperty(scope.navigator, 'gpu', { value: {}, configurable: true });
  const backend = new WebGPUBackend(opened.device, opened.adapter.info);
  readSynchronously(backend, opened.waitMapped);
  tf.env().set('WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE', DISPATCHES_AT_ONCE);
  useFused(webgpuFused);
  tf.registerBackend('webgpu', () => backend as never, 3);
  const ready = await tf.setBackend('webgpu');
  assert(ready, 'tfjs refused the webgpu backend');
  await tf.ready();
  return {
    ...plainEngine('webgpu', true), // tfjs keeps the values it is given until the tensor is first used
    version: opened.version,
    device: adapterWords(opened.adapter.info),
    why,
    dispose() {
      useFused({});
      tf.removeBackend('webgpu');
      opened.device.destroy();
    },
  };
}

/** tfjs reads through a canvas, which only browsers have: here a buffer is copied, mapped, waited for and read. */
function readSynchronously(backend: WebGpuBackend, waitMapped: (buffer: GpuBuffer) => void): void {
  backend.readSync = (dataId) => {
    const data = backend.tensorMap.get(dataId);
    if (data.values) return data.values;
    assert(data.dtype !== 'complex64' && data.resource, () => `cannot read a ${data.dtype} tensor from the GPU`);
    const size = data.resource!.size;
    const staging = backend.bufferManager.acquireBuffer(size, copyDestination | mapRead);
    backend.ensureCommandEncoderReady();
    backend.endComputePassEncoder();
    backend.commandEncoder.copyBufferToBuffer(data.resource!, 0, staging, 0, size);
    backend.submitQueue();
    const mapping = staging.mapAsync(mapRead);
    mapping.catch(() => undefined); // what went wrong is seen in the buffer's state
    waitMapped(staging);
    const bytes = staging.getMappedRange().slice(0);
    staging.unmap();
    backend.bufferManager.releaseBuffer(staging, size <= 2 ** 20);
    const values = data.dtype === 'float32' ? new Float32Array(bytes) : data.dtype === 'bool' ? Uint8Array.from(new Int32Array(bytes)) : new Int32Array(bytes);
    data.values = values;
    return values;
  };
  backend.read = async (dataId) => backend.readSync(dataId);
}
