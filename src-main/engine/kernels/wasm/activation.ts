/** GELU and the sigmoid's unit with their gradients, four values at a time. The formulas are those of ../../ops.ts. */
import { i32, f32, repeat, v128, type Code, type KernelCode, type Local, type Writer } from './assembler.ts';
import { loaderOf } from './product.ts';

/** A unit is `block` vectors of four of `vectors` in all. `factor` is a float's bits: a of x sigmoid(a x). Without a gradient dy is not read. */
export const activationArguments = ['x', 'dy', 'y', 'vectors', 'block', 'factor'] as const;

/** c0 + c1 x + c2 x^2 + ..., by Horner's rule. */
const polynomial = (x: Code, [constant, ...rest]: readonly number[]): Code =>
  rest.length === 0 ? v128.const(constant!) : v128.madd(x, polynomial(x, rest), v128.const(constant!));

/** exp(x): 2^n times a polynomial of what is left below ln 2 / 2. Source: Cephes expf.c. */
function exponential(f: Writer): (x: Code) => Code {
  const [n, rest] = [f.v128(), f.v128()];
  const taylor = [0.5, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.987569150e-4];
  return (x) => [
    rest.set(v128.max(v128.min(x, v128.const(88)), v128.const(-87))),
    n.set(v128.nearest(v128.mul(rest.get, v128.const(Math.LOG2E)))),
    rest.set(v128.madd(n.get, v128.const(2.12194440e-4), v128.madd(n.get, v128.const(-0.693359375), rest.get))),
    v128.mul(
      v128.add(v128.madd(v128.mul(rest.get, rest.get), polynomial(rest.get, taylor), rest.get), v128.const(1)),
      v128.shl(v128.addInt(v128.toInt(n.get), [0xfd, 0x0c, Array.from({ length: 4 }, () => [127, 0, 0, 0])]), 23)),
  ];
}

/** erf(x), a quotient of polynomials; beyond 4 it is 1 to the last place. Source: Eigen 3.4, generic_fast_erf_float. */
function errorFunction(f: Writer): (x: Code) => Code {
  const [x, square] = [f.v128(), f.v128()];
  const above = [-1.60960333262415e-2, -2.95459980854025e-3, -7.34990630326855e-4, -5.69250639462346e-5, -2.10102402082508e-6, 2.77068142495902e-8, -2.72614225801306e-10];
  const below = [-1.42647390514189e-2, -7.37332916720468e-3, -1.68282697438203e-3, -2.13374055278905e-4, -1.45660718464996e-5];
  return (value) => [
    x.set(v128.max(v128.min(value, v128.const(4)), v128.const(-4))),
    square.set(v128.mul(x.get, x.get)),
    v128.div(v128.mul(x.get, polynomial(square.get, above)), polynomial(square.get, below)),
  ];
}

/** @param result from x (in a local) and the factor */
function pointwise(make: (f: Writer, x: Local, factor: Code) => Code, gradient: boolean): KernelCode {
  return (f, { args, unit }) => {
    const arg = loaderOf(activationArguments, args.get);
    const [k, at] = [f.i32(), f.i32()];
    const [x, factor] = [f.v128(), f.v128()];
    const made = make(f, x, factor.get);
    return [
      factor.set(v128.splat(f32.load(args.get, 4 * activationArguments.indexOf('factor')))),
      at.set(i32.shl(i32.mul(unit.get, arg('block')), i32.const(4))),
      repeat(k, i32.min(arg('block'), i32.sub(arg('vectors'), i32.mul(unit.get, arg('block')))), [
        x.set(v128.load(i32.add(arg('x'), at.get))),
        v128.store(i32.add(arg('y'), at.get), gradient ? v128.mul(v128.load(i32.add(arg('dy'), at.get)), made) : made),
        at.step(16),
      ]),
    ];
  };
}

/** Phi(x) = (1 + erf(x / sqrt 2)) / 2 */
const normalCdf = (f: Writer, x: Local): Code => v128.madd(errorFunction(f)(v128.mul(x.get, v128.const(Math.SQRT1_2))), v128.const(0.5), v128.const(0.5));

const gelu = pointwise((f, x) => v128.mul(x.get, normalCdf(f, x)), false);
const geluGradient = pointwise((f, x) => {
  const density = v128.mul(exponential(f)(v128.mul(v128.mul(x.get, x.get), v128.const(-0.5))), v128.const(1 / Math.sqrt(2 * Math.PI)));
  return v128.madd(x.get, density, normalCdf(f, x));
}, true);

const sigmoid = (f: Writer, x: Local, a: Code): Code => v128.div(v128.const(1), v128.add(v128.const(1), exponential(f)(v128.neg(v128.mul(x.get, a)))));
const sigmoidUnit = pointwise((f, x, a) => v128.mul(x.get, sigmoid(f, x, a)), false);
const sigmoidUnitGradient = pointwise((f, x, a) => {
  const s = f.v128();
  return [s.set(sigmoid(f, x, a)), v128.mul(s.get, v128.madd(v128.mul(x.get, a), v128.sub(v128.const(1), s.get), v128.const(1)))];
}, true);

export const activationKernels = { gelu, geluGradient, sigmoidUnit, sigmoidUnitGradient };
