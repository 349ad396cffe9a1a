/**
 * A run as one file, `NAME.drtune`: a zip of stored entries with drtune.json (settings and history rows), the weights of a checkpoint (lora.safetensors, or
 * the files of a network tuned in full) and the sample pictures. What comes from another machine is not trusted: names, counts, sizes, sums, schema and pictures are checked before anything
 * is in the history, and nothing is unpacked but stored bytes.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { diskError, flushFolder, jointSum, sha256Of } from '../base/atomic.ts';
import { AppError, errorLine } from '../base/errors.ts';
import { mkdirs } from '../base/folder.ts';
import { stepping, unwatched, type Work } from '../base/work.ts';
import { alarmRowSchema, imageRowSchema, sampleRowSchema, stepRowSchema } from '../contract/api.ts';
import { verdictSchema } from '../contract/events.ts';
import { describeIssues, isInlinePicture, runConfigSchema, type RunConfig } from '../contract/run.ts';
import { configOf } from '../history/runs.ts';
import { writeManifest, type Manifest } from '../train/manifest.ts';
import { filesOf } from '../weights/folder.ts';
import { openReadable, type ReadableFile } from '../weights/read.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { readZipDirectory, type ZipEntry } from '../weights/zip.ts';
import { fileInside } from './run-folders.ts';
import type { RunRecorder } from './run-recorder.ts';
import { storingZip, type ZipPart } from './stored-zip.ts';

const SHEET = 'drtune.json';
const LORA = 'lora.safetensors';
const START = 'start.safetensors';
/** A LoRA; a network in one file, or in several with their index. */
const WEIGHTS = /^(lora|diffusion_pytorch_model(-\d{5}-of-\d{5})?)\.safetensors$|^diffusion_pytorch_model\.safetensors\.index\.json$/;
const PICTURE = /^pictures\/\d{1,6}\.png$/;
const PIECE_BYTES = 1 << 22;
const MOST = { entries: 20_000, sheetBytes: 128e6, pictureBytes: 128e6, weightsBytes: 0xffff_fffe, inlineBytes: 2.9e6 };

const text = z.string().max(100_000);
const sheetSchema = z.strictObject({
  format: z.literal('drtune-run'), version: z.literal(1), app: z.string().max(100),
  name: z.string().max(200), note: text, state: z.enum(['finished', 'stopped', 'failed']), reason: text.nullable(), verdict: verdictSchema.nullable(),
  config: runConfigSchema, engine: z.string().max(100).nullable(), createdAt: z.number().int().min(0).max(8.64e15), seconds: z.number().min(0),
  step: z.number().int().min(0), width: z.number().int().min(1).max(65_536).nullable(), height: z.number().int().min(1).max(65_536).nullable(),
  figures: z.object({ rewardFirst: z.number().nullable(), rewardLast: z.number().nullable(), heldOutBase: z.number().nullable(), heldOutLast: z.number().nullable() }),
  checkpoint: z.strictObject({ step: z.number().int().min(0) }).nullable(),
  steps: z.array(stepRowSchema).max(1_000_000), samples: z.array(sampleRowSchema).max(100_000), alarms: z.array(alarmRowSchema).max(10_000),
  images: z.array(imageRowSchema.omit({ id: true, runId: true }).extend({ file: z.string().regex(PICTURE) })).max(MOST.entries),
  /** Whether the LoRA it began with goes along. */
  start: z.boolean().default(false),
  /** sha256 of every file the run read, by name. */
  inputs: z.record(z.string().max(4096), z.string().max(64)).default({}),
  /** sha256 of every other entry. */
  sha256: z.record(z.string().max(100), z.string().regex(/^[0-9a-f]{64}$/)),
});
type Sheet = z.infer<typeof sheetSchema>;

