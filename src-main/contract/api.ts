/**
 * The whole surface between the renderer and the main process, on one page: request name -> input and output, event name ->
 * payload. Two transports carry it: Electron's IPC, and WebSocket + HTTP of `--serve`. Requests answer
 * `{ok:true,value}` or `{ok:false,error:{code,message,hint}}`.
 */
import { z } from 'zod';
import { givenFileSchema, logTailSchema, releaseSchema } from './desktop.ts';
import { hardwareSchema } from './hardware.ts';
import { memoryPlanSchema } from './memory.ts';
import { pictureMeasuresSchema, trainerEventSchema, verdictSchema } from './events.ts';
import { ENGINES, LONG_PROMPTS, PROMPT_SYNTAXES, rewardTermSchema, runConfigSchema } from './run.ts';
import { SERVER_REQUESTS, serverSchema } from './servers.ts';
import { fileId, WORK_REQUESTS, workSchema } from './work.ts';

const id = z.string().min(1).max(64);
const nothing = z.object({}).strict();

export const exportFormat = z.enum(['diffusers', 'kohya', 'peft', 'merged']);
export type ExportFormat = z.infer<typeof exportFormat>;

export const runState = z.enum(['queued', 'running', 'finished', 'stopped', 'failed']);
export type RunState = z.infer<typeof runState>;

export const runSummarySchema = z.object({
  id, name: z.string(), state: runState,
  /** Why it failed, one line, with what to do. */
  reason: z.string().nullable(),
  /** Of a finished run. */
  verdict: verdictSchema.nullable(),
  model: z.string(),
  rewards: z.array(z.object({ name: z.string(), weight: z.number() })),
  engine: z.string().nullable(),
  step: z.number(), iterations: z.number(),
  /** Milliseconds since 1970. */
  createdAt: z.number(), startedAt: z.number().nullable(), finishedAt: z.number().nullable(),
  seconds: z.number(),
  rewardFirst: z.number().nullable(), rewardLast: z.number().nullable(),
  /** Weighted reward of the held-out sample pictures: base, newest. */
  heldOutBase: z.number().nullable(), heldOutLast: z.number().nullable(),
  /** A few values of the reward for a sparkline. */
  sparkline: z.array(z.number()),
  /** Image ids of one base|tuned pair. */
  thumbnails: z.object({ base: z.number(), tuned: z.number() }).nullable(),
  diskBytes: z.number(), note: z.string(), favourite: z.boolean(), deletedAt: z.number().nullable(), tags: z.array(z.string()),
});
export type RunSummary = z.infer<typeof runSummarySchema>;

export const stepRowSchema = z.object({
  step: z.number(), reward: z.number(), terms: z.record(z.string(), z.number()), kl: z.number(), gradNorm: z.number(),
  lr: z.number(), stepMs: z.number(), skipped: z.boolean(), memoryBytes: z.number(), etaSeconds: z.number(),
});
export type StepRow = z.infer<typeof stepRowSchema>;

export const imageRowSchema = z.object({
  id: z.number(), runId: id, role: z.enum(['base', 'tuned']), step: z.number(), prompt: z.string(), promptIndex: z.number(),
  heldOut: z.boolean(), seed: z.number(), width: z.number(), height: z.number(), rewards: z.record(z.string(), z.number()),
  weights: z.string(),
  /** The LoRA's share that was added, 1 where left out. */
  strength: z.number().optional(),
  /** The sampling step from which it was added, 0 (the first) where left out. */
  loraFrom: z.number().optional(),
});
export type ImageRow = z.infer<typeof imageRowSchema>;

export const sampleRowSchema = z.object({ step: z.number(), role: z.enum(['base', 'tuned']), heldOut: z.boolean(), measures: pictureMeasuresSchema });
export type SampleRow = z.infer<typeof sampleRowSchema>;

export const checkpointRowSchema = z.object({ step: z.number(), file: z.string(), sha256: z.string(), bytes: z.number() });
export const alarmRowSchema = z.object({ step: z.number(), kind: z.string(), message: z.string(), remedy: z.string() });

export const runDetailSchema = z.object({
  summary: runSummarySchema,
  config: runConfigSchema,
  /** Events up to and including this sequence number are in the rows below. */
  lastSeq: z.number(),
  steps: z.array(stepRowSchema), images: z.array(imageRowSchema), samples: z.array(sampleRowSchema),
  checkpoints: z.array(checkpointRowSchema), alarms: z.array(alarmRowSchema), log: z.array(z.string()),
  /** What it is doing now: "loading the model", null where nothing is known. */
  phase: z.string().nullable(),
  folder: z.string(),
});
export type RunDetail = z.infer<typeof runDetailSchema>;

