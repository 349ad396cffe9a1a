/** What a run holds while it works: the model, its rewards, the LoRA, the prompts. Also for one gradient and for previews. */
import { AppError } from '../base/errors.ts';
import { unwatched, type Work } from '../base/work.ts';
import { appliesTo, type RunConfig } from '../contract/run.ts';
import type { PromptEntry } from '../contract/prompts.ts';
import type { MemoryPlan } from '../contract/memory.ts';
import type { Engine } from '../engine/engine.ts';
import { findModel, type KnownModel } from '../models/known.ts';
import { adapterOfSet, createAdapter, disposeLoras, methodOf } from '../pipeline/adapter.ts';
import { readLoras } from '../pipeline/lora-file.ts';
import { openPipeline } from '../pipeline/load.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import { LORA_PARTS, type Adapter, type LoraPart, type LoraSet } from '../nn/lora.ts';
import type { LoraModules } from '../pipeline/lora/names.ts';
import { openRewards, type RewardSum } from '../rewards/compose.ts';
import { checkTerm } from '../rewards/index.ts';
import { promptOptions } from './prompts.ts';
import { drawSteps } from './draw.ts';
import { pipelineMemory, refuseIfTooLarge } from './memory-plan.ts';
import { diskNeed, planSession, promptsOfRun } from './session-plan.ts';
import { readPromptList, sentence, termOfSentences } from './prompts.ts';
import { spreadPoints } from './spread-points.ts';
import { TEXT_TARGETS } from './trained-size.ts';

export interface SessionDeps {
  readonly engine: Engine;
  /** The data folder. */
  readonly home: string;
  /** The memory plan, made anew if left out. */
  readonly plan?: MemoryPlan;
  /** Where the text encoders are to leave, encodes all prompts of the run before they do; otherwise those of one batch. */
  readonly rememberPrompts?: boolean;
  /** Hears how far loading and painting are, and may end them. */
  readonly work?: Work;
}

export interface Session {
  /** `sampleSeeds` of every prompt that has one, whichever list gave it. */
  readonly config: RunConfig;
  readonly pipeline: Pipeline;
  /** The weighted sum that is trained; its terms are divided by their spreads once those are measured (spread.ts). */
  readonly rewards: RewardSum;
  /** Rewards that are only watched; none that is trained too. */
  readonly watched: RewardSum;
  /** How it keeps its parts in memory. */
  readonly plan: MemoryPlan;
  readonly prompts: readonly string[];
  readonly heldOutPrompts: readonly string[];
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly work: Work;
  dispose(): void;
}

/** All that can be checked before anything is loaded. @throws AppError */
export function checkRun(config: RunConfig, home: string): { prompts: string[]; heldOutPrompts: string[]; sampleSeeds: Record<string, number>; model: KnownModel } {
  if (config.algorithm === 'nft' && config.batch < 2) throw new AppError('config', 'The algorithm nft compares the pictures of a batch, and batch is 1.', { hint: 'Set batch to 4 or more.' });
  if (config.algorithm === 'nft' && config.worstCase > 0) throw new AppError('config', 'worstCase is for algorithms that use the reward\'s gradient; nft does not.', { hint: 'Set it to 0.' });
  checkLora(config);
  drawSteps(config, () => 0); // explicit steps may contradict each other
  for (const term of [...config.rewards, ...config.heldOutRewards]) checkTerm(term);
  const without = config.rewards.find((term) => checkTerm(term).gradientFree);
  if (without && config.algorithm !== 'nft') {
    throw new AppError('config', `The reward "${without.name}" has no gradient, and the algorithm ${config.algorithm} needs one.`, { hint: 'Use the algorithm nft, or put it among heldOutRewards.' });
  }
  const prompts = readPromptList(config.prompts, 'prompts', config.seed, config.sampleSeeds);
  const heldOut = readPromptList(config.heldOutPrompts, 'held-out prompts', config.seed, config.sampleSeeds);
  for (const term of config.rewards) {
    const own = termOfSentences(config, term);
    if (prompts.some(({ prompt }) => appliesTo(own, sentence(config, prompt)))) continue;
    throw new AppError('config', `The reward "${term.name}" counts only for prompts ${typeof term.prompts === 'string' ? `with "${term.prompts}"` : 'of its list'}, and there is none.`, { hint: 'Add such a prompt, or leave out "prompts" of the reward.' });
  }
  const words = (entries: readonly PromptEntry[]): string[] => entries.map((each) => each.prompt);
  const sampleSeeds = Object.fromEntries([...heldOut, ...prompts].flatMap(({ prompt, seed }) => (seed === undefined ? [] : [[prompt, seed]])));
  return { prompts: words(prompts), heldOutPrompts: words(heldOut), sampleSeeds, model: findModel(home, config.model) };
}

/** How the run will keep its parts in memory; reads headers only. @throws AppError */
export function planRun(config: RunConfig, deps: Pick<SessionDeps, 'engine' | 'home'>): MemoryPlan {
  const { prompts, heldOutPrompts, model } = checkRun(config, deps.home);
  return planSession(config, deps.engine, { path: model.path, prompts: prompts.length + heldOutPrompts.length });
}

/** Bytes the run's folder will take at its largest. @throws AppError */
export function diskNeedOf(config: RunConfig, home: string): number {
  return diskNeed(config, checkRun(config, home).model.path);
}

