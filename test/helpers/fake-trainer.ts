/**
 * A trainer without a network: speaks the trainer process's protocol, draws plausible curves and small PNGs. Words in the first
 * prompt make it misbehave: [crash] [kill] [hang] [error] [nan] [rude] [slow] [falls]. DRTUNE_FAKE_STEP_MS sets its pace.
 */
import { mkdirSync, readFileSync, existsSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import type { TrainerEvent } from '../../src-main/contract/events.ts';
import type { FromTrainer, ToTrainer, TrainerJob } from '../../src-main/worker/protocol.ts';

type Train = Extract<TrainerJob, { kind: 'train' }>;

const stepMs = Number(process.env['DRTUNE_FAKE_STEP_MS'] ?? 250);
const size = 64;
let stopped = false;

/** Electron's utilityProcess has a parentPort, Node's child_process has process.send. */
interface ParentPort { postMessage(message: unknown): void; on(name: 'message', listener: (event: { data: ToTrainer }) => void): void }
const parentPort = (process as unknown as { parentPort?: ParentPort }).parentPort;

function send(message: FromTrainer): Promise<void> {
  parentPort?.postMessage(message);
  return parentPort ? pause(1) : new Promise((sent) => process.send!(message, () => sent()));
}
const emit = (event: TrainerEvent): Promise<void> => send({ type: 'event', event });
const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

function receive(message: ToTrainer): void {
  if (message.type === 'stop') stopped = true;
  else void serve(message.job).then(() => pause(parentPort ? 50 : 0)).then(() => process.exit(0));
}

parentPort?.on('message', ({ data }) => receive(data));
process.on('message', receive);
process.on('disconnect', () => process.exit(0));

async function serve(job: TrainerJob): Promise<void> {
  if (job.kind === 'train') await train(job);
  else if (job.kind === 'preview') {
    await pause(stepMs);
    const prompts = promptsOf(job).slice(0, job.count);
    await send({ type: 'preview', images: prompts.map((prompt, i) => ({
      url: `data:image/png;base64,${picture(prompt, i, 0).toString('base64')}`, prompt, seed: job.config.seed + i, width: size, height: size, rewards: values(job, 0, i),
    })) });
  } else if (job.kind === 'score') {
    await pause(stepMs);
    const names = job.rewards.map((each) => each.name);
    await send({ type: 'scored', pictures: job.pictures.map(({ name, data }, i) => (name.includes('broken')
      ? { name, width: 0, height: 0, scores: {}, exact: {}, problem: `The picture ${name} cannot be read.` }
      : { name, width: size, height: size, scores: Object.fromEntries(names.map((reward, k) => [reward, Math.sin(data.length + 2 * i + k)])), exact: {}, problem: null })) });
  } else if (job.kind === 'export') {
    await emit({ type: 'phase', phase: 'writing', done: 0, total: 0 });
    await pause(stepMs);
    mkdirSync(dirname(job.out), { recursive: true });
    writeFileSync(job.out, 'a fake for tests');
    await send({ type: 'exported', exported: { path: job.out, bytes: 16, checked: 'read back, its picture differs from the checkpoint\'s by 0 and from the base\'s by 0.2' } });
  } else {
    const { prompt, seed, step, strength, loraFrom, has } = job;
    const point = { prompt, promptIndex: 0, heldOut: false, seed };
    await pause(stepMs);
    if (!has.includes('base')) await image(job, { role: 'base', step: 0, ...point });
    if (step > 0 && !has.includes('tuned')) await image(job, { role: 'tuned', step, ...point, strength, loraFrom });
  }
  await send({ type: 'done' });
}

async function train(job: Train): Promise<void> {
  const { config } = job;
  const words = promptsOf(job)[0] ?? '';
  const from = job.resume ? lastCheckpoint(job) : 0;
  await emit({
    type: 'started', engine: { name: 'tensorflow', version: '2.21.0', device: 'CPU, 2 cores', why: 'a fake for tests' }, model: config.model,
    iterations: config.iterations, startIteration: from, trainableParameters: 12_288, width: size, height: size,
  });
  await emit({ type: 'phase', phase: 'making base pictures', done: 0, total: config.samplePrompts });
  if (words.includes('[error]')) return send({ type: 'error', code: 'weights', message: 'The model is broken.', hint: 'Take another.' });
  if (from === 0) await sample(job, 0, 'base');
  let step = from;
  while (step < config.iterations && (!stopped || words.includes('[hang]'))) {
    await pause(words.includes('[slow]') ? 2000 : stepMs);
    step += 1;
    const nan = words.includes('[nan]') && step === 2;
    const terms = values(job, step, step);
    const reward = config.rewards.reduce((sum, r) => sum + r.weight * (terms[r.name] ?? 0), 0);
    await emit({
      type: 'step', step, reward: nan ? Number.NaN : reward, terms, kl: 0.001 * step, gradNorm: nan ? Number.POSITIVE_INFINITY : 1 / (1 + step / 20), lr: config.optimizer.lr,
      stepMs, skipped: false, memoryBytes: 300e6 + step * 1e5, etaSeconds: ((config.iterations - step) * stepMs) / 1000,
    });
    if (words.includes('[crash]') && step === 3) {
      process.stderr.write('Error: the fake engine fell over\n');
      process.exit(3);
    }
    if (words.includes('[kill]') && step === 3) process.kill(process.pid, 'SIGKILL');
    if (words.includes('[rude]') && step === 2) await emit({ type: 'image', file: '../../../etc/passwd' } as never);
    if (config.sampleEvery > 0 && step % config.sampleEvery === 0) await sample(job, step, 'tuned');
    if (config.checkpointEvery > 0 && step % config.checkpointEvery === 0) await checkpoint(job, step);
    if (step === 5) await emit({ type: 'alarm', step, kind: 'gamed', message: 'Edges vanish: the pictures go blank.', remedy: 'Add a second reward.' });
  }
  await checkpoint(job, step);
  await emit({ type: 'finished', reason: step < config.iterations ? 'stopped' : 'completed', step, seconds: ((step - from) * stepMs) / 1000 });
}

function promptsOf(job: Exclude<TrainerJob, { kind: 'score' }>): string[] {
  const { prompts } = job.config;
  return typeof prompts === 'string' ? readFileSync(prompts, 'utf8').split('\n').filter(Boolean) : prompts;
}

/** Rises from 0.3 to 0.8, with a little noise that depends on nothing but its arguments. */
function values(job: Exclude<TrainerJob, { kind: 'score' }>, step: number, salt: number): Record<string, number> {
  const names = [...job.config.rewards, ...job.config.heldOutRewards].map((r) => r.name);
  return Object.fromEntries(names.map((name, i) => [name, 0.8 - 0.5 * Math.exp(-step / 30) + 0.03 * Math.sin(salt * 12.9 + i * 7.1)]));
}

async function sample(job: Train, step: number, role: 'base' | 'tuned'): Promise<void> {
  const held = typeof job.config.heldOutPrompts === 'string' ? [] : job.config.heldOutPrompts;
  const shown = [...held.map((prompt) => ({ prompt, heldOut: true })), ...promptsOf(job).map((prompt) => ({ prompt, heldOut: false }))].slice(0, job.config.samplePrompts);
  for (const [i, each] of shown.entries()) await image(job, { role, step, ...each, promptIndex: i, seed: job.config.seed + i });
  for (const heldOut of [true, false]) {
    if (shown.some((each) => each.heldOut === heldOut)) {
      const reward = promptsOf(job)[0]?.includes('[falls]') ? { reward: -Math.abs(step - 4) } : {};
      await emit({ type: 'sampled', step, role, heldOut, measures: { rewards: values(job, step, 0), ...reward, edgeDensity: 0.2 - step / 2000, saturation: 0.4, contrast: 0.3, colorEntropy: 4.2 } });
    }
  }
}

async function image(job: Exclude<TrainerJob, { kind: 'preview' | 'export' | 'score' }>, what: { role: 'base' | 'tuned'; step: number; prompt: string; promptIndex: number; heldOut: boolean; seed: number; strength?: number; loraFrom?: number }): Promise<void> {
  const { strength = 1, loraFrom = 0 } = what;
  const file = `samples/${what.role}-${what.step}-${strength === 1 ? '' : `${strength}-`}${loraFrom === 0 ? '' : `from-${loraFrom}-`}${createHash('sha256').update(what.prompt).digest('hex').slice(0, 8)}-${what.seed}.png`;
  const path = join(job.runDir, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, picture(what.prompt, what.seed, what.role === 'base' ? 0 : what.step * strength));
  await emit({ type: 'image', ...what, width: size, height: size, file, rewards: values(job, what.step, what.promptIndex), weights: what.role === 'base' ? 'base' : `f${what.step}` });
}

function lastCheckpoint(job: Train): number {
  const file = join(job.runDir, 'checkpoints', 'last');
  return existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
}

async function checkpoint(job: Train, step: number): Promise<void> {
  const file = `checkpoints/step-${step}.safetensors`;
  mkdirSync(join(job.runDir, 'checkpoints'), { recursive: true });
  const header = Buffer.from(JSON.stringify({ 'unet.mid.to_q.lora_A.weight': { dtype: 'F32', shape: [1, 1], data_offsets: [0, 4] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const bytes = Buffer.concat([length, header, Buffer.alloc(4, step)]);
  writeFileSync(join(job.runDir, file), bytes);
  writeFileSync(join(job.runDir, 'checkpoints', 'last'), String(step));
  await emit({ type: 'checkpoint', step, file, sha256: createHash('sha256').update(bytes).digest('hex'), bytes: bytes.length });
}

/** A blob on a plain ground, the more symmetric the later the step. */
function picture(prompt: string, seed: number, step: number): Buffer {
  const hash = createHash('sha256').update(`${prompt}/${seed}`).digest();
  const rows = Buffer.alloc(size * (1 + size * 3));
  const shift = ((hash[0]! / 255) * 24 - 12) * Math.exp(-step / 15);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const distance = Math.hypot(x - size / 2 - shift, y - size / 2) / (10 + (hash[1]! % 14));
      const inside = 1 / (1 + Math.exp(8 * (distance - 1)));
      for (let c = 0; c < 3; c++) rows[y * (1 + size * 3) + 1 + x * 3 + c] = Math.round(inside * hash[2 + c]! + (1 - inside) * (120 + hash[5 + c]! / 4));
    }
  }
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(data.length, 0);
    frame.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
  };
  const header = Buffer.from([0, 0, 0, size, 0, 0, 0, size, 8, 2, 0, 0, 0]);
  return Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), chunk('IHDR', header), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}