/** A reference picture as a part of the config; undefined for one that cannot be had or is too large for that. */
function inlined(reference: string): string | undefined {
  if (isInlinePicture(reference)) return reference;
  const size = statSync(reference, { throwIfNoEntry: false })?.size ?? Infinity;
  const type = /\.(png|jpe?g|webp)$/i.exec(reference)?.[1]?.toLowerCase().replace('jpg', 'jpeg');
  return type && size <= MOST.inlineBytes ? `data:image/${type};base64,${readFileSync(reference).toString('base64')}` : undefined;
}

/**
 * Paths of this machine have no meaning on another, and are nobody's business there: lists are written out, files go by their name.
 * @param picture what becomes of a reference picture; its name where that is nothing
 */
function portable(config: RunConfig, lists: Partial<Pick<Manifest, 'prompts' | 'heldOutPrompts'>>, picture: (reference: string) => string | undefined): RunConfig {
  const name = (path: string): string => (/[/\\]/.test(path) ? (path.split(/[/\\]/).findLast(Boolean) ?? path) : path);
  const term = <T extends RunConfig['rewards'][number]>(each: T): T => ({
    ...each, ...(each.model !== undefined && { model: name(each.model) }), ...(each.reference !== undefined && { reference: picture(each.reference) ?? name(each.reference) }), ...(each.head !== undefined && { head: name(each.head) }),
  });
  const list = (value: string | string[], read: readonly string[] | undefined): string | string[] => (typeof value === 'string' && !value.startsWith('set:') ? (read ? [...read] : name(value)) : value);
  return {
    ...config, model: name(config.model), prompts: list(config.prompts, lists.prompts), heldOutPrompts: list(config.heldOutPrompts, lists.heldOutPrompts),
    rewards: config.rewards.map(term), heldOutRewards: config.heldOutRewards.map(term),
    lora: { ...config.lora, ...(config.lora.initFile !== undefined && { initFile: name(config.lora.initFile) }) },
  };
}

function manifestOf(runDir: string): Partial<Pick<Manifest, 'prompts' | 'heldOutPrompts' | 'inputs' | 'config'>> {
  try {
    return JSON.parse(readFileSync(join(runDir, 'manifest.json'), 'utf8')) as Partial<Manifest>;
  } catch {
    return {};
  }
}

/**
 * Writes a run that is not at work as one file.
 * @param options.step of the checkpoint whose LoRA goes along, the newest where left out
 * @throws AppError where it runs, has no such checkpoint, cannot be written, or where `work` is ended; nothing is left then
 */
export async function shareRun(recorder: RunRecorder, id: string, path: string, { step, work = unwatched }: { step?: number | undefined; work?: Work } = {}): Promise<{ path: string; bytes: number }> {
  const row = recorder.runs.get(id);
  if (row.state === 'running' || row.state === 'queued') throw new AppError('busy', `The run "${row.name}" is ${row.state}.`, { hint: 'Stop it first, or wait for its end.' });
  const runDir = recorder.runDir(id);
  const { summary, images, samples, alarms, checkpoints } = recorder.detail(id);
  const checkpoint = step === undefined ? checkpoints.at(-1) : checkpoints.find((each) => each.step === step);
  if (step !== undefined && !checkpoint) throw new AppError('not-found', `The run "${row.name}" has no checkpoint at step ${step}.`, { hint: `It has checkpoints at ${checkpoints.map((each) => each.step).join(', ') || 'no step'}.` });
  const parts: ZipPart[] = [];
  const sha256: Record<string, string> = {};
  const add = (name: string, file: string): void => void parts.push({ name, content: file });
  for (const file of checkpoint ? filesOf(fileInside(runDir, checkpoint.file)) : []) add(WEIGHTS.test(basename(file)) ? basename(file) : LORA, file);
  const manifest = manifestOf(runDir);
  const own = configOf(row);
  const start = own.lora.initFile !== undefined && existsSync(own.lora.initFile);
  if (start) add(START, own.lora.initFile!);
  // Seeds that a file gave its prompts are in the manifest's config.
  const config = portable({ ...own, sampleSeeds: manifest.config?.sampleSeeds ?? own.sampleSeeds }, manifest, inlined);
  // Files are told by their names: where they lay is nobody's business elsewhere.
  const inputs = Object.fromEntries(Object.entries(manifest.inputs ?? {}).map(([file, sum]) => [isAbsolute(file) ? basename(file) : file, sum]));
  const pictures: Sheet['images'] = [];
  for (const { id: imageId, runId: _, ...image } of images) {
    const file = join(runDir, recorder.images.get(imageId).file);
    if (!existsSync(file)) continue; // deleted by hand: its scores are in the samples
    const name = `pictures/${pictures.length}.png`;
    add(name, fileInside(runDir, recorder.images.get(imageId).file));
    pictures.push({ ...image, file: name });
  }
  for (const [i, { name, content }] of parts.entries()) {
    await work.at('reading the run', i, parts.length);
    sha256[name] = sha256Of(content as string);
  }
  const { rewardFirst, rewardLast, heldOutBase, heldOutLast } = summary;
  const sheet: Sheet = {
    format: 'drtune-run', version: 1, app: row.app_version, name: row.name, note: row.note, state: row.state, reason: row.reason, verdict: summary.verdict,
    config, start, inputs, engine: row.engine, createdAt: row.created_at, seconds: row.seconds, step: row.step, width: row.width, height: row.height,
    figures: { rewardFirst, rewardLast, heldOutBase, heldOutLast }, checkpoint: checkpoint ? { step: checkpoint.step } : null,
    steps: recorder.steps.list(id, Infinity), samples, alarms, images: pictures, sha256,
  };
  const total = parts.reduce((bytes, { content }) => bytes + statSync(content as string).size, 0);
  const bytes = await stepping(work, 'writing the file', total, storingZip(path, [{ name: SHEET, content: Buffer.from(JSON.stringify(sheet)) }, ...parts]), (written) => written);
  return { path, bytes };
}

