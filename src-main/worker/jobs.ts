/** The jobs of a trainer process, as one stream of messages; runs in any process, tested without one. */
import { join } from 'node:path';
import { AppError, errorLine } from '../base/errors.ts';
import { watched, type Progress, type Work } from '../base/work.ts';
import type { PreviewImage, ScoredPicture } from '../contract/api.ts';
import type { RunConfig } from '../contract/run.ts';
import type { Engine } from '../engine/engine.ts';
import { adapterHash, atStrength, disposeAdapter } from '../pipeline/adapter.ts';
import { readRunLora } from '../pipeline/lora-file.ts';
import { exportRunLora } from '../pipeline/lora/export.ts';
import { encodePng } from '../pipeline/images.ts';
import { readPicture } from '../pipeline/read-picture.ts';
import { openRewards, type OpenTerm } from '../rewards/compose.ts';
import { scorePicture } from '../rewards/score-pictures.ts';
import { exportRequest } from '../train/export.ts';
import { tf } from '../engine/tf.ts';
import { imageEvent, paint, pictureText, samplePoints, writePicture, type SamplePoint } from '../train/samples.ts';
import { openSession, type Session } from '../train/session.ts';
import { train, type TrainDeps } from '../train/trainer.ts';
import { keepOwnExamples, type ScoredBase } from './own-examples.ts';
import type { FromTrainer, TrainerJob } from './protocol.ts';

export type JobDeps = Pick<TrainDeps, 'appVersion' | 'now' | 'date' | 'memoryBytes' | 'stopRequested' | 'breathe'> & {
  /** Hears how far the job is. */
  tell(progress: Progress): void;
  openEngine(prefer: TrainerJob['config']['engine'], home: string): Promise<Engine>;
  log(line: string): void;
};

/** Runs one job; what it throws becomes an `error` message, and `done` is always the last. */
export async function* runJob(job: TrainerJob, deps: JobDeps): AsyncGenerator<FromTrainer> {
  const work = watched(deps.tell, deps.stopRequested, deps.now);
  try {
    const engine = await deps.openEngine(job.config.engine, job.home);
    switch (job.kind) {
      case 'train': yield* trainJob(job, engine, { ...deps, work }); break;
      case 'preview': yield* previewJob(job, engine, { ...deps, work }); break;
      case 'render': yield* renderJob(job, engine, work); break;
      case 'export': yield { type: 'exported', exported: await exportRunLora(engine, exportRequest(job.config, job), work) }; break;
      case 'score': yield* scoreJob(job, engine, work); break;
    }
  } catch (error) {
    yield errorMessage(error);
  }
  yield { type: 'done' };
}

export function errorMessage(error: unknown): FromTrainer {
  if (error instanceof AppError) return { type: 'error', code: error.code, message: error.message, hint: error.hint };
  return { type: 'error', code: 'internal', message: errorLine(error) };
}

async function* trainJob(job: Extract<TrainerJob, { kind: 'train' }>, engine: Engine, deps: JobDeps & { work: Work }): AsyncGenerator<FromTrainer> {
  const { config, home, runDir, resume } = job;
  const base: ScoredBase[] = [];
  for await (const event of train(config, { ...deps, engine, home, runDir, resume })) {
    if (event.type === 'image' && event.role === 'base') base.push({ ...event, file: join(runDir, event.file) });
    if (event.type === 'sampled' && event.role === 'base') await keepExamples(home, config, base.splice(0), deps);
    yield { type: 'event', event };
  }
}

/** Examples are a help to those who choose: where they cannot be kept, the pictures themselves still count. */
async function keepExamples(home: string, config: RunConfig, pictures: readonly ScoredBase[], { log }: JobDeps): Promise<void> {
  await keepOwnExamples(home, config, pictures).catch((error: unknown) => log(`example pictures of rewards could not be kept: ${errorLine(error)}`));
}

/** Pictures of the base model for the first prompts, with their scores. */
async function* previewJob(job: Extract<TrainerJob, { kind: 'preview' }>, engine: Engine, deps: JobDeps & { work: Work }): AsyncGenerator<FromTrainer> {
  const session = await openSession(job.config, { engine, home: job.home, work: deps.work });
  try {
    const points = samplePoints({ ...job.config, samplePrompts: job.count }, session.prompts, []);
    const images: PreviewImage[] = [];
    for await (const { prompt, seed, rewards, pixels } of paint(session, null, points, 'painting with the base model')) {
      images.push({ url: await dataUrl(pixels, session), prompt, seed, width: session.width, height: session.height, rewards });
    }
    await keepExamples(job.home, job.config, images.map((each) => ({ ...each, file: Buffer.from(each.url.replace(/^[^,]*,/, ''), 'base64') })), deps);
    yield { type: 'preview', images };
  } finally {
    session.dispose();
  }
}

