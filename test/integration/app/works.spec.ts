/** Long work in the app: each kind is on the list while it lasts, can be ended, and leaves nothing half-written. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { exportComparison } from '../../../src-main/app/compare-export.ts';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { RunService } from '../../../src-main/app/run-service.ts';
import { importRun, shareRun } from '../../../src-main/app/share-run.ts';
import { verifyModel } from '../../../src-main/app/model-check.ts';
import { Uploads } from '../../../src-main/app/uploads.ts';
import { Works } from '../../../src-main/app/works.ts';
import { RECORD } from '../../../src-main/hub/model-store.ts';
import { cancelled, type Work } from '../../../src-main/base/work.ts';
import { REQUESTS } from '../../../src-main/contract/api.ts';
import type { WorkInfo } from '../../../src-main/contract/work.ts';
import type { FromTrainer, ToTrainer, TrainerPort } from '../../../src-main/worker/protocol.ts';
import { checkpoint, config, image, started, step, tempHome, until } from '../../helpers/temp-home.ts';

const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach((each) => each.close()));

/** A service whose trainers are in the test's hand; `heard` is the list as pages hear of it. */
function bench(): { service: RunService; recorder: RunRecorder; works: Works; heard: WorkInfo[][]; trainers: { tell(message: FromTrainer): void; sent: ToTrainer[]; exit(): void; killed: boolean }[]; run: string } {
  const recorder = RunRecorder.open(tempHome());
  open.push(recorder);
  const heard: WorkInfo[][] = [];
  const works = new Works((list) => heard.push(list));
  const trainers: ReturnType<typeof bench>['trainers'] = [];
  const launch = (): TrainerPort => {
    let [tell, gone] = [(_: FromTrainer): void => {}, (_: { code: number | null; signal: string | null }): void => {}];
    const own = { tell: (message: FromTrainer) => tell(message), sent: [] as ToTrainer[], exit: () => gone({ code: 0, signal: null }), killed: false };
    trainers.push(own);
    return {
      send: (message) => void own.sent.push(message), onMessage: (listener) => void (tell = listener), onExit: (listener) => void (gone = listener),
      kill: () => {
        own.killed = true;
        gone({ code: null, signal: 'SIGKILL' });
      },
    };
  };
  const service = new RunService({ recorder, works, launch, publish: () => {} });
  const run = recorder.createRun({ name: 'done', config: config() });
  const file = join(recorder.runDir(run), checkpoint(5).file);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, 'lora');
  for (const event of [started(), step(5), checkpoint(5), { type: 'finished', reason: 'completed', step: 5, seconds: 1 } as const]) recorder.record(run, event);
  return { service, recorder, works, heard, trainers, run };
}

describe('work in a trainer\'s process', () => {
  it.each([
    ['preview', ({ service }: ReturnType<typeof bench>) => service.preview(config(), 2)],
    ['render', ({ service, run }: ReturnType<typeof bench>) => service.render(run, { prompt: 'a dog', seed: 3, step: 5 })],
    ['export', ({ service, run }: ReturnType<typeof bench>) => service.export(run, { format: 'peft', single: false, step: undefined })],
    ['score', ({ service }: ReturnType<typeof bench>) => service.score('auto', { rewards: [{ name: 'symmetry', weight: 1 }], prompt: '', pictures: [] })],
  ] as const)('%s tells how far it is and what is left of it, and ends where it is asked to; what waits behind it goes on', async (kind, begin) => {
    const all = bench();
    const [first, second] = [begin(all), begin(all)];
    const refused = expect(first).rejects.toMatchObject({ code: kind === 'preview' ? 'busy' : 'cancelled' });
    const [own] = all.trainers;
    own!.tell({ type: 'event', event: { type: 'phase', phase: 'painting', done: 1, total: 4 } });
    await new Promise((done) => setTimeout(done, 300));
    own!.tell({ type: 'event', event: { type: 'phase', phase: 'painting', done: 2, total: 4 } });
    if (kind !== 'preview') { // a newer preview takes the place of an older one by itself
      expect(all.works.list()[0]).toMatchObject({ kind, about: kind === 'score' ? '' : all.run, what: 'painting', done: 2, total: 4, etaSeconds: expect.closeTo(0.6, 0) as number });
      await until(() => all.heard.some((list) => list[0]?.done === 2), 'the list');
      all.works.cancel(all.works.list()[0]!.id);
      expect(own!.sent.map((each) => each.type)).toEqual(['job', 'stop']);
      own!.tell({ type: 'error', code: 'cancelled', message: 'Cancelled.' });
      own!.exit();
    }
    await refused;
    const next = await until(() => all.trainers[1], 'the next one');
    const { id } = all.works.list()[0]!;
    expect(all.works.list()).toHaveLength(1);
    all.works.cancel(id);
    all.works.cancel(id); // twice is once
    next.exit();
    await expect(second).rejects.toMatchObject({ code: 'cancelled' });
    expect(all.works.list()).toEqual([]);
    await until(() => all.heard.at(-1)?.length === 0, 'an empty list');
  });

  it('that waits is taken off the queue; an export that has to be killed leaves nothing', async () => {
    const { service, works, trainers, run, recorder } = bench();
    const exporting = service.export(run, { format: 'peft', single: false, step: undefined });
    const waiting = service.render(run, { prompt: 'a dog', seed: 3, step: 5 });
    const [one, two] = works.list();
    works.cancel(two!.id);
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
    const { out } = (trainers[0]!.sent[0] as { job: { out: string } }).job;
    const part = join(out, '..', `.${out.split(/[\\/]/).at(-1)}.part`);
    mkdirSync(part, { recursive: true });
    works.cancel(one!.id);
    await expect(exporting).rejects.toMatchObject({ code: 'cancelled' });
    expect(trainers[0]!.killed).toBe(true); // it did not listen for five seconds
    expect(existsSync(part)).toBe(false);
    expect(service.queue().waiting).toBe(0);
    expect(recorder.summary(run).state).toBe('finished');
  }, 15_000);
});

