/**
 * PyTorch's CPU generator: the same seed gives the same noise as `torch.Generator().manual_seed(seed)`.
 * Uniform numbers are equal bit for bit; normal ones to about 1e-6, as torch's vectorised log, sin and cos are approximations.
 *
 * Source: pytorch aten/src/ATen/core/MT19937RNGEngine.h, ATen/core/DistributionsHelper.h,
 * ATen/native/cpu/DistributionTemplates.h (`normal_fill`), ATen/CPUGeneratorImpl.cpp (the cached second normal).
 */
import { assert } from '../base/errors.ts';

const stateSize = 624;
const shift = 397;

/** The Mersenne Twister with 32-bit output. */
class MersenneTwister {
  private readonly state = new Uint32Array(stateSize);
  private next = stateSize;

  /** @param seed its low 32 bits count, as in torch */
  constructor(seed: bigint) {
    const { state } = this;
    state[0] = Number(BigInt.asUintN(32, seed));
    for (let i = 1; i < stateSize; i++) {
      const previous = state[i - 1]! ^ (state[i - 1]! >>> 30);
      state[i] = Math.imul(1812433253, previous) + i;
    }
  }

  /** The next 32 bits, 0..2^32-1. */
  random(): number {
    if (this.next === stateSize) this.refill();
    let y = this.state[this.next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  private refill(): void {
    const { state } = this;
    for (let i = 0; i < stateSize; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % stateSize]! & 0x7fffffff);
      state[i] = state[(i + shift) % stateSize]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

const twoPi = Math.fround(2 * Math.PI);

export class TorchGenerator {
  private readonly engine: MersenneTwister;
  /** The second normal of the last pair drawn one by one. */
  private cachedNormal: number | undefined;

  /** @param seed an integer; 0 is a seed like any other */
  constructor(seed: number | bigint) {
    assert(typeof seed === 'bigint' || Number.isSafeInteger(seed), () => `seed must be an integer, got ${seed}`);
    this.engine = new MersenneTwister(BigInt(seed));
  }

  /** `torch.rand(n)`: uniform in [0, 1). */
  rand(n: number): Float32Array {
    const values = new Float32Array(n);
    for (let i = 0; i < n; i++) values[i] = this.uniform();
    return values;
  }

  /** `torch.randn(n)`: standard normal. A draw of 16 or more is made in groups, so it differs from shorter draws put together. */
  randn(n: number): Float32Array {
    const values = new Float32Array(n);
    if (n < 16) {
      for (let i = 0; i < n; i++) values[i] = this.normal();
      return values;
    }
    for (let i = 0; i < n; i++) values[i] = this.uniform();
    for (let i = 0; i + 16 <= n; i += 16) boxMuller(values.subarray(i, i + 16));
    if (n % 16 !== 0) {
      const last = values.subarray(n - 16);
      for (let i = 0; i < 16; i++) last[i] = this.uniform();
      boxMuller(last);
    }
    return values;
  }

  /** `torch.randint(low, high, (n,))`: integers in low..high-1; high - low below 2^32. */
  randint(low: number, high: number, n: number): Int32Array {
    const range = high - low;
    assert(range > 0 && range < 2 ** 32, () => `randint: no integers from ${low} to ${high - 1}`);
    return Int32Array.from({ length: n }, () => low + (this.engine.random() % range));
  }

  /** A float of 24 random bits. */
  private uniform(): number {
    return (this.engine.random() & 0xffffff) / 0x1000000;
  }

  /** A double of 53 random bits. */
  private uniformDouble(): number {
    const high = this.engine.random();
    const low = this.engine.random();
    return ((high & 0x1fffff) * 0x100000000 + low) / 2 ** 53;
  }

  private normal(): number {
    if (this.cachedNormal !== undefined) {
      const value = this.cachedNormal;
      this.cachedNormal = undefined;
      return value;
    }
    const u1 = this.uniformDouble();
    const u2 = this.uniformDouble();
    const radius = Math.sqrt(-2 * Math.log1p(-u2));
    this.cachedNormal = radius * Math.sin(2 * Math.PI * u1);
    return radius * Math.cos(2 * Math.PI * u1);
  }
}

/** 16 uniforms to 16 normals in place: the first eight give the radii, the last eight the angles. */
function boxMuller(values: Float32Array): void {
  for (let i = 0; i < 8; i++) {
    const radius = Math.fround(Math.sqrt(Math.fround(-2 * Math.fround(Math.log(Math.fround(1 - values[i]!))))));
    const angle = Math.fround(twoPi * values[i + 8]!);
    values[i] = radius * Math.fround(Math.cos(angle));
    values[i + 8] = radius * Math.fround(Math.sin(angle));
  }
}
