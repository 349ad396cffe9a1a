/**
 * `Engine.trace` on TensorFlow: a block becomes one operation per distinct shapes, and so does its gradient.
 *
 * One recording of the block and of its gradient, made by tfjs's own tape on symbolic tensors, is cut into
 *   forward:  leaves -> y, residuals          (only y when no gradient is wanted)
 *   backward: dy, leaves, residuals -> gradients of the wanted leaves
 * where residuals are the forward values the gradient reads. With memory 'recompute' backward takes leaves only and contains
 * the forward pass again.
 */
import { assert } from '../../../base/errors.ts';
import type { BlockFunction, TensorTree, TraceOptions } from '../../engine.ts';
import { onKeepOrder } from '../../order.ts';
import { needGradient, tapeState, watchGradients, withoutTape } from '../../tape.ts';
import { tf, type Tensor } from '../../tf.ts';
import { tfjsEngine } from '../../tfjs-engine.ts';
import { flatten, rebuild, type Leaf } from '../../tree.ts';
import type { NodeBackend } from './node-backend.ts';
import { asRecorded, attributeType, type Attribute } from './attributes.ts';
import { dataType } from './capi.ts';
import { GraphRecorder, type Symbolic } from './graph.ts';

/** A block recorded for certain shapes, without a gradient. */
interface ForwardOnly {
  readonly forward: string;
}

/** A block recorded for certain shapes and certain wanted gradients. */
interface ForwardBackward {
  readonly forward: string;
  readonly backward: string;
  /** Outputs of forward after y. */
  readonly residuals: number;
  /** Positions of the leaves backward reads. */
  readonly leavesRead: readonly number[];
  /** Whether backward reads y itself. */
  readonly readsOutput: boolean;
  /** Positions of the leaves backward returns gradients of, a subset of the wanted ones: y depends on them. */
  readonly gradients: readonly number[];
}

const typeOf: Readonly<Record<string, number>> = { float32: dataType.float, int32: dataType.int32, bool: dataType.bool };

export class Tracer {
  private readonly backend: NodeBackend;
  private readonly forwards = new Map<string, ForwardOnly>();
  private readonly pairs = new Map<string, ForwardBackward>();
  /** Functions called before. */
  private readonly prepared = new Set<string>();
  /** Traced functions made so far, for their names. */
  private made = 0;

  constructor(backend: NodeBackend) {
    this.backend = backend;
    watchGradients();
    onKeepOrder(() => {
      const { recorder } = backend.binding;
      if (recorder) recorder.ordered = true;
    });
  }

  /** @see Engine.trace */
  trace<W extends TensorTree, A extends TensorTree, I extends TensorTree>(
    key: string,
    block: BlockFunction<W, A, I>,
    options: TraceOptions = {},
  ): BlockFunction<W, A, I> {
    return (weights, adapter, inputs) => {
      if (this.backend.binding.recorder && !options.called) return block(weights, adapter, inputs); // inlined in the outer trace
      const trees = [weights, adapter, inputs] as const;
      const groups = trees.map(flatten) as [Leaf[], Leaf[], Leaf[]];
      const leaves = groups.flat();
      const wanted = needGradient(leaves.map((leaf) => leaf.tensor)).map((needed, i) => needed && i >= groups[0].length);
      const run = (tensors: readonly Tensor[]): Tensor => {
        const [w, a] = [groups[0].length, groups[1].length];
        return block(rebuild(weights, tensors.slice(0, w)), rebuild(adapter, tensors.slice(w, w + a)), rebuild(inputs, tensors.slice(w + a)));
      };
      const signature = `${key}|${groups.map((group) => group.map((leaf) => this.describe(leaf)).join()).join('|')}`;
      const tensors = leaves.map((leaf) => leaf.tensor);
      return wanted.includes(true)
        ? this.runWithGradient(key, signature, run, tensors, wanted, options)
        : this.runForward(key, signature, run, tensors, options);
    };
  }