const refuse = (name: string, problem: string): AppError => new AppError('run', `${name} is not a run that can be imported: ${problem}.`, { hint: 'Nothing was changed. Ask for the file again.' });

/**
 * Adds a shared run to the history as a new run, after all of it was checked.
 * @param options.name of the file, for messages
 * @returns its id
 * @throws AppError('run') saying what is wrong with the file, AppError('cancelled') where `work` is ended; nothing is left of it then
 */
export async function importRun(recorder: RunRecorder, path: string, { name = basename(path), work = unwatched }: { name?: string; work?: Work } = {}): Promise<string> {
  const file = openReadable(path);
  try {
    if (file.size > 0 && file.read(0, 1)[0] === 0x7b) throw new AppError('config', `${name} holds settings, not a run.`, { hint: 'Drop it on "New run", or train with it: drtune train --config FILE.' });
    const entries = checkedEntries(name, file);
    const sheet = readSheet(name, file, entries);
    return await keep(recorder, sheet, file, { entries, name, work });
  } catch (error) {
    if (error instanceof AppError || (error as { code?: unknown }).code === 'SQLITE_FULL') throw error;
    if (typeof (error as NodeJS.ErrnoException).syscall === 'string') throw diskError(join(recorder.history.home, 'runs'), error);
    throw refuse(name, errorLine(error));
  } finally {
    file.close();
  }
}

/** Names, counts and sizes of what is in it. */
function checkedEntries(path: string, file: ReadableFile): ReadonlyMap<string, ZipEntry> {
  let entries: ReadonlyMap<string, ZipEntry>;
  try {
    entries = readZipDirectory(file);
  } catch (error) {
    throw refuse(path, error instanceof AppError ? error.message.replace(/\.$/, '') : errorLine(error));
  }
  if (entries.size > MOST.entries) throw refuse(path, `it holds ${entries.size} files, at most ${MOST.entries} are taken`);
  let total = 0;
  for (const { name, size, plain } of entries.values()) {
    const shown = JSON.stringify(name.slice(0, 80));
    if (![SHEET, START].includes(name) && !WEIGHTS.test(name) && !PICTURE.test(name)) throw refuse(path, `it holds a file ${shown}`);
    if (!plain) throw refuse(path, `${shown} is compressed or encrypted`);
    const most = name === SHEET ? MOST.sheetBytes : name === START || WEIGHTS.test(name) ? MOST.weightsBytes : MOST.pictureBytes;
    if (size > most) throw refuse(path, `${shown} has ${size} bytes, at most ${most} are taken`);
    total += size;
  }
  if (total > file.size) throw refuse(path, 'its files overlap');
  return entries;
}

