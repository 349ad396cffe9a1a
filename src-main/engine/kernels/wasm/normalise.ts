/** Group and layer normalisation and their gradients, vectors of four channels at a time. The formulas are those of ../../ops.ts. */
import { f32, i32, repeat, sumLanes, v128, type Code, type KernelCode, type Local, type Writer } from './assembler.ts';
import { SCRATCH_BYTES } from './pool.ts';
import { loaderOf } from './product.ts';

/**
 * Arguments of the group norm's kernels. A unit is `width` channels of one picture, a multiple of 4 and of `perGroup`.
 * `epsilon` is a float's bits. Forward reads x, gamma, beta; the gradient x, dy, gamma.
 */
export const groupNormArguments = ['x', 'dy', 'y', 'gamma', 'beta', 'pixels', 'channels', 'width', 'perGroup', 'epsilon'] as const;
/** Of the layer norm's; a unit is `block` rows. */
export const layerNormArguments = ['x', 'dy', 'y', 'gamma', 'beta', 'rows', 'channels', 'block', 'epsilon'] as const;

/** Vectors that are added up at once: an addition waits for the one before. */
const ABREAST = 4;

interface GroupJob {
  readonly arg: (name: (typeof groupNormArguments)[number]) => Code;
  /** Bytes from the start of x to the unit's first channel. */
  readonly origin: Local;
  /** First channel of the unit, in bytes. */
  readonly first: Local;
  readonly scratch: Local;
}

/** What a pass does with one vector: `at` is its distance from the start of x in bytes, `channel` that of its channel from the unit's first. */
type Pass = (at: Code, channel: Code, vector: number) => Code;

/** Goes over all pixels of the unit, some channels at a time. */
function overPixels(f: Writer, { arg, origin }: GroupJob, begin: (channel: Code, vector: number) => Code, each: Pass, end: (channel: Code, vector: number) => Code): Code {
  const [channel, pixel, at, step, chunk] = [f.i32(), f.i32(), f.i32(), f.i32(), f.i32()];
  const vectors = (abreast: number): Code => {
    const all = <T>(make: (place: Code, vector: number) => T): T[] => Array.from({ length: abreast }, (_, v) => make(i32.add(channel.get, i32.const(16 * v)), v));
    return [
      all(begin),
      at.set(i32.add(origin.get, channel.get)),
      repeat(pixel, arg('pixels'), [all((place, v) => each(i32.add(at.get, i32.const(16 * v)), place, v)), at.step(step.get)]),
      all(end),
      channel.step(16 * abreast),
    ];
  };
  return [
    step.set(i32.shl(arg('channels'), i32.const(2))),
    channel.set(i32.const(0)),
    repeat(chunk, i32.div(arg('width'), i32.const(4 * ABREAST)), vectors(ABREAST)),
    repeat(chunk, i32.shr(i32.rem(arg('width'), i32.const(4 * ABREAST)), i32.const(2)), vectors(1)),
  ];
}

/** Rows of scratch, each of up to `width` numbers: sums over pixels, then what a pass needs of each channel. */
const SCRATCH_ROWS = 4;
/** Most channels a unit may have. */
export const MOST_GROUP_WIDTH = SCRATCH_BYTES / (4 * SCRATCH_ROWS);
const rowAt = (scratch: Local, row: number, channel: Code): Code => i32.add(i32.add(scratch.get, i32.const(row * 4 * MOST_GROUP_WIDTH)), channel);

/** Replaces a scratch row by its mean over each group and all pixels, weighted by gamma if asked; `made` of the mean goes to each channel. */
function groupMeans(f: Writer, { arg, scratch, first }: GroupJob, row: number, weighted: boolean, made: (mean: Code) => Code): Code {
  const [group, k, channel, from] = [f.i32(), f.i32(), f.i32(), f.i32()];
  const [sum, mean] = [f.local('f32'), f.local('f32')];
  const value = f32.load(rowAt(scratch, row, channel.get));
  const term = weighted ? f32.mul(value, f32.load(i32.add(i32.add(arg('gamma'), first.get), channel.get))) : value;
  return [
    channel.set(i32.const(0)),
    repeat(group, i32.div(arg('width'), arg('perGroup')), [
      from.set(channel.get),
      sum.set(f32.const(0)),
      repeat(k, arg('perGroup'), [sum.set(f32.add(sum.get, term)), channel.step(4)]),
      mean.set(made(f32.div(sum.get, f32.fromInt(i32.mul(arg('pixels'), arg('perGroup')))))),
      channel.set(from.get),
      repeat(k, arg('perGroup'), [f32.store(rowAt(scratch, row, channel.get), mean.get), channel.step(4)]),
    ]),
  ];
}