  private runForward(key: string, signature: string, run: (tensors: readonly Tensor[]) => Tensor, leaves: readonly Tensor[], options: TraceOptions): Tensor {
    const full = `${signature}|${options.memory === 'recompute' ? 'recompute' : 'residuals'}`;
    let traced = this.forwards.get(full);
    if (!traced) {
      traced = this.record(key, leaves, options.memory === 'recompute', (recorder, symbols, tensors) => {
        const y = this.symbolOf(recorder, run(tensors));
        const forward = this.newName();
        recorder.cut(forward, symbols, [y], options.called);
        return { forward };
      });
      this.forwards.set(full, traced);
    }
    return this.call(traced.forward, leaves, 1, options)[0]!;
  }

  private runWithGradient(
    key: string,
    signature: string,
    run: (tensors: readonly Tensor[]) => Tensor,
    leaves: readonly Tensor[],
    wanted: readonly boolean[],
    options: TraceOptions,
  ): Tensor {
    const recompute = options.memory === 'recompute';
    const full = `${signature}|${recompute ? 'recompute' : 'residuals'}|${wanted.map(Number).join('')}`;
    let pair = this.pairs.get(full);
    if (!pair) {
      pair = this.recordPair(key, leaves, wanted, run, recompute, options.called);
      this.pairs.set(full, pair);
    }
    const { forward, backward, residuals, leavesRead, readsOutput, gradients } = pair;
    const inputs: Record<string, Tensor> = {};
    wanted.forEach((want, i) => {
      if (want) inputs[`leaf${i}`] = leaves[i]!;
    });
    return tfjsEngine().runKernelFunc({
      inputs,
      forwardFunc: (_backend, save) => {
        const [y, ...kept] = this.call(forward, leaves, 1 + residuals, options) as [Tensor, ...Tensor[]];
        save([...leavesRead.map((i) => leaves[i]!), ...(readsOutput ? [y] : []), ...kept]);
        return y;
      },
      backwardsFunc: (dy, saved) => {
        const results = this.call(backward, [dy, ...saved], gradients.length, options);
        // The tape would hold the residuals until the whole backward pass ends.
        if (tapeState().gradientDepth === 0) for (const tensor of saved) tensor.dispose();
        const byInput: Record<string, () => Tensor> = {};
        wanted.forEach((want, i) => {
          if (!want) return;
          const position = gradients.indexOf(i);
          byInput[`leaf${i}`] = () => (position < 0 ? tf.zerosLike(leaves[i]!) : results[position]!);
        });
        return byInput;
      },
    });
  }

  private recordPair(
    key: string,
    leaves: readonly Tensor[],
    wanted: readonly boolean[],
    run: (tensors: readonly Tensor[]) => Tensor,
    recompute: boolean,
    called?: boolean,
  ): ForwardBackward {
    return this.record(key, leaves, recompute, (recorder, symbols, tensors) => {
      const variables = tensors.filter((_, i) => wanted[i]);
      const positions = wanted.flatMap((want, i) => (want ? [i] : []));
      let y!: Symbolic;
      let dy!: Symbolic; // the cotangent: one more argument, of y's shape
      let boundary = 0; // nodes before it belong to the forward pass
      const { grads } = tfjsEngine().gradients(() => {
        const result = run(tensors);
        y = this.symbolOf(recorder, result);
        const argument = recorder.input(result.shape, dataType.float);
        dy = recorder.symbol(argument.id);
        boundary = recorder.position;
        // A scalar whose gradient with respect to y is dy.
        return tf.customGrad(() => ({ value: tf.scalar(0), gradFunc: () => this.backend.createOutputTensor(argument) }))(result);
      }, variables, undefined, true);
      const found = grads.flatMap((grad, i) => (grad ? [{ position: positions[i]!, symbol: this.symbolOf(recorder, grad) }] : []));
      const results = found.map(({ symbol }) => symbol);
      const [forward, backward] = [this.newName(), this.newName()];
      // What backward reads of the forward pass, found by walking down from the gradients.
      const read = recompute ? symbols : recorder.readsBefore(boundary, results, dy);
      const leavesRead = symbols.flatMap((symbol, i) => (read.some((r) => r.node === symbol.node) ? [i] : []));
      const inner = read.filter((r) => !symbols.some((symbol) => symbol.node === r.node) && r.node !== dy.node);
      const readsOutput = inner.some((r) => r.node === y.node);
      const residuals = inner.filter((r) => r.node !== y.node);
      recorder.cut(forward, symbols, [y, ...residuals], called);
      recorder.cut(backward, [dy, ...leavesRead.map((i) => symbols[i]!), ...(readsOutput ? [y] : []), ...residuals], results, called);
      return { forward, backward, residuals: residuals.length, leavesRead, readsOutput, gradients: found.map(({ position }) => position) };
    });
  }

