/**
 * What the gradient tape will need: of the tensors reaching a traced block, those that depend on a variable of the gradient
 * being taken. A block below the first adapter then keeps no residuals, and no gradient to the pictures' input is computed.
 *
 * tfjs knows the variables (`xs`) before it runs the function, but tells nobody; so its `gradients`, under all of tf.grad,
 * tf.grads, tf.valueAndGrads and tf.variableGrads, is wrapped once.
 * Source: @tensorflow/tfjs-core 4.22 dist/engine.js `gradients`, dist/tape.js `getFilteredNodesXToY`.
 */
import { tf, type Tensor } from './tf.ts';

interface TapeNode {
  inputs: Readonly<Record<string, Tensor>>;
  outputs: readonly Tensor[];
}

/** The part of tfjs's engine state used here. */
export interface TapeState {
  activeTape: TapeNode[] | null;
  gradientDepth: number;
  kernelDepth: number;
}

type Gradients = (f: () => Tensor, xs: Tensor[], dy?: Tensor, allowNoGradients?: boolean) => { value: Tensor; grads: Tensor[] };

export function tapeState(): TapeState {
  return (tf.engine() as unknown as { state: TapeState }).state;
}

/** Ids of the tensors known to depend on a variable, within `tape`. */
let reached = new Set<number>();
let tape: readonly TapeNode[] | null = null;
/** Nodes of `tape` already looked at. */
let scanned = 0;
let watching = false;

/** Wraps tfjs's `gradients`; once per process, by the engine that traces. */
export function watchGradients(): void {
  if (watching) return;
  watching = true;
  const engine = tf.engine() as unknown as { gradients: Gradients };
  const original = engine.gradients.bind(engine);
  engine.gradients = (f, xs, dy, allowNoGradients) => {
    const state = tapeState();
    const outermost = state.gradientDepth === 0;
    const outerTape = state.activeTape;
    if (outermost) reached = new Set();
    for (const x of xs) reached.add(x.id);
    scanned = 0; // an inner gradient adds variables, whose dependants may be on the tape already
    try {
      return original(f, xs, dy, allowNoGradients);
    } finally {
      // A gradient taken inside another's backward pass starts a tape of its own and forgets the outer one.
      if (outermost) {
        state.activeTape = outerTape;
        reached = new Set();
        tape = null;
      }
    }
  };
}

/** Whether operations are being recorded for a gradient now. */
export function isRecording(): boolean {
  const state = tapeState();
  return state.gradientDepth > 0 && state.kernelDepth === 0;
}

/** Which of `tensors` depend on a variable of the gradient being recorded; all false when none is. */
export function needGradient(tensors: readonly Tensor[]): boolean[] {
  if (!isRecording()) return tensors.map(() => false);
  const nodes = tapeState().activeTape ?? [];
  if (nodes !== tape) {
    tape = nodes;
    scanned = 0;
  }
  for (; scanned < nodes.length; scanned++) {
    const node = nodes[scanned]!;
    if (Object.values(node.inputs).some((input) => reached.has(input.id))) for (const output of node.outputs) reached.add(output.id);
  }
  return tensors.map((tensor) => tensor.dtype === 'float32' && reached.has(tensor.id));
}

/** Runs `body` as if no gradient were being recorded; afterwards everything is as before. */
export function withoutTape<T>(body: () => T): T {
  const state = tapeState();
  const outer = { activeTape: state.activeTape, gradientDepth: state.gradientDepth, kernelDepth: state.kernelDepth };
  const watched = { reached, tape, scanned };
  Object.assign(state, { activeTape: null, gradientDepth: 0, kernelDepth: 0 });
  try {
    return body();
  } finally {
    Object.assign(state, outer);
    ({ reached, tape, scanned } = watched);
  }
}