/** Mean into scratch row 0, 1 / sqrt(variance + eps) into row 1. */
function groupStatistics(f: Writer, job: GroupJob): Code {
  const { arg, scratch } = job;
  const sums = Array.from({ length: ABREAST }, () => f.v128());
  const means = Array.from({ length: ABREAST }, () => f.v128());
  const gap = f.v128();
  const store = (row: number) => (channel: Code, v: number): Code => v128.store(rowAt(scratch, row, channel), sums[v]!.get);
  const zero = (v: number): Code => sums[v]!.set(v128.const(0));
  return [
    overPixels(f, job, (_, v) => zero(v), (at, _, v) => sums[v]!.set(v128.add(sums[v]!.get, v128.load(i32.add(arg('x'), at)))), store(0)),
    groupMeans(f, job, 0, false, (mean) => mean),
    overPixels(f, job,
      (channel, v) => [zero(v), means[v]!.set(v128.load(rowAt(scratch, 0, channel)))],
      (at, _, v) => [gap.set(v128.sub(v128.load(i32.add(arg('x'), at)), means[v]!.get)), sums[v]!.set(v128.madd(gap.get, gap.get, sums[v]!.get))],
      store(1)),
    groupMeans(f, job, 1, false, (variance) => f32.div(f32.const(1), f32.sqrt(f32.add(variance, f32.load(arg('epsilon')))))),
  ];
}

function groupJob(f: Writer, args: Local, scratch: Local, unit: Local): { job: GroupJob; begin: Code } {
  const load = loaderOf(groupNormArguments, args.get);
  // A float is loaded from its own place, so that place is what stands for it.
  const arg: GroupJob['arg'] = (name) => (name === 'epsilon' ? i32.add(args.get, i32.const(4 * groupNormArguments.indexOf(name))) : load(name));
  const [origin, first, parts] = [f.i32(), f.i32(), f.i32()];
  const begin = [
    parts.set(i32.div(arg('channels'), arg('width'))),
    first.set(i32.shl(i32.mul(i32.rem(unit.get, parts.get), arg('width')), i32.const(2))),
    origin.set(i32.add(first.get, i32.shl(i32.mul(i32.mul(i32.div(unit.get, parts.get), arg('pixels')), arg('channels')), i32.const(2)))),
  ];
  return { job: { arg, origin, first, scratch }, begin };
}

const groupNorm: KernelCode = (f, { args, scratch, unit }) => {
  const { job, begin } = groupJob(f, args, scratch, unit);
  const { arg, first } = job;
  const [means, factors, shifts] = [0, 1, 2].map(() => Array.from({ length: ABREAST }, () => f.v128())) as [Local[], Local[], Local[]];
  const ofChannel = (name: 'gamma' | 'beta', channel: Code): Code => v128.load(i32.add(i32.add(arg(name), first.get), channel));
  return [
    begin,
    groupStatistics(f, job),
    overPixels(f, job,
      (channel, v) => [
        means[v]!.set(v128.load(rowAt(scratch, 0, channel))),
        factors[v]!.set(v128.mul(v128.load(rowAt(scratch, 1, channel)), ofChannel('gamma', channel))),
        shifts[v]!.set(ofChannel('beta', channel)),
      ],
      (at, _, v) => v128.store(i32.add(arg('y'), at), v128.madd(v128.sub(v128.load(i32.add(arg('x'), at)), means[v]!.get), factors[v]!.get, shifts[v]!.get)),
      () => []),
  ];
};