function readSheet(path: string, file: ReadableFile, entries: ReadonlyMap<string, ZipEntry>): Sheet {
  const entry = entries.get(SHEET);
  if (!entry) throw refuse(path, `there is no ${SHEET} in it`);
  let raw: unknown;
  try {
    raw = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(file.read(entry.begin, entry.size)));
  } catch (error) {
    throw refuse(path, `${SHEET} cannot be read: ${errorLine(error).slice(0, 200)}`);
  }
  const parsed = sheetSchema.safeParse(raw);
  if (!parsed.success) throw refuse(path, `${SHEET}: ${describeIssues(parsed.error).slice(0, 300)}`);
  // No config of another machine makes this one read a file by its path: what names one is left with its name.
  const sheet = { ...parsed.data, config: portable(parsed.data.config, {}, (reference) => (isInlinePicture(reference) ? reference : undefined)) };
  const weights = [...entries.keys()].filter((name) => WEIGHTS.test(name));
  if (sheet.checkpoint && weights.length === 0) throw refuse(path, 'the weights of its checkpoint are missing');
  const wanted = [...(sheet.checkpoint ? weights : []), ...(sheet.start ? [START] : []), ...sheet.images.map((each) => each.file)];
  if (new Set(wanted).size !== wanted.length) throw refuse(path, 'a picture is listed twice');
  const missing = wanted.find((name) => !entries.has(name) || sheet.sha256[name] === undefined);
  if (missing !== undefined) throw refuse(path, `${missing} is missing`);
  if (entries.size !== wanted.length + 1) throw refuse(path, 'it holds files that it does not list');
  return sheet;
}

const PNG = Buffer.from('89504e470d0a1a0a', 'hex');

/** Copies an entry, flushed; yields the bytes of each piece. @throws AppError('run') where it is not what was written */
function* copying(name: string, file: ReadableFile, entry: ZipEntry, { sha256 }: Sheet, to: string): Generator<number, void> {
  mkdirs(dirname(to));
  const hash = createHash('sha256');
  const out = openSync(to, 'w');
  try {
    for (let done = 0; done < entry.size; ) {
      const piece = file.read(entry.begin + done, Math.min(PIECE_BYTES, entry.size - done));
      if (done === 0 && PICTURE.test(entry.name) && !PNG.equals(piece.subarray(0, 8))) throw refuse(name, `${entry.name} is not a PNG`);
      hash.update(piece);
      for (let at = 0; at < piece.length; ) at += writeSync(out, piece, at);
      done += piece.length;
      yield piece.length;
    }
    if (hash.digest('hex') !== sha256[entry.name]) throw refuse(name, `${entry.name} is not what was written (its sha256 differs)`);
    fsyncSync(out);
  } finally {
    closeSync(out);
  }
}

interface Source { entries: ReadonlyMap<string, ZipEntry>; name: string; work: Work }