/** Ends at the n-th place. */
const endingAt = (n: number): Work => ({ at: async () => void (--n < 0 && (() => { throw cancelled(); })()) });

describe('work in the app itself', () => {
  it('sharing, importing and comparing leave nothing where they are ended at any place', async () => {
    const { recorder, run } = bench();
    const dir = recorder.runDir(run);
    const { default: sharp } = await import('sharp');
    const png = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#888' } }).png().toBuffer();
    writeFileSync(join(dir, 'a.png'), png);
    const ids = (['base', 'tuned'] as const).map((role) => recorder.record(run, image(role, role === 'base' ? 0 : 5, { file: 'a.png', width: 8, height: 8 })).imageId!);
    const { writeSafetensors } = await import('../../../src-main/weights/safetensors.ts');
    writeSafetensors(join(dir, checkpoint(5).file), { 'unet.a.lora_A.weight': { shape: [2], data: new Float32Array([1, 2]) } });
    const out = join(recorder.history.home, 'out');
    const file = join(out, 'x.drtune');
    let places = 0;
    for (;; places++) {
      const ended = await shareRun(recorder, run, file, { work: endingAt(places) }).then(() => false, (error: { code?: string }) => error.code === 'cancelled');
      if (!ended) break;
      expect(existsSync(out) ? readdirSync(out) : []).toEqual([]);
    }
    expect(places).toBeGreaterThan(5);
    const others = recorder.runs.list().length;
    for (places = 0; ; places++) {
      const ended = await importRun(recorder, file, { work: endingAt(places) }).then(() => false, (error: { code?: string }) => error.code === 'cancelled');
      if (!ended) break;
      expect(readdirSync(join(recorder.history.home, 'runs'))).toEqual([run]);
      expect(recorder.runs.list()).toHaveLength(others);
    }
    expect(places).toBeGreaterThan(2);
    const input = { format: 'png' as const, title: 't', labelA: 'a', labelB: 'b', pairs: [{ a: ids[0]!, b: ids[1]! }] };
    for (places = 0; ; places++) {
      const ended = await exportComparison(recorder, input, endingAt(places)).then(() => false, (error: { code?: string }) => error.code === 'cancelled');
      if (!ended) break;
      expect(existsSync(join(dir, 'exports'))).toBe(false);
    }
    expect(places).toBe(3);
  });

  it('checking a model tells how far it is, and ends', async () => {
    const folder = join(tempHome(), 'model');
    mkdirSync(folder);
    const bytes = randomBytes(3_000_000);
    writeFileSync(join(folder, 'weights.safetensors'), bytes);
    const digest = { kind: 'sha256', hex: createHash('sha256').update(bytes).digest('hex') };
    writeFileSync(join(folder, RECORD), JSON.stringify({
      repo: 'a/b', revision: 'main', commit: 'c', file: null, variant: 'plain', licence: { id: 'x', link: null },
      files: [{ path: 'weights.safetensors', size: bytes.length, digest }],
    }));
    const told: number[] = [];
    expect(await verifyModel(folder, { at: async (_, done = 0) => void told.push(done) })).toMatchObject({ checked: 1 });
    expect(told.length).toBeGreaterThan(1);
    await expect(verifyModel(folder, endingAt(1))).rejects.toMatchObject({ code: 'cancelled' });
  });
});

describe('a file that a browser sends', () => {
  it('arrives piece by piece, is used once, and is gone then', async () => {
    const home = tempHome();
    const uploads = new Uploads(home);
    const id = '0123456789abcdef';
    uploads.put(id, 0, Buffer.from('ab'));
    uploads.put(id, 2, Buffer.from('cd'));
    expect(() => uploads.put(id, 9, Buffer.from('x'))).toThrow('has 4 bytes so far, and the next piece is for byte 9');
    expect(() => uploads.put('fedcba9876543210', 3, Buffer.from('x'))).toThrow('is not being sent');
    expect(await uploads.use(id, async (path) => readFileSync(path, 'utf8'))).toBe('abcd');
    await expect(uploads.use(id, async () => '')).rejects.toThrow('has not arrived');
    expect(readdirSync(join(home, '.uploads'))).toEqual([]);
    uploads.put(id, 0, Buffer.from('left'));
    expect(new Uploads(home)).toBeDefined(); // the next start
    expect(existsSync(join(home, '.uploads'))).toBe(false);
  });

  it('under a name that leads out is none, and nothing is deleted', async () => {
    const home = tempHome();
    const [uploads, mine] = [new Uploads(home), join(home, 'mine.part')];
    writeFileSync(mine, 'mine');
    await expect(uploads.use('../mine', async () => '')).rejects.toThrow('has not arrived');
    uploads.drop('../mine');
    expect(readFileSync(mine, 'utf8')).toBe('mine');
    expect(REQUESTS['runs.import'].input.safeParse({ upload: '../mine', name: 'x' }).success).toBe(false);
  });

  it('is limited in number, and may be given up', () => {
    const uploads = new Uploads(tempHome());
    const ids = [1, 2, 3, 4, 5].map((n) => String(n).padStart(16, '0'));
    for (const id of ids.slice(0, 4)) uploads.put(id, 0, Buffer.from('x'));
    expect(() => uploads.put(ids[4]!, 0, Buffer.from('x'))).toThrow('4 files are being sent already');
    uploads.drop(ids[0]!);
    uploads.put(ids[4]!, 0, Buffer.from('x'));
  });
});