const groupNormGradient: KernelCode = (f, { args, scratch, unit }) => {
  const { job, begin } = groupJob(f, args, scratch, unit);
  const { arg, first } = job;
  const [means, inverses, sums, others] = [0, 1, 2, 3].map(() => Array.from({ length: ABREAST }, () => f.v128())) as [Local[], Local[], Local[], Local[]];
  const dy = f.v128();
  const x = (at: Code): Code => v128.load(i32.add(arg('x'), at));
  const load = (channel: Code, v: number): Code => [means[v]!.set(v128.load(rowAt(scratch, 0, channel))), inverses[v]!.set(v128.load(rowAt(scratch, 1, channel)))];
  return [
    begin,
    groupStatistics(f, job),
    // Sums of dy and of dy n over pixels.
    overPixels(f, job,
      (channel, v) => [load(channel, v), sums[v]!.set(v128.const(0)), others[v]!.set(v128.const(0))],
      (at, _, v) => [
        dy.set(v128.load(i32.add(arg('dy'), at))),
        sums[v]!.set(v128.add(sums[v]!.get, dy.get)),
        others[v]!.set(v128.madd(dy.get, v128.mul(v128.sub(x(at), means[v]!.get), inverses[v]!.get), others[v]!.get)),
      ],
      (channel, v) => [v128.store(rowAt(scratch, 2, channel), sums[v]!.get), v128.store(rowAt(scratch, 3, channel), others[v]!.get)]),
    groupMeans(f, job, 2, true, (mean) => mean),
    groupMeans(f, job, 3, true, (mean) => mean),
    // r gamma dy - (x - mean) r^2 mean(g n) - r mean(g)
    overPixels(f, job,
      (channel, v) => [
        load(channel, v),
        others[v]!.set(v128.mul(v128.mul(inverses[v]!.get, inverses[v]!.get), v128.load(rowAt(scratch, 3, channel)))),
        sums[v]!.set(v128.mul(inverses[v]!.get, v128.load(rowAt(scratch, 2, channel)))),
        inverses[v]!.set(v128.mul(inverses[v]!.get, v128.load(i32.add(i32.add(arg('gamma'), first.get), channel)))),
      ],
      (at, _, v) => v128.store(i32.add(arg('y'), at), v128.sub(
        v128.sub(v128.mul(inverses[v]!.get, v128.load(i32.add(arg('dy'), at))), v128.mul(v128.sub(x(at), means[v]!.get), others[v]!.get)),
        sums[v]!.get)),
      () => []),
  ];
};

/** Both directions of the layer norm. */
function layerNormKernel(gradient: boolean): KernelCode {
  return (f, { args, unit }) => {
    const load = loaderOf(layerNormArguments, args.get);
    const [row, k, at, channel, distance, count] = [f.i32(), f.i32(), f.i32(), f.i32(), f.i32(), f.i32()];
    const [sum, other, mean, inverse, value] = [f.v128(), f.v128(), f.v128(), f.v128(), f.v128()];
    const vector = (name: 'x' | 'dy'): Code => v128.load(i32.add(load(name), at.get));
    const ofChannel = (name: 'gamma' | 'beta'): Code => v128.load(i32.add(load(name), channel.get));
    const overRow = (body: Code): Code => [at.set(distance.get), channel.set(i32.const(0)), repeat(k, i32.shr(load('channels'), i32.const(2)), [body, at.step(16), channel.step(16)])];
    const meanOf = (total: Local): Code => v128.splat(f32.div(sumLanes(total), f32.fromInt(load('channels'))));
    const centred = v128.sub(vector('x'), mean.get);
    const epsilon = f32.load(args.get, 4 * layerNormArguments.indexOf('epsilon'));
    const forward: Code = overRow(v128.store(i32.add(load('y'), at.get), v128.madd(v128.mul(centred, inverse.get), ofChannel('gamma'), ofChannel('beta'))));
    const backward: Code = [
      sum.set(v128.const(0)), other.set(v128.const(0)),
      overRow([
        value.set(v128.mul(vector('dy'), ofChannel('gamma'))),
        sum.set(v128.add(sum.get, value.get)),
        other.set(v128.madd(value.get, v128.mul(centred, inverse.get), other.get)),
      ]),
      sum.set(meanOf(sum)), other.set(meanOf(other)),
      overRow(v128.store(i32.add(load('y'), at.get), v128.mul(inverse.get,
        v128.sub(v128.sub(v128.mul(vector('dy'), ofChannel('gamma')), sum.get), v128.mul(v128.mul(centred, inverse.get), other.get))))),
    ];
    return [
      count.set(i32.min(load('block'), i32.sub(load('rows'), i32.mul(unit.get, load('block'))))),
      distance.set(i32.shl(i32.mul(i32.mul(unit.get, load('block')), load('channels')), i32.const(2))),
      repeat(row, count.get, [
        sum.set(v128.const(0)), other.set(v128.const(0)),
        overRow(sum.set(v128.add(sum.get, vector('x')))),
        mean.set(meanOf(sum)),
        overRow([value.set(centred), other.set(v128.madd(value.get, value.get, other.get))]),
        inverse.set(v128.div(v128.const(1), v128.sqrt(v128.add(meanOf(other), v128.splat(epsilon))))),
        gradient ? backward : forward,
        distance.step(i32.shl(load('channels'), i32.const(2))),
      ]),
    ];
  };
}

export const normKernels = { groupNorm, groupNormGradient, layerNorm: layerNormKernel(false), layerNormGradient: layerNormKernel(true) };