export const modelInfoSchema = z.object({
  name: z.string(), path: z.string(), architecture: z.string(), usable: z.boolean(),
  /** Why it cannot be used, one line. */
  problem: z.string().nullable(),
  width: z.number(), height: z.number(), bytes: z.number(), precision: z.string(), parameters: z.number(),
  licence: z.string(), builtIn: z.boolean(), lastUsed: z.number().nullable(),
  /** A sample picture, served like an image, or null. */
  picture: z.string().nullable(),
  /** Whether its files are gone from `path`. */
  missing: z.boolean(),
  /** Where it was downloaded from by this app, which may then delete its files; null for what was added in place. */
  origin: z.object({ repo: z.string(), revision: z.string(), commit: z.string(), file: z.string().nullable() }).nullable(),
});
export type ModelInfo = z.infer<typeof modelInfoSchema>;

const licenceSchema = z.object({ id: z.string(), link: z.string().nullable() });

/** What a download from the hub takes; nothing is fetched before the licence is accepted. */
export const modelPlanSchema = z.object({
  /** Names the download: its folder below models/. */
  id: z.string(),
  repo: z.string(), revision: z.string(), commit: z.string(), file: z.string().nullable(), variant: z.string(),
  /** Variants of the weights that could be asked for. */
  variants: z.array(z.string()),
  files: z.array(z.object({ path: z.string(), size: z.number() })),
  bytes: z.number(), bytesThere: z.number(), freeBytes: z.number(),
  /** Why the disk has no room for it, or null. */
  tooLarge: z.string().nullable(),
  licence: licenceSchema, gated: z.boolean(), notes: z.array(z.string()),
  /** The commit that is already there, whole. */
  present: z.string().nullable(),
  /** Address of its page on the hub. */
  page: z.string(),
});
export type ModelPlan = z.infer<typeof modelPlanSchema>;

export const modelDownloadSchema = z.object({
  id: z.string(), repo: z.string(), revision: z.string(), commit: z.string(), file: z.string().nullable(), variant: z.string(), licence: licenceSchema,
  /** Paused: begun and stopped, now or before the app was last closed; what is there is kept. */
  state: z.enum(['running', 'paused', 'failed', 'done']),
  /** "download" or "verify", and of which file. */
  phase: z.string(), current: z.string(),
  bytes: z.number(), total: z.number(), bytesPerSecond: z.number(), etaSeconds: z.number().nullable(),
  /** The last line about a wait or another attempt, empty without one. */
  notice: z.string(),
  error: z.object({ message: z.string(), hint: z.string() }).nullable(),
});
export type ModelDownload = z.infer<typeof modelDownloadSchema>;

export const catalogModelSchema = z.object({
  id: z.string(), title: z.string(), repo: z.string(), revision: z.string(), file: z.string().nullable(), architecture: z.string(), approximateBytes: z.number(),
  licence: z.object({ id: z.string(), link: z.string(), allows: z.string() }), what: z.string(), note: z.string().nullable(),
  settings: z.object({ width: z.number(), height: z.number(), steps: z.number(), guidance: z.number(), scheduler: z.string() }).nullable(),
  /** Name of the model on this machine, null if it is not here. */
  present: z.string().nullable(),
});
export type CatalogModel = z.infer<typeof catalogModelSchema>;

export const tokenStateSchema = z.object({
  /** kept: encrypted in the data folder; session: in memory until the app closes; environment: HF_TOKEN. */
  source: z.enum(['none', 'kept', 'session', 'environment']),
  /** Whether a token can be kept encrypted here. */
  keeps: z.boolean(),
  /** The hub's address. */
  endpoint: z.string(),
});
export type TokenState = z.infer<typeof tokenStateSchema>;

const ownExample = z.object({ url: z.string().regex(/^data:image\/webp;base64,[\w+/]+={0,2}$/), value: z.number(), prompt: z.string() });
/** Of a base model's own pictures, painted and scored on this machine, the ones a reward likes least and most. */
export const ownExamplesSchema = z.object({
  /** The base model, and by name the weights of the reward. */
  model: z.string(), by: z.string(),
  object: z.string().optional(), low: ownExample, high: ownExample,
});
export type OwnExamples = z.infer<typeof ownExamplesSchema>;

