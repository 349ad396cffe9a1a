/** The engine that works everywhere: tfjs's WebAssembly kernels, and our own for what takes the time, on all cores. */
import { dirname, sep } from 'node:path';
import { assert } from '../../base/errors.ts';
import { requirePackage, tf } from '../tf.ts';
import type { Engine } from '../engine.ts';
import { useFused } from '../fused.ts';
import { registerConv2dBackpropFilter } from '../kernels/conv2d-backprop-filter.ts';
import { registerUnsortedSegmentSum } from '../kernels/unsorted-segment-sum.ts';
import { WasmTensors } from '../kernels/wasm/heap.ts';
import { registerWasmConv2d } from '../kernels/wasm-conv2d.ts';
import { wasmFused } from '../kernels/wasm-fused.ts';
import { registerWasmMatMul } from '../kernels/wasm-matmul.ts';
import { threadCount } from '../kernels/wasm/pool.ts';
import { plainEngine } from './plain.ts';
import { withSharedMemory } from './wasm-memory.ts';

interface WasmPackage {
  setWasmPaths(folder: string): void;
  setThreadsCount(count: number): void;
  version_wasm: string;
}

/** Opens the engine and makes it tfjs's backend. Its .wasm files come from the installed package: no network. */
export async function openWasm(why: string): Promise<Engine> {
  const wasm = requirePackage('@tensorflow/tfjs-backend-wasm') as WasmPackage;
  wasm.setWasmPaths(dirname(requirePackage.resolve('@tensorflow/tfjs-backend-wasm')) + sep);
  registerConv2dBackpropFilter('wasm');
  registerUnsortedSegmentSum('wasm');
  const memory = await withSharedMemory((count) => wasm.setThreadsCount(count), async () => {
    const ready = await tf.setBackend('wasm');
    assert(ready, 'tfjs refused the wasm backend');
    await tf.ready();
  });
  const tensors = new WasmTensors(memory);
  registerWasmMatMul(tensors);
  registerWasmConv2d(tensors);
  useFused(wasmFused(tensors));
  return {
    ...plainEngine('wasm', false),
    version: wasm.version_wasm,
    device: wasmDevice(),
    why,
    dispose: () => {
      useFused({});
      tensors.pool.dispose();
      tf.removeBackend('wasm');
    },
  };
}

/** Where it computes, in words: as many threads as the machine has cores for. */
export const wasmDevice = (threads = threadCount()): string => `CPU, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
