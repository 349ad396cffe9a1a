/** The engine that works everywhere: tfjs's WebAssembly kernels, one thread in Node. */
import { dirname, sep } from 'node:path';
import { assert } from '../../base/errors.ts';
import { requirePackage, tf } from '../tf.ts';
import type { Engine } from '../engine.ts';
import { registerConv2dBackpropFilter } from '../kernels/conv2d-backprop-filter.ts';
import { registerUnsortedSegmentSum } from '../kernels/unsorted-segment-sum.ts';
import { registerWasmMatMul } from '../kernels/wasm-matmul.ts';
import { plainEngine } from './plain.ts';

interface WasmPackage {
  setWasmPaths(folder: string): void;
  version_wasm: string;
}

/** Opens the engine and makes it tfjs's backend. Its .wasm files come from the installed package: no network. */
export async function openWasm(why: string): Promise<Engine> {
  const wasm = requirePackage('@tensorflow/tfjs-backend-wasm') as WasmPackage;
  wasm.setWasmPaths(dirname(requirePackage.resolve('@tensorflow/tfjs-backend-wasm')) + sep);
  registerConv2dBackpropFilter('wasm');
  registerUnsortedSegmentSum('wasm');
  registerWasmMatMul();
  const ready = await tf.setBackend('wasm');
  assert(ready, 'tfjs refused the wasm backend');
  await tf.ready();
  return {
    ...plainEngine('wasm', false),
    version: wasm.version_wasm,
    device: 'CPU, 1 thread',
    why,
    dispose: () => tf.removeBackend('wasm'),
  };
}
