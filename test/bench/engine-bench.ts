/**
 * Eager against traced, on a transformer block of SDXL's size (640 wide, 1024 tokens) with LoRA on q and on the second q.
 * Run: node test/bench/engine-bench.ts [repeats]     (needs an engine: DRTUNE_HOME or DRTUNE_TF_LIB_DIR)
 */
import { drtuneHome } from '../../src-main/base/paths.ts';
import { attention, gelu, layerNorm, linear } from '../../src-main/engine/ops.ts';
import { scope } from '../../src-main/engine/scope.ts';
import { openEngine } from '../../src-main/engine/select.ts';
import { tf, type Tensor } from '../../src-main/engine/tf.ts';

const repeats = Number(process.argv[2] ?? 6);
const [width, tokens, heads, contextTokens, contextWidth, rank] = [640, 1024, 10, 77, 2048, 16];
type Record_ = Record<string, Tensor>;

const engine = await openEngine({ prefer: 'tensorflow', home: drtuneHome() });
const random = (...shape: number[]): Tensor => tf.randomNormal(shape, 0, 0.03);
const sizes: Record<string, number[]> = {
  g1: [width], b1: [width], g2: [width], b2: [width], g3: [width], b3: [width],
  q1: [width, width], k1: [width, width], v1: [width, width], o1: [width, width],
  q2: [width, width], k2: [width, contextWidth], v2: [width, contextWidth], o2: [width, width],
  up: [8 * width, width], down: [width, 4 * width],
};
const weights: Record_ = Object.fromEntries(Object.entries(sizes).map(([name, shape]) => [name, random(...shape)]));
const adapter: Record_ = { a1: random(rank, width), b1: random(width, rank), a2: random(rank, width), b2: random(width, rank) };
const inputs = { x: random(1, tokens, width), context: random(1, contextTokens, contextWidth) };
const cotangent = random(1, tokens, width);

const split = (x: Tensor): Tensor => tf.transpose(tf.reshape(x, [1, -1, heads, width / heads]), [0, 2, 1, 3]);
function attend(x: Tensor, context: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, a: Tensor, b: Tensor): Tensor {
  const query = tf.add(linear(x, q), linear(linear(x, a), b));
  const y = attention(split(query), split(linear(context, k)), split(linear(context, v)), Math.sqrt(heads / width));
  return linear(tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [1, -1, width]), o);
}
function block(w: Record_, l: Record_, { x: x0, context }: { x: Tensor; context: Tensor }): Tensor {
  let y = layerNorm(x0, w['g1']!, w['b1']!, 1e-5);
  let x = tf.add(x0, attend(y, y, w['q1']!, w['k1']!, w['v1']!, w['o1']!, l['a1']!, l['b1']!));
  y = layerNorm(x, w['g2']!, w['b2']!, 1e-5);
  x = tf.add(x, attend(y, context, w['q2']!, w['k2']!, w['v2']!, w['o2']!, l['a2']!, l['b2']!));
  const [value, gate] = tf.split(linear(layerNorm(x, w['g3']!, w['b3']!, 1e-5), w['up']!), 2, -1) as [Tensor, Tensor];
  return tf.add(x, linear(tf.mul(value, gelu(gate)), w['down']!));
}

const names = Object.keys(adapter);
function gradients(f: typeof block): Tensor[] {
  return tf.grads((x: Tensor, ...lora: Tensor[]) => {
    const trained = Object.fromEntries(names.map((name, i) => [name, lora[i]!]));
    return tf.sum(tf.mul(f(weights, trained, { x, context: inputs.context }), cotangent));
  })([inputs.x, ...Object.values(adapter)]);
}
function time(name: string, body: () => Tensor | Tensor[]): void {
  let best = Infinity;
  let first = 0;
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    scope(() => void [body()].flat()[0]!.dataSync());
    const ms = performance.now() - start;
    if (i === 0) first = ms;
    best = Math.min(best, ms);
  }
  console.log(`${name.padEnd(34)} first ${first.toFixed(0).padStart(5)} ms, best ${best.toFixed(1)} ms`);
}

console.log(`${engine.name} ${engine.version}, ${engine.device}`);
const traced = engine.trace('bench', block);
const recomputed = engine.trace('bench', block, { memory: 'recompute' });
const compiled = engine.trace('bench', block, { xla: true });
const before = engine.memory();
scope(() => {
  const expected = gradients(block);
  for (const f of [traced, recomputed, compiled]) {
    const relative = gradients(f).map((g, i) => (tf.norm(tf.sub(g, expected[i]!)).dataSync()[0]! / tf.norm(expected[i]!).dataSync()[0]!).toExponential(1));
    console.log('relative difference to eager', relative.join(' '));
  }
});
time('forward eager', () => block(weights, adapter, inputs));
time('forward traced', () => traced(weights, adapter, inputs));
time('forward traced, XLA', () => compiled(weights, adapter, inputs));
time('forward + gradient eager', () => gradients(block));
time('forward + gradient traced', () => gradients(traced));
time('forward + gradient traced, XLA', () => gradients(compiled));
time('forward + gradient recomputed', () => gradients(recomputed));
const small = tf.ones([4, 4]);
scope(() => {
  const start = performance.now();
  for (let i = 0; i < 5000; i++) tf.add(small, small).dispose();
  console.log(`one small operation ${((performance.now() - start) / 5).toFixed(1)} us`);
});
small.dispose();
console.log('memory before and after', before, engine.memory());