export const rewardInfoSchema = z.object({
  name: z.string(), title: z.string(),
  /** One sentence. */
  what: z.string(),
  /** What it tends to do wrong when it is trained alone. */
  habit: z.string(),
  needs: z.string(), licence: z.string(), usable: z.boolean(), problem: z.string().nullable(),
  range: z.string(), color: z.string(),
  /** True where a run has to name a model for it: `needs` says which to download. */
  needsModel: z.boolean(),
  /** Whether its value depends on the prompt. */
  usesPrompt: z.boolean(),
  /** True where its value has no gradient: it is trained by the algorithm nft, or only scored. */
  gradientFree: z.boolean(),
  /** Settings of a term that it needs ("palette"), and those it may have. */
  takes: z.array(z.string()), mayTake: z.array(z.string()),
  /** Memory for its own model, in words. */
  memory: z.string(),
  /** Pictures it likes least and most, below resources/, for a prompt where it reads one; `byHand` where people chose them and it scored none; null where there are none. */
  examples: z.object({ low: z.string(), high: z.string(), prompt: z.string().optional(), byHand: z.boolean().optional() }).nullable(),
  /** Its own choice, once a model given to it has scored base pictures. */
  own: ownExamplesSchema.optional(),
});
export type RewardInfo = z.infer<typeof rewardInfoSchema>;

export const presetSchema = z.object({ name: z.string(), title: z.string(), what: z.string(), config: runConfigSchema });
export type Preset = z.infer<typeof presetSchema>;

/** Prompts that come with the app; a config names them "set:NAME". */
export const promptSetSchema = z.object({ name: z.string(), title: z.string(), what: z.string(), prompts: z.array(z.string()) });
export type PromptSet = z.infer<typeof promptSetSchema>;

export const engineInfoSchema = z.object({
  name: z.string(), usable: z.boolean(), version: z.string(), device: z.string(), why: z.string(), active: z.boolean(),
});

export const systemSchema = z.object({
  appVersion: z.string(), home: z.string(),
  engines: z.array(engineInfoSchema),
  /** Install state of the engine pack. */
  pack: z.object({
    installed: z.boolean(), offered: z.boolean(), bytes: z.number(),
    /** Of the download, what is there of it after an interruption; and what the disk has to hold while it is unpacked. */
    bytesThere: z.number(), bytesNeeded: z.number(),
    /** The file that is downloaded, for machines without internet: it can be brought along. */
    file: z.string(),
    /** Bytes per second of the last seconds, 0 while nothing arrives. */
    progress: z.object({ phase: z.string(), bytes: z.number(), total: z.number(), bytesPerSecond: z.number(), etaSeconds: z.number().nullable() }).nullable(),
    /** The last line about a wait or another attempt, empty without one. */
    notice: z.string(),
    error: z.string().nullable(),
  }),
  memory: z.object({ usedBytes: z.number(), availableBytes: z.number(), totalBytes: z.number() }),
  disk: z.object({ homeBytes: z.number(), freeBytes: z.number() }),
  cpus: z.number(), platform: z.string(), historySchema: z.number(),
  queue: z.object({ running: z.string().nullable(), waiting: z.number(), held: z.boolean().optional() }),
  /** Lines the user should see once, e.g. that a damaged history was replaced by its backup. */
  notices: z.array(z.string()).optional(),
});
export type SystemInfo = z.infer<typeof systemSchema>;

const theme = z.enum(['system', 'light', 'dark']);
const language = z.enum(['system', 'en', 'de', 'zh', 'ja']);
const engineChoice = z.enum(ENGINES);
export const settingsSchema = z.strictObject({
  theme: theme.default('system'),
  language: language.default('system'),
  engine: engineChoice.default('auto'),
  notifications: z.boolean().default(true),
  /** Whether a later version is looked for. */
  updates: z.boolean().default(false),
  /** Whether the first page was left once; it does not open by itself again. */
  welcomed: z.boolean().default(false),
});
/** No defaults here: what is left out stays as it was. */
const settingsChangeSchema = z.strictObject({ theme: theme.optional(), language: language.optional(), engine: engineChoice.optional(), notifications: z.boolean().optional(), updates: z.boolean().optional(), welcomed: z.boolean().optional() });
export type Settings = z.infer<typeof settingsSchema>;