async function dataUrl(pixels: Float32Array, { width, height }: Session): Promise<string> {
  const image = tf.tensor4d(pixels, [1, height, width, 3]);
  try {
    return `data:image/png;base64,${Buffer.from(await encodePng(image)).toString('base64')}`;
  } finally {
    image.dispose();
  }
}

/** One prompt and seed with the base weights and with those of a checkpoint, at any strength and from any sampling step on. */
async function* renderJob(job: Extract<TrainerJob, { kind: 'render' }>, engine: Engine, work: Work): AsyncGenerator<FromTrainer> {
  const session = await openSession(job.config, { engine, home: job.home, work });
  const { width, height } = session;
  try {
    const known = [...session.heldOutPrompts, ...session.prompts];
    const place = known.indexOf(job.prompt);
    const point: SamplePoint = {
      prompt: job.prompt, seed: job.seed, promptIndex: place < 0 ? known.length : place, heldOut: place < 0 || place < session.heldOutPrompts.length,
    };
    for (const role of ['base', 'tuned'] as const) {
      if (job.has.includes(role) || (role === 'tuned' && job.checkpoint === null)) continue;
      const full = role === 'tuned' ? readRunLora(job.checkpoint!, session.pipeline.loraModules()) : null;
      const adapter = full && atStrength(full, job.strength);
      try {
        const step = role === 'base' ? 0 : job.step;
        const lora = role === 'base' ? { strength: 1, loraFrom: 0 } : { strength: job.strength, loraFrom: job.loraFrom };
        for await (const painted of paint(session, adapter, [point], role === 'base' ? 'painting with the base model' : 'painting with the tuned weights', lora.loraFrom)) {
          const file = `samples/rendered/${role}-step-${step}${lora.strength === 1 ? '' : `-strength-${lora.strength}`}${lora.loraFrom === 0 ? '' : `-from-${lora.loraFrom}`}-${promptKey(job.prompt)}-seed-${job.seed}.png`;
          const weights = adapter ? adapterHash(adapter).slice(0, 16) : 'base';
          await writePicture(join(job.runDir, file), painted.pixels, width, height, pictureText(painted, weights));
          yield { type: 'event', event: imageEvent(painted, { role, step, width, height, file, weights }, lora) };
        }
      } finally {
        for (const each of [full, adapter]) if (each) disposeAdapter(each);
      }
    }
  } finally {
    session.dispose();
  }
}

/** A short name for a prompt's files. */
function promptKey(prompt: string): string {
  let hash = 2166136261;
  for (const character of prompt) hash = Math.imul(hash ^ character.codePointAt(0)!, 16777619) >>> 0;
  return hash.toString(36);
}

/** Values of rewards for the user's pictures; one that cannot be read has its reason instead. */
async function* scoreJob({ rewards, prompt, pictures }: Extract<TrainerJob, { kind: 'score' }>, engine: Engine, work: Work): AsyncGenerator<FromTrainer> {
  const sum = await openRewards(engine, rewards, { work });
  try {
    const scored: ScoredPicture[] = [];
    for (const { name, data } of pictures) {
      await work.at('scoring pictures', scored.length, pictures.length);
      scored.push(await scoreOne(sum.terms, name, Buffer.from(data, 'base64'), prompt));
    }
    yield { type: 'scored', pictures: scored };
  } finally {
    sum.dispose();
  }
}

async function scoreOne(terms: readonly OpenTerm[], name: string, file: Buffer, prompt: string): Promise<ScoredPicture> {
  const scored: ScoredPicture = { name, width: 0, height: 0, scores: {}, exact: {}, problem: null };
  try {
    const picture = await readPicture(file, name);
    try {
      [scored.height, scored.width] = [picture.shape[1], picture.shape[2]];
      for (const { key, reward } of terms) {
        const { value, exact } = await scorePicture(reward, picture, prompt, name);
        scored.scores[key] = value;
        if (exact !== undefined) scored.exact[key] = exact;
      }
    } finally {
      picture.dispose();
    }
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    scored.problem = error.line;
  }
  return scored;
}