/** Opens model and rewards and checks what only they can tell; refuses what does not fit in memory. @throws AppError */
export async function openSession(config: RunConfig, deps: SessionDeps): Promise<Session> {
  const { prompts, heldOutPrompts, sampleSeeds, model } = checkRun(config, deps.home);
  const { work = unwatched } = deps;
  const open: { dispose(): void }[] = [];
  const dispose = (): void => open.reverse().forEach((each) => each.dispose());
  try {
    const plan = deps.plan ?? planRun(config, deps);
    refuseIfTooLarge(plan);
    if (plan.small) deps.engine.beSmall();
    const pipeline = await openPipeline(deps.engine, model.path, { name: model.name, memory: pipelineMemory(plan) });
    open.push(pipeline);
    const { width, height } = pictureSize(config, pipeline);
    const { crop } = config.augment;
    const [narrowest, lowest] = [0, 1].map((k) => Math.min(k === 0 ? width : height, ...(config.sizes ?? []).map((size) => size[k]!)));
    if (crop >= Math.min(narrowest!, lowest!)) throw new AppError('config', `augment.crop is ${crop}, the smallest pictures are ${narrowest} x ${lowest}.`, { hint: 'A sixteenth of the shorter side is plenty.' });
    pipeline.scheduler(config.scheduler, config.steps, config.eta); // refuses what this model's sampler cannot do
    if (plan.textEncoders === 'leave') { // before the UNet comes
      const samples = [...[...heldOutPrompts, ...prompts].slice(0, config.samplePrompts), ...spreadPoints(config, prompts).map((each) => each.prompt)];
      const wanted = deps.rememberPrompts ? promptsOfRun(config, prompts, samples) : prompts.slice(0, config.batch);
      pipeline.rememberPrompts(wanted, promptOptions(config, width, height));
    }
    await pipeline.load(work);
    const rewards = await openRewards(deps.engine, config.rewards.map((term) => termOfSentences(config, term)), { normalize: config.normalize, work });
    open.push(rewards);
    const trained = new Set(config.rewards.map((each) => each.name));
    const watched = await openRewards(deps.engine, config.heldOutRewards.filter((each) => !trained.has(each.name)).map((term) => termOfSentences(config, term)), { work });
    open.push(watched);
    return { config: { ...config, sampleSeeds }, plan, pipeline, rewards, watched, prompts, heldOutPrompts, width, height, work, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

function pictureSize(config: RunConfig, pipeline: Pipeline): { width: number; height: number } {
  const { vaeFactor, defaultWidth, defaultHeight } = pipeline.info;
  const width = config.width ?? defaultWidth;
  const height = config.height ?? defaultHeight;
  const drawn = (config.sizes ?? []).flatMap((size, i) => size.map((side) => [`a side of sizes[${i}]`, side] as const));
  for (const [name, size] of [['width', width], ['height', height], ...drawn] as const) {
    if (size % vaeFactor === 0) continue;
    const near = Math.max(vaeFactor, Math.round(size / vaeFactor) * vaeFactor);
    throw new AppError('config', `${name} is ${size}, which is no multiple of the VAE's factor ${vaeFactor}.`, { hint: `Use ${near}.` });
  }
  return { width, height };
}

/** Settings of what is trained that contradict each other. @throws AppError('config') */
function checkLora({ train, lora: { method, rankDropout, rankStabilized, factor, initFile, textEncoder } }: RunConfig): void {
  if (train === 'full' && (method !== 'lora' || rankDropout > 0 || initFile !== undefined || textEncoder)) {
    throw new AppError('config', 'train is full, which tunes the UNet without a LoRA; lora.method, rankDropout, initFile and textEncoder are of a LoRA.', { hint: 'Leave them out, or set train to lora.' });
  }
  if (method !== 'lora' && rankDropout > 0) throw new AppError('config', `lora.rankDropout leaves ranks out, which the method ${method} does not allow.`, { hint: 'Set it to 0, or lora.method to lora.' });
  if (method !== 'lokr' && factor !== -1) throw new AppError('config', `lora.factor is of the method lokr, and lora.method is ${method}.`, { hint: 'Leave it out.' });
  if (initFile !== undefined && rankStabilized) throw new AppError('config', 'lora.rankStabilized is for a LoRA that begins at zero: the file of lora.initFile has a scale of its own.', { hint: 'Leave one of them out.' });
}

/** The adapter a run begins with: from `lora.initFile`, otherwise one by the seed that changes nothing. The caller frees it. */
export function startAdapter({ config, pipeline }: Session): Adapter {
  const { method, rank, alpha, rankStabilized, factor, targets, initFile, textEncoder } = config.lora;
  if (config.train === 'full') return pipeline.ownAdapter();
  const unet = pipeline.loraTargets(targets);
  if (unet.length === 0) throw new AppError('config', `No linear layer or convolution of ${pipeline.info.name}'s network ends in ${targets.join(' or ')}.`, { hint: 'The usual targets are to_q, to_k, to_v and to_out.0.' });
  const { unet: _, ...text } = pipeline.loraModules();
  const modules: LoraModules = { unet, ...(textEncoder && Object.fromEntries(Object.entries(text).map(([part, all]) => [part, all.filter(({ path }) => TEXT_TARGETS.test(path))]))) };
  const given = initFile === undefined ? {} : readLoras(initFile, modules, alpha === undefined ? {} : { alpha });
  const fresh = (part: LoraPart): Adapter => createAdapter(modules[part]!, {
    method, rank, alpha: (alpha ?? rank) * (rankStabilized ? Math.sqrt(rank) : 1), seed: config.seed + LORA_PARTS.indexOf(part), factor, norms: ({ path }) => pipeline.rowNorms(part, path),
  });
  const set: LoraSet = Object.fromEntries(LORA_PARTS.flatMap((part) => (modules[part] ? [[part, given[part] ?? fresh(part)]] : [])));
  const other = Object.values(given).map(methodOf).find((found) => found !== method);
  if (other === undefined) return adapterOfSet(set);
  disposeLoras(set);
  throw new AppError('config', `${initFile} is of the method ${other}, and lora.method is ${method}.`, { hint: `Set lora.method to ${other}.` });
}
