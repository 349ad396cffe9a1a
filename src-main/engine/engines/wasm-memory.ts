/**
 * tfjs's wasm engine over memory that threads share. Its package has a binary for threads but never takes it in Node (tfjs issue
 * 3830); here it is taken for its memory alone: the threads are our own (kernels/wasm/pool.ts), its kernels run in the caller's.
 * While it starts, Node's Worker is replaced by one that says it has loaded, and tells us the memory it is given.
 */
import { EventEmitter } from 'node:events';
import type * as workerThreads from 'node:worker_threads';
import { assert } from '../../base/errors.ts';
import type { SharedMemory } from '../kernels/wasm/assembler.ts';
import { requirePackage, tf } from '../tf.ts';

/**
 * @param setThreadsCount the package's own
 * @param start opens the backend
 */
export async function withSharedMemory(setThreadsCount: (count: number) => void, start: () => Promise<void>): Promise<SharedMemory> {
  let memory: SharedMemory | undefined;
  class IdleWorker extends EventEmitter {
    postMessage(message: { cmd: string; wasmMemory?: SharedMemory }): void {
      memory ??= message.wasmMemory;
      queueMicrotask(() => this.emit('message', { cmd: 'loaded' }));
    }
    ref(): void {}
    unref(): void {}
    terminate(): void {}
  }
  const threads = requirePackage('node:worker_threads') as { Worker: unknown };
  const scope = globalThis as { Worker?: unknown };
  const [real, global] = [(threads as typeof workerThreads).Worker, scope.Worker];
  threads.Worker = IdleWorker;
  try {
    tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', true);
    setThreadsCount(1);
    await start();
  } finally {
    threads.Worker = real;
    scope.Worker = global; // its start-up leaves it there
  }
  assert(memory, 'tfjs gave its workers no memory');
  return memory;
}
