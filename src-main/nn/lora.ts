/**
 * What is added to frozen layers, with PEFT's semantics:
 * - LoRA: y = W x + s B A x. Source: Hu et al., arXiv 2106.09685; peft tuners/lora/layer.py.
 * - DoRA: y = m / |W + s B A| (W x + s B A x), rows scaled each by itself. Source: Liu et al., arXiv 2402.09353; peft tuners/lora/dora.py.
 * - LoKr: y = W x + s (w1 (x) w2) x, a Kronecker product. Source: Yeh et al., arXiv 2309.14859; peft tuners/lokr/layer.py.
 */
import { customOp } from '../engine/custom-op.ts';
import { conv2d, linear, type Padding2D } from '../engine/ops.ts';
import { tf, type Tensor, type Tensor2D } from '../engine/tf.ts';
import type { ParameterList, Weights } from './parameters.ts';

/**
 * Matrices by the ends of their names in PEFT's files, in the order in which they are trained:
 * lora_A [rank, in], lora_B [out, rank]; DoRA's magnitudes [1, out]; LoKr's lokr_w1 [l, m] and lokr_w2 [k, n], each also as a product of two
 * ([l, rank] and [rank, m]), with out = l k and in = m n. A network that is tuned in full has its own weight [out, in] and bias [1, out] instead
 * (a norm's both [1, size]).
 */
export const MATRICES = ['lora_A.weight', 'lora_B.weight', 'lora_magnitude_vector', 'lokr_w1', 'lokr_w1_a', 'lokr_w1_b', 'lokr_w2', 'lokr_w2_a', 'lokr_w2_b', 'weight', 'bias'] as const;
export type MatrixName = (typeof MATRICES)[number];

/** One module's matrices, in torch's orientation; `strength` [1, 1] is a DoRA's share of the way from the base's weight to its own. */
export type LoraMatrices = { readonly [name in MatrixName | 'strength']?: Tensor2D };

export interface LoraModule {
  readonly matrices: LoraMatrices;
  /** Height and width of the filter, where the module is a convolution: then what stands for `in` is in * kh * kw, torch's filter row by row. */
  readonly kernel?: readonly [number, number];
}

/** The networks of a pipeline that LoRA can adapt, as diffusers calls them. */
export const LORA_PARTS = ['unet', 'text_encoder', 'text_encoder_2'] as const;
export type LoraPart = (typeof LORA_PARTS)[number];

/** What a LoRA file adapts, part by part. */
export type LoraSet = { readonly [part in LoraPart]?: Adapter };

/** Matrices by diffusers module path, e.g. "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q". */
export interface Adapter {
  /** alpha / rank; part of every trace key. */
  readonly scale: number;
  readonly modules: { readonly [path: string]: LoraModule | undefined };
  /** What a LoKr's shapes were made from, where that is known. */
  readonly lokr?: { readonly rank: number; readonly factor: number };
  /** Those of the text encoders, where a run trains them too. */
  readonly textEncoders?: Omit<LoraSet, 'unet'>;
  /** Embeddings in place of the conditioning's, by its names, a row a token: the way a gradient takes to the text encoders. */
  readonly text?: { readonly [name: string]: Tensor2D };
}

/** A linear or convolutional module that can be adapted. */
export interface LoraTarget {
  readonly path: string;
  /** Of a convolution: channels times height times width of the filter. */
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Height and width of a convolution's filter. */
  readonly kernel?: readonly [number, number];
  /** The path in the original (ldm, sgm) layout, where kohya's names come from. */
  readonly original?: string | undefined;
}

/** The matrices of one block by module name within it; part of a trace's arguments. */
export interface BlockAdapter {
  readonly [module: string]: LoraMatrices | undefined;
}

/** The matrices of `adapter` for the modules below `path` ("" is the network itself), by their names within it; {} without an adapter. */
export function blockAdapter(adapter: Adapter | null, path: string, modules: readonly string[]): BlockAdapter {
  const block: Record<string, LoraMatrices> = {};
  if (!adapter) return block;
  for (const module of modules) {
    const own = adapter.modules[path === '' ? module : `${path}.${module}`];
    if (own) block[module] = own.matrices;
  }
  return block;
}