  /** Records what `body` does with symbols standing for the leaves; tfjs's state is as before afterwards. */
  private record<T>(
    key: string,
    leaves: readonly Tensor[],
    ordered: boolean,
    body: (recorder: GraphRecorder, symbols: readonly Symbolic[], arguments_: readonly Tensor[]) => T,
  ): T {
    this.backend.getInputTensorIds(leaves); // uploads values not yet uploaded, which a trace would take for constants
    const { binding } = this.backend;
    const outer = binding.recorder;
    const recorder = new GraphRecorder(binding, `block "${key}"`);
    recorder.ordered = ordered;
    binding.recorder = recorder;
    tfjsEngine().startScope(`trace ${key}`);
    try {
      return withoutTape(() => {
        const symbols: Symbolic[] = [];
        const tensors = leaves.map((leaf) => {
          const type = typeOf[leaf.dtype];
          assert(type !== undefined, () => `block "${key}": an argument of type ${leaf.dtype} cannot be traced`);
          const half = this.halfType(leaf);
          const argument = recorder.input(leaf.shape, half === undefined ? type! : dataType.int16);
          symbols.push(recorder.symbol(argument.id));
          return this.backend.createOutputTensor(half === undefined ? argument : recorder.widened(argument, half));
        });
        return body(recorder, symbols, tensors);
      });
    } finally {
      tfjsEngine().endScope();
      binding.recorder = outer;
      recorder.dispose();
      this.giveBackPages();
    }
  }

  private call(name: string, tensors: readonly Tensor[], outputs: number, options: TraceOptions): Tensor[] {
    const attributes: Attribute[] = [asRecorded, ...(options.xla ? [{ name: '_XlaMustCompile', type: attributeType.bool, value: true }] : [])];
    const results = this.backend.executeMultipleOutputs(name, attributes, tensors, outputs);
    if (!this.prepared.has(name)) this.giveBackPages(); // TensorFlow prepares a function when it is first called
    this.prepared.add(name);
    return results;
  }

  /** Of small networks what TensorFlow reads of its libraries to record and prepare functions is a tenth of all memory. */
  private giveBackPages(): void {
    const { recorder, lanes, capi } = this.backend.binding;
    if (!recorder && lanes > 1) capi.giveBackLoadedPages();
  }

  private symbolOf(recorder: GraphRecorder, tensor: Tensor): Symbolic {
    return recorder.symbol(this.backend.getInputTensorIds([tensor])[0]!);
  }

  /** The type of a tensor kept in half precision. */
  private halfType(tensor: Tensor): number | undefined {
    return this.backend.binding.halfType(this.backend.tensorMap.get(tensor.dataId).id);
  }

  private describe({ path, tensor }: Leaf): string {
    return `${path}:${this.halfType(tensor) ?? tensor.dtype}[${tensor.shape}]`;
  }

  private newName(): string {
    return `drtune_${this.made++}`;
  }
}
