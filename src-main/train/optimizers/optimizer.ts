/** What an optimiser is to the loop: updates of plain numbers, the same bits on every engine, and a state that is easily stored. */

export interface OptimizerState {
  /** Updates made so far. */
  step: number;
  /** Numbers that go with all parameters, by name. */
  readonly numbers: Record<string, number>;
  /** By name one array a parameter, in the parameters' order. */
  readonly slots: Readonly<Record<string, readonly Float32Array[]>>;
  /** Likewise what is kept in bytes, where an optimiser does. */
  readonly codes?: Readonly<Record<string, readonly Uint8Array[]>>;
}

export type Shape = readonly [rows: number, columns: number];

export interface Optimizer {
  /** Shapes of the state's arrays for a parameter, by slot. */
  slots(shape: Shape): Readonly<Record<string, readonly number[]>>;
  codes?(shape: Shape): Readonly<Record<string, readonly number[]>>;
  /** A fresh state for these parameters. */
  start(parameters: readonly Float32Array[]): OptimizerState;
  /**
   * One update, in place, going down `gradients` (pass the negated gradient to ascend).
   * @param lr 1/step
   */
  step(parameters: readonly Float32Array[], gradients: readonly Float32Array[], state: OptimizerState, lr: number): void;
}

/** Shapes of all arrays of a state, by slot one a parameter. @param of numbers or bytes */
export function slotShapes(optimizer: Optimizer, shapes: readonly Shape[], of: 'slots' | 'codes' = 'slots'): Record<string, (readonly number[])[]> {
  const each = shapes.map((shape) => optimizer[of]?.(shape) ?? {});
  return Object.fromEntries(Object.keys(each[0] ?? {}).map((slot) => [slot, each.map((one) => one[slot]!)]));
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Bytes of the state of parameters of these shapes. */
export function stateBytes(optimizer: Optimizer, shapes: readonly Shape[]): number {
  const sum = (of: 'slots' | 'codes'): number => Object.values(slotShapes(optimizer, shapes, of)).flat().reduce((all, shape) => all + sizeOf(shape), 0);
  return 4 * sum('slots') + sum('codes');
}

/** Zeros for every parameter and each of some slots. */
export function zeroSlots(optimizer: Pick<Optimizer, 'slots'>, shapes: readonly Shape[], names: readonly string[]): Record<string, Float32Array[]> {
  return Object.fromEntries(names.map((name) => [name, shapes.map((shape) => new Float32Array(sizeOf(optimizer.slots(shape)[name]!)))]));
}