/** Whether an adapter is a whole network's own weights. */
export function isFull({ modules }: Adapter): boolean {
  return Object.values(modules).some((own) => own?.matrices.weight);
}

/** Those weights as layers see them. @param weights the base's, for their shapes */
export function ownWeights(weights: Weights, { modules }: Adapter): Weights {
  return Object.fromEntries(Object.entries(modules).flatMap(([path, own]) => (['weight', 'bias'] as const).flatMap((end) => {
    const [base, rows] = [weights[`${path}.${end}`], own?.matrices[end]];
    return base && rows ? [[`${path}.${end}`, base.rank === 4 ? like(base, rows) : tf.reshape(rows, base.shape)]] : [];
  })));
}

/** The adapter's scale for a block that it adapts, 0 for others: those have one trace whatever the adapter. */
export function blockScale(adapter: Adapter | null, block: BlockAdapter): number {
  return adapter && Object.keys(block).length > 0 ? adapter.scale : 0;
}

/** The layer itself, by its weight and bias. */
type Layer = (weight: Tensor, bias?: Tensor) => Tensor;

/**
 * The adapted layer's output, where the adapter has matrices for the module; else the layer's own.
 * @param x [..., in]
 * @param name the module within its block: `${name}.weight` [out, in] and, if there, `${name}.bias` [out]
 * @returns [..., out]
 */
export function loraLinear(weights: Weights, adapter: BlockAdapter, scale: number, name: string, x: Tensor): Tensor {
  return adapted(weights, adapter[name], scale, name, (weight, bias) => linear(x, weight, bias), (a) => linear(x, a));
}

/**
 * As {@link loraLinear} for a convolution. Source: peft tuners/lora/layer.py Conv2d: A is a filter of W's size, stride and padding, B one of 1x1.
 * @param x [B, h, w, in]
 * @param name the module within its block: `${name}.weight` [kh, kw, in, out] and, if there, `${name}.bias` [out]
 * @returns [B, h', w', out]
 */
export function loraConv(weights: Weights, adapter: BlockAdapter, scale: number, name: string, x: Tensor, stride = 1, pad: number | Padding2D = 0): Tensor {
  return adapted(weights, adapter[name], scale, name, (weight, bias) => conv2d(x, weight, bias, stride, pad),
    (a) => conv2d(x, like(weights[`${name}.weight`]!, a), undefined, stride, pad));
}

/** @param down x through A */
function adapted(weights: Weights, own: LoraMatrices | undefined, scale: number, name: string, layer: Layer, down: (a: Tensor) => Tensor): Tensor {
  const [weight, bias] = [weights[`${name}.weight`]!, weights[`${name}.bias`]];
  if (!own) return layer(weight, bias);
  const { 'lora_A.weight': a, 'lora_B.weight': b, lora_magnitude_vector: magnitude } = own;
  if (!a || !b) return layer(tf.add(weight, like(weight, tf.mul(update(own), scale))), bias);
  const low = tf.mul(linear(down(a), b), scale);
  if (!magnitude) return tf.add(layer(weight, bias), low);
  const { ofBase, ofUpdate } = magnitudes(weight, own, scale);
  const y = tf.add(tf.mul(layer(weight), ofBase), tf.mul(low, ofUpdate));
  return bias ? tf.add(y, bias) : y;
}

/** The weights that the adapter changes as layers see them: W + scale B A, or what DoRA and LoKr make of W. By name, new; for {@link Weights} in their place. */
export function mergedWeights(weights: Weights, { modules, scale }: Adapter): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(modules).flatMap(([path, own]) => (own ? [[`${path}.weight`, mergedWeight(weights[`${path}.weight`]!, own.matrices, scale)]] : [])));
}

