/** A run as one file: it arrives on another machine as it was; what is not such a file leaves nothing behind. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { RunService } from '../../../src-main/app/run-service.ts';
import { importRun, shareRun } from '../../../src-main/app/share-run.ts';
import { writeStoredZip, type ZipPart } from '../../../src-main/app/stored-zip.ts';
import { openReadable } from '../../../src-main/weights/read.ts';
import { writeSafetensors } from '../../../src-main/weights/safetensors.ts';
import { readZipDirectory } from '../../../src-main/weights/zip.ts';
import { config, image, started, step, tempHome } from '../../helpers/temp-home.ts';

const png = (last: number): Buffer => Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.from([1, 2, last])]);
const verdict = { sound: false, line: 'Finished, but the pictures did not change.', checks: [{ check: 'picture' as const, passed: false, words: 'the pictures did not change' }] };

/** A finished run with two pictures, a checkpoint and rows of every kind, and its file. */
async function shared(): Promise<{ recorder: RunRecorder; id: string; file: string; home: string }> {
  const home = tempHome();
  const recorder = RunRecorder.open(home);
  const id = recorder.createRun({ name: 'a run to share', config: config({ model: '/home/someone/models/base', lora: { rank: 3 } }) });
  const dir = recorder.runDir(id);
  const put = (file: string, content: Buffer): void => {
    mkdirSync(dirname(join(dir, file)), { recursive: true });
    writeFileSync(join(dir, file), content);
  };
  recorder.record(id, started());
  for (const [role, n] of [['base', 0], ['tuned', 2]] as const) {
    put(`samples/${role}-${n}.png`, png(n));
    recorder.record(id, image(role, n));
  }
  for (const n of [1, 2]) recorder.record(id, step(n));
  mkdirSync(join(dir, 'checkpoints/step-2'), { recursive: true });
  writeSafetensors(join(dir, 'checkpoints/step-2/lora.safetensors'), { 'unet.a.lora_A.weight': { shape: [2], data: new Float32Array([1, 2]) } });
  recorder.record(id, { type: 'checkpoint', step: 2, file: 'checkpoints/step-2/lora.safetensors', sha256: 'x', bytes: 1 });
  recorder.record(id, { type: 'sampled', step: 2, role: 'tuned', heldOut: true, measures: { rewards: { symmetry: 0.5 }, edgeDensity: 0, saturation: 0, contrast: 0, colorEntropy: 0 } });
  recorder.record(id, { type: 'alarm', step: 2, kind: 'k', message: 'm', remedy: 'r' });
  recorder.record(id, { type: 'finished', reason: 'completed', step: 2, seconds: 2, verdict });
  recorder.runs.update(id, { note: 'a note' });
  const { path } = await shareRun(recorder, id, join(home, 'out', 'run.drtune'));
  return { recorder, id, file: path, home };
}

/** What is in a shared file, to be changed and written again. */
function contents(file: string): { sheet: Record<string, unknown>; parts: ZipPart[] } {
  const open = openReadable(file);
  const parts = [...readZipDirectory(open).values()].map(({ name, begin, size }) => ({ name, content: Buffer.from(open.read(begin, size)) }));
  open.close();
  return { sheet: JSON.parse(parts.find((each) => each.name === 'drtune.json')!.content.toString()) as Record<string, unknown>, parts };
}

const write = (file: string, sheet: unknown, parts: readonly ZipPart[]): void => void writeStoredZip(file, [{ name: 'drtune.json', content: Buffer.from(JSON.stringify(sheet)) }, ...parts.filter((each) => each.name !== 'drtune.json')]);