export const forecastSchema = z.object({
  /** Seconds for the whole run; null before anything was measured for this model and engine. */
  seconds: z.number().nullable(), secondsBasis: z.string(),
  memoryBytes: z.number(), availableBytes: z.number(), diskBytes: z.number(), freeBytes: z.number(),
  fits: z.boolean(), advice: z.array(z.string()),
  /** Where memory goes, phase by phase; null where the model cannot be read. */
  plan: memoryPlanSchema.nullable(), memoryBasis: z.string(),
});
export type Forecast = z.infer<typeof forecastSchema>;

export const previewImageSchema = z.object({
  /** data: URL of the PNG. */
  url: z.string(), prompt: z.string(), seed: z.number(), width: z.number(), height: z.number(), rewards: z.record(z.string(), z.number()),
});
export type PreviewImage = z.infer<typeof previewImageSchema>;

/** Most bytes of pictures in one `rewards.score`; as base64 they fit one message of the served app. */
export const MAX_SCORED_BYTES = 16e6;
export const scoredPictureSchema = z.object({
  name: z.string(), width: z.number(), height: z.number(),
  /** Each term's value by its key. */
  scores: z.record(z.string(), z.number()),
  /** What a reward stands for where it can be counted (true JPEG bits per pixel). */
  exact: z.record(z.string(), z.number()),
  /** Why it has no scores, one line; null where it has. */
  problem: z.string().nullable(),
});
export type ScoredPicture = z.infer<typeof scoredPictureSchema>;

export const RUN_SORTS = ['newest', 'oldest', 'gain', 'name', 'length', 'disk'] as const;
export type RunSort = (typeof RUN_SORTS)[number];
const names = z.array(z.string().max(4096)).max(50).default([]);
/** What is looked for in the list of runs; of each filter's values any, of all filters each. */
export const runQuerySchema = z.strictObject({
  /** Words that must all occur in name, id, prompts, note, tags, model or rewards. */
  search: z.string().max(500).default(''),
  deleted: z.boolean().default(false), states: z.array(runState).max(5).default([]), models: names, rewards: names, tags: names, favourite: z.boolean().default(false),
  /** Created from, and before; milliseconds since 1970. */
  from: z.number().nullable().default(null), to: z.number().nullable().default(null),
  sort: z.enum(RUN_SORTS).default('newest'),
});
export type RunQuery = z.output<typeof runQuerySchema>;

export const cleanUpSchema = z.object({
  runs: z.array(z.object({ id, name: z.string(), /** Steps of checkpoints that stay, and that go. */ keeps: z.array(z.number()), drops: z.array(z.number()), bytes: z.number() })),
  bytes: z.number(),
});
export type CleanUp = z.infer<typeof cleanUpSchema>;

/** One side of a comparison: "RUN@base", "RUN@STEP", or "RUN@STEPxSTRENGTHfromN": the LoRA at a strength, from sampling step N on. */
const sideText = z.string().max(100).regex(/^[\w.-]{1,64}@(base|\d{1,9}(x\d(\.\d{1,3})?)?(from\d{1,4})?)$/);
export interface SideOf { run: string; step: number | 'base'; strength: number; /** 0 where left out. */ loraFrom?: number }
export function readSideText(text: string): SideOf | null {
  const match = /^(.+)@(?:(base)|(\d+)(?:x([\d.]+))?(?:from(\d+))?)$/.exec(text);
  if (!match) return null;
  return { run: match[1]!, step: match[2] ? 'base' : Number(match[3]), strength: match[4] === undefined ? 1 : Number(match[4]), ...(match[5] !== undefined && { loraFrom: Number(match[5]) }) };
}

/** Whether a tuned picture was painted with the LoRA as it is asked for: all of it, from the first step, where nothing is said. */
export function sameLora(image: Pick<ImageRow, 'strength' | 'loraFrom'>, asked: Pick<ImageRow, 'strength' | 'loraFrom'> = {}): boolean {
  return (image.strength ?? 1) === (asked.strength ?? 1) && (image.loraFrom ?? 0) === (asked.loraFrom ?? 0);
}