/** One weight, in the layout it has. */
export function mergedWeight(weight: Tensor, own: LoraMatrices, scale: number): Tensor {
  const added = like(weight, tf.mul(update(own), scale));
  if (!own.lora_magnitude_vector) return tf.add(weight, added);
  const { ofBase, ofUpdate } = magnitudes(weight, own, scale);
  const rows = (factors: Tensor): Tensor => (weight.rank === 2 ? tf.reshape(factors, [-1, 1]) : factors); // [1, out] fits filters as it is
  if (!own.strength) return tf.mul(tf.add(weight, added), rows(ofBase)); // their sum may be small against both
  return tf.add(tf.mul(weight, rows(ofBase)), tf.mul(added, rows(ofUpdate)));
}

/** Rows of a filter in torch's order, [out, in * kh * kw], in the layout of `weight`: that of a linear layer's [out, in], or [kh, kw, in, out]. */
function like(weight: Tensor, rows: Tensor): Tensor {
  if (weight.rank === 2) return rows;
  const [kh, kw, inSize] = weight.shape as [number, number, number, number];
  return tf.transpose(tf.reshape(rows, [rows.shape[0]!, inSize, kh, kw]), [2, 3, 1, 0]);
}

/** What an adapter adds to a weight before its scale, B A or w1 (x) w2: [out, in * kh * kw]. */
export function update(own: LoraMatrices): Tensor2D {
  const product = (name: 'lokr_w1' | 'lokr_w2'): Tensor2D => own[name] ?? tf.matMul(own[`${name}_a`]!, own[`${name}_b`]!);
  if (own['lora_B.weight']) return tf.matMul(own['lora_B.weight'], own['lora_A.weight']!);
  const [w1, w2] = [product('lokr_w1'), product('lokr_w2')];
  const [[l, m], [k, n]] = [w1.shape, w2.shape];
  return tf.reshape(tf.mul(tf.reshape(w1, [l, 1, m, 1]), tf.reshape(w2, [1, k, 1, n])), [l * k, m * n]);
}

/** |W + scale B A| of each row, [1, out]. @param weight as its layer has it @param own none: |W| */
export function rowNorms(weight: Tensor, own: LoraMatrices | null = null, scale = 0): Tensor2D {
  const sum = own ? tf.add(weight, like(weight, tf.mul(update(own), scale))) : weight;
  const squares = tf.sum(tf.square(sum), weight.rank === 2 ? [1] : [0, 1, 2]);
  return tf.reshape(tf.sqrt(squares), [1, -1]);
}

/** By what a DoRA's rows of W and of scale B A are multiplied, [1, out]; the norm counts as a constant, as in the paper's section 4.3. */
function magnitudes(weight: Tensor, own: LoraMatrices, scale: number): { ofBase: Tensor; ofUpdate: Tensor } {
  const norms = customOp({ inputs: {}, forward: () => rowNorms(weight, own, scale), backward: () => ({}) });
  const ratio = tf.div(own.lora_magnitude_vector!, norms);
  if (!own.strength) return { ofBase: ratio, ofUpdate: ratio };
  return { ofBase: tf.add(tf.mul(tf.sub(ratio, 1), own.strength), 1), ofUpdate: tf.mul(ratio, own.strength) };
}

/**
 * The modules that LoRA can adapt, from the expected parameters of a whole network: every linear layer and convolution.
 * @param targets ends of their paths, e.g. "to_q" or "attn1.to_q"; all if left out
 */
export function adaptableModules(list: ParameterList, targets?: readonly string[]): LoraTarget[] {
  const found: LoraTarget[] = [];
  for (const [name, shape] of list.shapes) {
    const path = name.replace(/\.weight$/, '');
    if (path === name || (shape.length !== 2 && shape.length !== 4) || /_embedding$/.test(path)) continue;
    if (targets && !targets.some((target) => path === target || path.endsWith(`.${target}`))) continue;
    const [outFeatures, inSize, kh, kw] = shape as [number, number, number?, number?];
    found.push({ path, outFeatures, inFeatures: inSize * (kh ?? 1) * (kw ?? 1), ...(kh && kw && { kernel: [kh, kw] as const }) });
  }
  return found;
}