describe('a shared run', () => {
  it('arrives with its settings, rows, pictures and LoRA; paths of the first machine stay there', async () => {
    const { recorder, id, file } = await shared();
    const other = RunRecorder.open(tempHome());
    const copy = await importRun(other, file);
    const [before, after] = [recorder.detail(id), other.detail(copy)];
    expect(after.steps).toEqual(before.steps);
    expect(after.samples).toEqual(before.samples);
    expect(after.alarms).toEqual(before.alarms);
    expect(after.config).toEqual({ ...before.config, model: 'base' });
    expect(after.summary).toMatchObject({ name: 'a run to share', note: 'a note', state: 'finished', step: 2, rewardLast: 0.2, verdict, seconds: before.summary.seconds });
    expect(after.images.map(({ id: _, runId: __, ...row }) => row)).toEqual(before.images.map(({ id: _, runId: __, ...row }) => row));
    const lora = (one: RunRecorder, run: string): Buffer => readFileSync(join(one.runDir(run), one.records.checkpoints(run)[0]!.file));
    expect(lora(other, copy).equals(lora(recorder, id))).toBe(true);
    expect(readFileSync(join(other.runDir(copy), other.images.get(after.images[1]!.id).file)).equals(png(2))).toBe(true);
    expect(readFileSync(file).includes('/home/someone')).toBe(false);
    expect(await importRun(other, file)).not.toBe(copy); // a second time it is a second run
    recorder.close();
    other.close();
  });

  it('that names files of the machine it comes to has them read nowhere: names are left of their paths', async () => {
    const { recorder, file } = await shared();
    const { sheet, parts } = contents(file);
    const secret = join(tempHome(), 'secret.png');
    writeFileSync(secret, png(0));
    const own = sheet['config'] as Record<string, unknown>;
    Object.assign(own, {
      model: '//evil/share/model', prompts: '/etc/passwd', heldOutPrompts: '..\\..\\held.txt', lora: { ...(own['lora'] as object), initFile: secret },
      rewards: [{ name: 'reference', weight: 1, reference: secret }, { name: 'aesthetic', weight: 1, model: '/home/me/clip', head: '/home/me/head.pt' }],
    });
    write(file, sheet, parts);
    const other = RunRecorder.open(tempHome());
    const id = await importRun(other, file);
    const { config: arrived } = other.detail(id);
    expect(arrived).toMatchObject({ model: 'model', prompts: 'passwd', heldOutPrompts: 'held.txt', lora: { initFile: 'secret.png' }, rewards: [{ reference: 'secret.png' }, { model: 'clip', head: 'head.pt' }] });
    expect(readFileSync(join(other.runDir(id), 'manifest.json'), 'utf8')).not.toMatch(/evil|etc\/|base64/);
    recorder.close();
    other.close();
  });

  it('that was imported is not gone on with: that is said before anything of it is changed', async () => {
    const { recorder, file } = await shared();
    const other = RunRecorder.open(tempHome());
    const id = await importRun(other, file);
    const before = other.detail(id);
    const service = new RunService({ recorder: other, launch: () => { throw new Error('nothing is to be started'); }, publish: () => {} });
    expect(() => service.resume(id, 50)).toThrow('The run "a run to share" was imported, with its weights and without what going on needs.');
    expect(other.detail(id)).toEqual(before);
    await service.close(100);
    recorder.close();
    other.close();
  });

  it('is a zip that other programs read', async () => {
    const { file, recorder } = await shared();
    const listed = spawnSync('python3', ['-c', 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(z.testzip(), *z.namelist())', file], { encoding: 'utf8' });
    if (!listed.error) expect(listed.stdout.trim()).toBe('None drtune.json lora.safetensors pictures/0.png pictures/1.png');
    recorder.close();
  });

  it.each<[string, (file: string) => void, RegExp]>([
    ['no zip', (file) => writeFileSync(file, 'hello '.repeat(100)), /not a usable zip/],
    ['empty', (file) => writeFileSync(file, ''), /not a usable zip/],
    ['cut', (file) => writeFileSync(file, readFileSync(file).subarray(0, 900)), /not a usable zip/],
    ['a path that leads out', (file) => {
      const { sheet, parts } = contents(file);
      write(file, sheet, [...parts, { name: '../../evil.png', content: png(0) }]);
    }, /holds a file "\.\.\/\.\.\/evil\.png"/],
    ['an absolute path', (file) => {
      const { sheet, parts } = contents(file);
      write(file, sheet, [...parts, { name: '/etc/cron.d/x', content: png(0) }]);
    }, /holds a file "\/etc/],
    ['a picture that the list puts elsewhere', (file) => {
      const { sheet, parts } = contents(file);
      (sheet['images'] as { file: string }[])[0]!.file = '../../../evil.png';
      write(file, sheet, parts);
    }, /drtune\.json: .*images\.0\.file/],
    ['other bytes than were written', (file) => {
      const { sheet, parts } = contents(file);
      write(file, sheet, parts.map((each) => (each.name === 'pictures/0.png' ? { ...each, content: png(9) } : each)));
    }, /pictures\/0\.png is not what was written/],
    ['a LoRA that is none', (file) => {
      const { sheet, parts } = contents(file);
      const content = Buffer.from('no weights at all');
      (sheet['sha256'] as Record<string, string>)['lora.safetensors'] = process.getBuiltinModule('node:crypto').createHash('sha256').update(content).digest('hex');
      write(file, sheet, parts.map((each) => (each.name === 'lora.safetensors' ? { ...each, content } : each)));
    }, /safetensors|header/i],
    ['settings that are none', (file) => {
      const { sheet, parts } = contents(file);
      (sheet['config'] as Record<string, unknown>)['iterations'] = -1;
      write(file, sheet, parts);
    }, /config\.iterations/],
    ['a step that is no whole number', (file) => {
      const { sheet, parts } = contents(file);
      (sheet['steps'] as { step: number }[])[0]!.step = 1.5;
      write(file, sheet, parts);
    }, /INTEGER|cannot store|integer/i],
    ['a file that is not listed', (file) => {
      const { sheet, parts } = contents(file);
      write(file, sheet, [...parts, { name: 'pictures/7.png', content: png(7) }]);
    }, /files that it does not list/],
    ['files that overlap, as a bomb that needs no compression has them', (file) => {
      spawnSync('python3', ['-c', 'import copy, sys, zipfile; z = zipfile.ZipFile(sys.argv[1], "a"); i = z.getinfo("drtune.json"); z.filelist += [j for n in range(2, 999) for j in [copy.copy(i)] if not setattr(j, "filename", f"pictures/{n}.png")]; z._didModify = True; z.close()', file]);
    }, /its files overlap/],
    ['a list without end', (file) => void writeStoredZip(file, [{ name: 'drtune.json', content: Buffer.from('['.repeat(3e6) + ']'.repeat(3e6)) }]), /drtune\.json: .*Invalid input|call stack/],
    ['more rows than any run has', (file) => {
      const { sheet, parts } = contents(file);
      write(file, { ...sheet, steps: new Array(1_000_001).fill(0) }, parts);
    }, /drtune\.json: steps: Too big/],
    ['compressed, as a bomb would be', (file) => {
      spawnSync('python3', ['-c', 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED); z.writestr("drtune.json", " " * 50_000_000); z.close()', file]);
    }, /is compressed|is not what|cannot be read|there is no/],
  ])('that is damaged or made up is refused, and nothing is left: %s', async (_, spoil, words) => {
    const { recorder, file } = await shared();
    spoil(file);
    const home = tempHome();
    const other = RunRecorder.open(home);
    await expect(importRun(other, file)).rejects.toThrow(words);
    expect(other.runs.list()).toEqual([]);
    expect(existsSync(join(home, 'runs')) ? readdirSync(join(home, 'runs')) : []).toEqual([]);
    recorder.close();
    other.close();
  });

  it('of a run at work is refused', async () => {
    const recorder = RunRecorder.open(tempHome());
    const id = recorder.createRun({ name: 'at work', config: config() });
    await expect(shareRun(recorder, id, 'x.drtune')).rejects.toThrow(/is running/);
    recorder.close();
  });
});