export const voteRoundSchema = z.object({
  id: z.number(), sideA: z.string(), sideB: z.string(), labelA: z.string(), labelB: z.string(),
  /** Order and sides are drawn from it. */
  seed: z.number(), createdAt: z.number(),
  /** Image ids in the order shown; `swapped` has b on the left. */
  pairs: z.array(z.object({ a: z.number(), b: z.number(), prompt: z.string(), seed: z.number(), swapped: z.boolean() })),
  ballots: z.array(z.object({ place: z.number(), choice: z.enum(['a', 'b', 'tie', 'skip']) })),
});
export type VoteRound = z.infer<typeof voteRoundSchema>;

export const compareFormat = z.enum(['png', 'gif', 'webp', 'html']);
export type CompareFormat = z.infer<typeof compareFormat>;

/** A folder's name below models/. */
const downloadId = z.string().max(300).regex(/^[\w.-]+--[\w.-]+$/);

const request = <I extends z.ZodType, O extends z.ZodType>(input: I, output: O) => ({ input, output });

export const REQUESTS = {
  'runs.list': request(z.strictObject({ search: z.string().max(500).default(''), deleted: z.boolean().default(false), limit: z.number().int().min(1).max(10_000).default(500) }), z.array(runSummarySchema)),
  'runs.get': request(z.strictObject({ id }), runDetailSchema),
  'runs.start': request(z.strictObject({ name: z.string().max(200).default(''), config: runConfigSchema }), runSummarySchema),
  /** Ends at the next step boundary with a checkpoint; the run becomes "stopped". */
  'runs.stop': request(z.strictObject({ id }), nothing),
  /** Goes on from the newest valid checkpoint, to `iterations` if given. */
  'runs.resume': request(z.strictObject({ id, iterations: z.number().int().min(1).optional() }), runSummarySchema),
  'runs.update': request(z.strictObject({ id, name: z.string().min(1).max(200).optional(), note: z.string().max(100_000).optional(), favourite: z.boolean().optional(), tags: z.array(z.string().min(1).max(60)).max(40).optional() }), runSummarySchema),
  /** To the trash; `runs.restore` undoes it. */
  'runs.delete': request(z.strictObject({ id }), nothing),
  'runs.restore': request(z.strictObject({ id }), nothing),
  /** Deletes rows and files for good; only what is in the trash. */
  'runs.purge': request(z.strictObject({ id }), nothing),
  'runs.diff': request(z.strictObject({ a: id, b: id }), z.array(z.object({ key: z.string(), a: z.string(), b: z.string() }))),
  /** Paints one prompt and seed with base and tuned weights of a step, the LoRA at `strength` and from sampling step `loraFrom` on, and adds both to the history; what it has is not painted again. */
  'runs.render': request(z.strictObject({ id, prompt: z.string().min(1).max(2000), seed: z.number().int().min(0), step: z.number().int().min(0).optional(), strength: z.number().min(0).max(2).default(1), loraFrom: z.number().int().min(0).max(1000).default(0) }), z.array(imageRowSchema)),
  /**
   * The LoRA of a checkpoint (the newest if no step is named) as a file or folder for other programs; "merged" is the whole model,
   * `single` in one file. How far it is comes with `work`.
   */
  'runs.export': request(
    z.strictObject({ id, step: z.number().int().min(0).optional(), format: exportFormat, single: z.boolean().default(false) }),
    z.object({ path: z.string(), bytes: z.number(), /** One line of what was checked. */ checked: z.string() }),
  ),
  'runs.search': request(runQuerySchema.extend({ offset: z.number().int().min(0).default(0), limit: z.number().int().min(1).max(10_000).default(100) }), z.object({ total: z.number(), bytes: z.number(), runs: z.array(runSummarySchema) })),
  /** What the runs can be filtered by. */
  'runs.facets': request(nothing, z.object({ models: z.array(z.string()), rewards: z.array(z.string()), tags: z.array(z.string()) })),
  /** Checkpoints that are neither the best nor the last nor another run's start: what deleting them would free. */
  'runs.planCleanUp': request(z.strictObject({ ids: z.array(id).max(10_000) }), cleanUpSchema),
  'runs.cleanUp': request(z.strictObject({ ids: z.array(id).max(10_000) }), cleanUpSchema),
  /** Pairs of pictures as one file in the folder of the second side's run; `data` (base64) is for saving a copy elsewhere. */
  'compare.export': request(
    z.strictObject({
      format: compareFormat, title: z.string().max(300), labelA: z.string().min(1).max(200), labelB: z.string().min(1).max(200),
      pairs: z.array(z.strictObject({ a: z.number().int(), b: z.number().int() })).min(1).max(100),
    }),
    z.object({ path: z.string(), name: z.string(), mime: z.string(), bytes: z.number(), data: z.string() }),
  ),
  /** Draws order and sides and keeps them. */
  'votes.open': request(z.strictObject({
    sideA: sideText, sideB: sideText, labelA: z.string().max(300), labelB: z.string().max(300),
    pairs: z.array(z.strictObject({ a: z.number().int(), b: z.number().int() })).min(1).max(1000), seed: z.number().int().min(0).max(2 ** 31).optional(),
  }), voteRoundSchema),
  /** Newest first: of two sides, or of a run. */
  'votes.list': request(z.union([z.strictObject({ a: sideText, b: sideText }), z.strictObject({ run: id })]), z.array(voteRoundSchema)),
  /** One vote; null takes it back. */
  'votes.cast': request(z.strictObject({ round: z.number().int(), place: z.number().int().min(0), choice: z.enum(['a', 'b', 'tie', 'skip']).nullable() }), voteRoundSchema),
  'votes.delete': request(z.strictObject({ round: z.number().int() }), nothing),
  /** The run as one .drtune file for another machine, written into the data folder. */
  'runs.share': request(z.strictObject({ id, step: z.number().int().min(0).optional() }), z.object({ path: z.string(), bytes: z.number(), checked: z.string() })),
  /** Adds a .drtune file to the history as a new run, once all of it is checked: a file of this machine, or one that was put. */
  'runs.import': request(z.union([z.strictObject({ path: z.string().min(1).max(4096) }), z.strictObject({ upload: fileId, name: z.string().min(1).max(300) })]), runSummarySchema),
  /** Puts a waiting run so many places further back in the queue, forward where negative; tells its place, from 1. */
  'queue.move': request(z.strictObject({ id, by: z.number().int() }), z.object({ place: z.number(), of: z.number() })),
  /** While it is held no waiting run starts; the one at work goes on. */
  'queue.hold': request(z.strictObject({ held: z.boolean() }), nothing),
  'models.list': request(nothing, z.array(modelInfoSchema)),
  'models.add': request(z.strictObject({ path: z.string().min(1).max(4096) }), modelInfoSchema),
  'models.verify': request(z.strictObject({ name: z.string().min(1) }), z.object({ ok: z.boolean(), problems: z.array(z.string()) })),
  /** Off the list; with `deleteFiles` also off the disk, which is refused for files that this app did not download. */
  'models.remove': request(z.strictObject({ name: z.string().min(1), deleteFiles: z.boolean().default(false) }), nothing),
  /** The system's own dialog, in the window only. */
  'models.pick': request(z.strictObject({ what: z.enum(['file', 'folder', 'engine']) }), z.object({ path: z.string().nullable() })),
  'models.catalog': request(nothing, z.array(catalogModelSchema)),
  /** Asks the hub; nothing is downloaded yet. */
  'models.plan': request(z.strictObject({ repo: z.string().min(1).max(1000), revision: z.string().max(200).optional(), file: z.string().max(300).optional(), variant: z.string().max(40).optional() }), modelPlanSchema),
  /** Starts what was planned, or goes on with what was begun; progress comes as events. */
  'models.download': request(z.strictObject({ id: downloadId, commit: z.string().max(64), licenceAccepted: z.literal(true) }), nothing),
  'models.downloads': request(nothing, z.array(modelDownloadSchema)),
  /** Stops a download, which keeps what is there; with `discard` that goes too. */
  'models.cancelDownload': request(z.strictObject({ id: downloadId, discard: z.boolean().default(false) }), nothing),
  /** The token itself never comes back. */
  'hub.tokenState': request(nothing, tokenStateSchema),
  /** An empty text forgets it. */
  'hub.setToken': request(z.strictObject({ token: z.string().max(600) }), tokenStateSchema),
  'rewards.list': request(nothing, z.array(rewardInfoSchema)),
  /** Values of rewards for pictures of the user's, PNG, JPEG or WebP as base64; in a process of its own. */
  'rewards.score': request(z.strictObject({
    rewards: z.array(rewardTermSchema).min(1).max(40), prompt: z.string().max(4000).default(''),
    pictures: z.array(z.strictObject({ name: z.string().min(1).max(500), data: z.base64().max(Math.ceil(MAX_SCORED_BYTES / 3) * 4) })).min(1).max(200),
  }), z.array(scoredPictureSchema)),
  'presets.list': request(nothing, z.array(presetSchema)),
  'prompts.sets': request(nothing, z.array(promptSetSchema)),
  /** Each prompt's tokens, of how many that are read at once, in how many chunks, and what is not read. */
  'prompts.tokens': request(
    z.strictObject({ model: z.string(), prompts: z.array(z.string().max(4000)).max(1000), longPrompts: z.enum(LONG_PROMPTS).default('truncate'), promptSyntax: z.enum(PROMPT_SYNTAXES).default('plain') }),
    z.array(z.object({ tokens: z.number(), limit: z.number(), chunks: z.number(), cut: z.string() })),
  ),
  'forecast': request(z.strictObject({ config: runConfigSchema }), forecastSchema),
  /** Base pictures of the first prompts with their scores, made live in the trainer process. */
  'preview': request(z.strictObject({ config: runConfigSchema, count: z.number().int().min(1).max(8) }), z.array(previewImageSchema)),
  'system.get': request(nothing, systemSchema),
  /** Measured when asked for. */
  'system.hardware': request(nothing, hardwareSchema),
  /** Goes on with what was begun; with `file` the pack's file is taken from there instead of the network. */
  'system.installEngine': request(z.strictObject({ file: z.string().min(1).max(4096).optional() }), nothing),
  'system.cancelInstall': request(nothing, nothing),
  'logs.tail': request(z.strictObject({ limit: z.number().int().min(1).max(5000).default(500) }), logTailSchema),
  /** Files the system gave to the app since the last question. */
  'files.given': request(nothing, z.array(givenFileSchema)),
  /** Asks for a later version where the settings allow it. */
  'releases.latest': request(nothing, releaseSchema),
  'settings.get': request(nothing, settingsSchema),
  'settings.set': request(settingsChangeSchema, settingsSchema),
  ...SERVER_REQUESTS,
  ...WORK_REQUESTS,
} as const;

