/**
 * Our own wasm kernels, run by several threads over the memory that tfjs's tensors lie in. A job is one kernel and a number of
 * units; whoever is free takes the next unit. The caller works too, and returns when all units are done.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { assert } from '../../../base/errors.ts';
import { assemble, webAssembly, type KernelCode, type SharedMemory } from './assembler.ts';

type Kernel = (args: number, scratch: number, unit: number) => void;

/** tfjs's heap. */
export interface Heap {
  readonly memory: SharedMemory;
  allocate(bytes: number): number;
  free(at: number): void;
}

/** A job of fewer multiplications (or as much work) is not worth waking anybody for. */
const leastShared = 100_000;
/** Bytes for what a thread notes while it works at a unit. */
export const SCRATCH_BYTES = 1 << 17;
const mostArguments = 32;
const mostThreads = 16;

/** Words of the control block. `entered` counts who is at work; its highest bit is set when no more may come. */
const word = { job: 0, entered: 1, next: 2, units: 3, kernel: 4 } as const;
const closed = 1 << 30;

/** A worker's program, as text because a bundled app has no source files to start. It sleeps until `job` changes. */
const program = `
const { module, memory, control, names, args, scratch, word, closed } = require('node:worker_threads').workerData;
const { exports } = new WebAssembly.Instance(module, { env: { memory } });
const kernels = names.map((name) => exports[name]);
for (let seen = 0; ; ) {
  for (let spins = 0; Atomics.load(control, word.job) === seen; ) if (++spins > 3000) Atomics.wait(control, word.job, seen);
  seen = Atomics.load(control, word.job);
  if (Atomics.add(control, word.entered, 1) < closed) {
    const kernel = kernels[Atomics.load(control, word.kernel)];
    const units = Atomics.load(control, word.units);
    for (let unit; (unit = Atomics.add(control, word.next, 1)) < units; ) kernel(args, scratch, unit);
  }
  Atomics.sub(control, word.entered, 1);
  Atomics.notify(control, word.entered);
}
`;

/** How many threads compute on this machine. */
export const threadCount = (): number => Math.min(availableParallelism(), mostThreads);

export class KernelPool<Name extends string> {
  readonly threads: number;
  readonly #heap: Heap;
  readonly #kernels: Readonly<Record<Name, Kernel>>;
  readonly #names: readonly Name[];
  readonly #control = new Int32Array(new SharedArrayBuffer(64));
  readonly #args: number;
  readonly #scratch: number;
  readonly #workers: Worker[];
  readonly #argumentView: Int32Array;
  #zeros = { at: 0, count: 0 };

  constructor(heap: Heap, code: Readonly<Record<Name, KernelCode>>, threads = threadCount()) {
    const fused = assemble(code, true);
    const module = new webAssembly.Module(webAssembly.validate(fused) ? fused : assemble(code, false));
    this.threads = threads;
    this.#heap = heap;
    this.#names = Object.keys(code) as Name[];
    this.#kernels = new webAssembly.Instance(module, { env: { memory: heap.memory } }).exports as Record<Name, Kernel>;
    this.#args = heap.allocate(4 * mostArguments);
    this.#scratch = heap.allocate(SCRATCH_BYTES * threads);
    this.#argumentView = new Int32Array(heap.memory.buffer, this.#args, mostArguments);
    this.#control[word.entered] = closed;
    const shared = { module, memory: heap.memory, control: this.#control, names: this.#names, args: this.#args, word, closed };
    this.#workers = Array.from({ length: threads - 1 }, (_, i) => {
      const worker = new Worker(program, { eval: true, workerData: { ...shared, scratch: this.#scratch + (i + 1) * SCRATCH_BYTES } });
      worker.unref(); // it waits for work and must not keep the process
      return worker;
    });
  }

  /**
   * Runs a kernel for units 0 to `units` - 1 and returns when all are done.
   * @param values the kernel's arguments in the order of its names
   * @param work multiplications in all, about
   */
  run(name: Name, values: readonly number[], units: number, work: number): void {
    assert(values.length <= mostArguments, () => `kernel ${name}: ${values.length} arguments`);
    this.#argumentView.set(values);
    const kernel = this.#kernels[name];
    if (this.#workers.length === 0 || units === 1 || work < leastShared) {
      for (let unit = 0; unit < units; unit++) kernel(this.#args, this.#scratch, unit);
      return;
    }
    const control = this.#control;
    Atomics.store(control, word.kernel, this.#names.indexOf(name));
    Atomics.store(control, word.units, units);
    Atomics.store(control, word.next, 0);
    Atomics.sub(control, word.entered, closed); // opens
    Atomics.add(control, word.job, 1);
    Atomics.notify(control, word.job);
    for (let unit: number; (unit = Atomics.add(control, word.next, 1)) < units; ) kernel(this.#args, this.#scratch, unit);
    Atomics.add(control, word.entered, closed); // closes
    for (let spins = 0, at: number; (at = Atomics.load(control, word.entered)) !== closed; ) if (++spins > 3000) Atomics.wait(control, word.entered, at, 1);
  }

  /** Memory for `count` numbers, of any value; until it is freed. */
  allocate(count: number): number {
    return this.#heap.allocate(4 * count);
  }

  /** The address of at least `count` zeros, until more are asked for. */
  zeros(count: number): number {
    if (this.#zeros.count < count) {
      if (this.#zeros.count > 0) this.free(this.#zeros.at);
      this.#zeros = { at: this.allocate(count), count };
      new Uint8Array(this.#heap.memory.buffer, this.#zeros.at, 4 * count).fill(0);
    }
    return this.#zeros.at;
  }

  free(at: number): void {
    this.#heap.free(at);
  }

  dispose(): void {
    for (const worker of this.#workers) void worker.terminate();
  }
}