/** Files first, into a folder with a temporary name; rows and the folder's name last. */
async function keep(recorder: RunRecorder, sheet: Sheet, file: ReadableFile, { entries, name, work }: Source): Promise<string> {
  const id = recorder.newRunId();
  const runDir = recorder.runDir(id);
  const temporary = join(recorder.history.home, 'runs', `.import-${id}`);
  try {
    mkdirs(temporary);
    const folder = sheet.checkpoint && `checkpoints/step-${String(sheet.checkpoint.step).padStart(6, '0')}`;
    const weights = folder === null ? [] : [...entries.keys()].filter((each) => WEIGHTS.test(each));
    const copies = [...sheet.images.map((each) => [each.file, each.file] as const), ...weights.map((each) => [each, `${folder}/${each}`] as const), ...(sheet.start ? [[START, START] as const] : [])];
    const total = copies.reduce((bytes, [from]) => bytes + entries.get(from)!.size, 0);
    let copied = 0;
    for (const [from, to] of copies) await stepping(work, 'checking and copying', total, copying(name, file, entries.get(from)!, sheet, join(temporary, to)), (bytes) => (copied += bytes));
    if (sheet.start) {
      openSafetensors(join(temporary, START))[Symbol.dispose]();
      sheet.config.lora.initFile = join(runDir, START);
    }
    writeManifest(temporary, manifestFrom(sheet));
    const checkpoint = sheet.checkpoint && storedWeights(name, temporary, sheet.checkpoint.step, weights.map((each) => `${folder}/${each}`));
    flushFolder(temporary);
    recorder.history.db.transaction(() => {
      insertRows(recorder, id, sheet, checkpoint);
      renameSync(temporary, runDir);
    }).immediate();
    return id;
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (!recorder.runs.find(id)) rmSync(runDir, { recursive: true, force: true });
    throw error;
  }
}

/** So that the run can be made again from its folder. */
function manifestFrom({ app, config, engine, createdAt, inputs }: Sheet): Manifest {
  const list = (value: string | string[]): string[] => (typeof value === 'string' ? [] : value);
  return {
    version: 1, app, node: '', startedAt: new Date(createdAt).toISOString(), config, model: { name: config.model, path: '' }, engine: { name: engine ?? '', version: '', device: '', why: 'imported' } as Manifest['engine'],
    prompts: list(config.prompts), heldOutPrompts: list(config.heldOutPrompts), inputs, pictures: [],
  };
}

function insertRows(recorder: RunRecorder, id: string, sheet: Sheet, checkpoint: StoredCheckpoint | null): void {
  const { runs, steps, images, records } = recorder;
  const { config, figures } = sheet;
  runs.insert({ id, name: sheet.name || id, config, appVersion: sheet.app, at: sheet.createdAt, state: sheet.state, owner: null });
  for (const row of sheet.steps) steps.put(id, { type: 'step', ...row });
  for (const row of sheet.images) images.put(id, { type: 'image', ...row });
  for (const row of sheet.samples) records.putSample(id, { type: 'sampled', ...row });
  for (const row of sheet.alarms) records.putAlarm(id, { type: 'alarm', ...row });
  if (checkpoint) records.putCheckpoint(id, { type: 'checkpoint', ...checkpoint });
  runs.set(id, {
    reason: sheet.reason, verdict: sheet.verdict ? JSON.stringify(sheet.verdict) : null, engine: sheet.engine, step: sheet.step, seconds: sheet.seconds, width: sheet.width, height: sheet.height,
    reward_first: figures.rewardFirst, reward_last: figures.rewardLast, held_out_base: figures.heldOutBase, held_out_last: figures.heldOutLast,
    sparkline: JSON.stringify(steps.sparkline(id, sheet.step)), finished_at: sheet.createdAt + Math.round(1000 * sheet.seconds),
  });
  runs.update(id, { note: sheet.note });
  recorder.log(id, `imported; it was made by version ${sheet.app}`);
}

interface StoredCheckpoint { step: number; file: string; sha256: string; bytes: number }

/** What is no such file is refused, and so are files of which one does not name the others. @param files below `folder` */
function storedWeights(name: string, folder: string, step: number, files: readonly string[]): StoredCheckpoint {
  const file = files.find((each) => each.endsWith('.index.json')) ?? files[0]!;
  const named = filesOf(join(folder, file));
  if (named.length !== files.length || !files.every((each) => named.includes(join(folder, each)))) throw refuse(name, 'the weights of its checkpoint do not belong together');
  for (const each of files) if (each !== file || files.length === 1) openSafetensors(join(folder, each))[Symbol.dispose]();
  return { step, file, sha256: jointSum(Object.fromEntries(files.map((each) => [basename(each), sha256Of(join(folder, each))]))), bytes: files.reduce((sum, each) => sum + statSync(join(folder, each)).size, 0) };
}