export type RequestName = keyof typeof REQUESTS;
/** What a caller passes (defaults may be left out). */
export type RequestInput<N extends RequestName> = z.input<(typeof REQUESTS)[N]['input']>;
/** What a handler gets (defaults filled in). */
export type RequestParsed<N extends RequestName> = z.output<(typeof REQUESTS)[N]['input']>;
export type RequestOutput<N extends RequestName> = z.output<(typeof REQUESTS)[N]['output']>;
export type Handlers = { [N in RequestName]: (input: RequestParsed<N>) => Promise<RequestOutput<N>> };

export const EVENTS = {
  /** One trainer event, already in the history; `imageId` is set for images. */
  'run.event': z.object({ runId: id, seq: z.number(), event: trainerEventSchema, imageId: z.number().nullable() }),
  'run.summary': runSummarySchema,
  /** Long work besides training, at every change. */
  'work': z.array(workSchema),
  'system': systemSchema,
  'models.downloads': z.array(modelDownloadSchema),
  /** There are files to ask for. */
  'files.given': z.object({ count: z.number() }),
  /** The menu wants a page, by its address behind #. */
  'go': z.object({ page: z.string() }),
  'servers': z.array(serverSchema),
} as const;
export type EventName = keyof typeof EVENTS;
export type EventPayload<N extends EventName> = z.output<(typeof EVENTS)[N]>;

/** What concerns this window and this machine only: never asked of, or heard from, another machine. */
export const HERE_ONLY: ReadonlySet<string> = new Set([...Object.keys(SERVER_REQUESTS), 'models.pick', 'files.given', 'releases.latest', 'go', 'servers']);

export interface ErrorPayload { code: string; message: string; hint?: string | undefined }
export type Reply<T> = { ok: true; value: T } | { ok: false; error: ErrorPayload };

/** What the renderer talks to; the preload script or the WebSocket client provides it. With `server` another machine is meant, by its id. */
export interface Transport {
  request(name: string, input: unknown, server?: string): Promise<Reply<unknown>>;
  on(listener: (name: string, payload: unknown, server?: string) => void): () => void;
  /** Address of a file, of the same origin as the page: `app://studio/PATH` in Electron, `/PATH?token=...` when served. */
  fileUrl(path: string): string;
  /** Path of a dropped file or folder, in the window only. */
  pathOf?(file: unknown): string;
  readonly kind: 'electron' | 'served';
}
