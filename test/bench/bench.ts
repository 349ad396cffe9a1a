/**
 * `npm run bench [-- --cases starter,starter-sample,growth,sd15,sdxl --repeats 5 --out FILE]`: ours against the plain DRTune in PyTorch (peer.py), interleaved
 * in one run. Gradients are compared before anything is timed. Prints a table to stderr and JSON to stdout.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { parseArgs } from 'node:util';
import { engineProcess } from '../../src-main/app/trainer-port.ts';
import { writeWhole } from '../../src-main/base/atomic.ts';
import { drtuneHome } from '../../src-main/base/paths.ts';
import { openSafetensors } from '../../src-main/weights/safetensors.ts';
import { benchCases, type BenchCase } from './cases.ts';

const root = join(import.meta.dirname, '../..');
const folder = join(drtuneHome(), 'bench');
const packages = ['torch==2.13.0', 'diffusers==0.42.1', 'transformers==5.23.0', 'peft==0.21.2', 'safetensors', 'accelerate'];
/** Relative L2 of all gradients together. */
const gradientTolerance = 1e-3;

interface Answer { ready?: boolean; seconds?: number; peakBytes: number; versions?: Record<string, string> }

/** One side, alive over all its repeats. */
class Side {
  readonly name: string;
  readonly seconds: number[] = [];
  peakBytes = 0;
  loadedBytes = 0;
  versions: Record<string, string> = {};
  private readonly child: ChildProcess;
  private readonly lines: Interface;
  private readonly ended: Promise<never>;

  constructor(name: string, command: string, args: readonly string[], env = process.env) {
    this.name = name;
    this.child = spawn(command, args, { cwd: root, env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.lines = createInterface({ input: this.child.stdout! });
    this.ended = new Promise((_, reject) => {
      this.child.on('error', reject);
      this.child.on('exit', (code, signal) => reject(new Error(`${name} ended early (${signal ?? code})`)));
    });
    this.ended.catch(() => undefined);
  }

  async ready(): Promise<void> {
    const answer = await this.next();
    this.loadedBytes = answer.peakBytes;
    this.versions = answer.versions ?? {};
  }

  async ask(command: string): Promise<Answer> {
    this.child.stdin!.write(`${command}\n`);
    const answer = await this.next();
    this.peakBytes = answer.peakBytes;
    return answer;
  }

  close(): void {
    this.child.stdin!.end('quit\n');
    this.lines.close();
  }

  private async next(): Promise<Answer> {
    return await Promise.race([this.ended, new Promise<Answer>((done) => this.lines.once('line', (line) => done(JSON.parse(line) as Answer)))]);
  }
}

export interface Row { case: string; what: string; side: string; seconds: number | null; all: number[]; peakBytes: number; loadedBytes: number; gradientDifference: number | null; versions: Record<string, string> }

function sides(each: BenchCase, python: string | null): Array<() => Side> {
  const peer = (mode: 'tape' | 'checkpoint') => () => new Side(`peer, ${mode}`, python!, [join(import.meta.dirname, 'peer.py'), JSON.stringify({ ...each, mode })]);
  const { execArgv, env } = engineProcess(process.env);
  const ours = () => new Side('ours', process.execPath, [...execArgv, join(import.meta.dirname, 'ours.ts'), JSON.stringify(each)], env);
  if (!python) return [ours];
  return each.command === 'sample' ? [peer('tape'), ours] : [peer('tape'), ours, peer('checkpoint')]; // the first peer writes the LoRA file that all read
}

async function measure(each: BenchCase, python: string | null, repeats: number, alone: boolean): Promise<Row[]> {
  const rows: Row[] = [];
  const makers = sides(each, python);
  let reference: string | undefined;
  const gradientFile = (side: Side): string => join(folder, `${each.name}.${side.name.replaceAll(/\W+/g, '-')}.gradient.safetensors`);
  const start = async (make: () => Side): Promise<{ side: Side; difference: number | null }> => {
    const side = make();
    await side.ready();
    if (each.command === 'sample') {
      await side.ask('sample'); // warm-up
      return { side, difference: null };
    }
    await side.ask(`gradient ${gradientFile(side)}`);
    const difference = reference === undefined ? null : relativeDifference(gradientFile(side), reference);
    if (difference !== null && !(difference <= gradientTolerance)) throw new Error(`${each.name}: the gradients of ${side.name} differ by ${difference}: nothing was timed`);
    reference ??= gradientFile(side);
    return { side, difference };
  };
  const finish = ({ side, difference }: { side: Side; difference: number | null }): void => {
    side.close();
    rows.push({
      case: each.name, what: each.what, side: side.name, seconds: median(side.seconds), all: side.seconds, peakBytes: side.peakBytes, loadedBytes: side.loadedBytes, gradientDifference: difference,
      versions: side.versions,
    });
  };
  if (alone) {
    for (const make of makers) {
      const one = await start(make);
      for (let i = 0; i < repeats; i++) one.side.seconds.push((await one.side.ask(each.command)).seconds!);
      finish(one);
    }
    return rows;
  }
  const open: Array<{ side: Side; difference: number | null }> = [];
  for (const make of makers) open.push(await start(make));
  for (let i = 0; i < repeats; i++) for (const { side } of open) side.seconds.push((await side.ask(each.command)).seconds!);
  open.forEach(finish);
  return rows;
}

function relativeDifference(file: string, reference: string): number {
  using a = openSafetensors(file);
  using b = openSafetensors(reference);
  let [difference, norm] = [0, 0];
  for (const name of b.entries.keys()) {
    const [x, y] = [a.readFloats(name), b.readFloats(name)];
    for (let i = 0; i < y.length; i++) {
      difference += (x[i]! - y[i]!) ** 2;
      norm += y[i]! ** 2;
    }
  }
  return a.entries.size === b.entries.size ? Math.sqrt(difference / norm) : Infinity;
}

function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length === 0 ? null : sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A Python with the peer's packages: DRTUNE_BENCH_PYTHON, or an environment made here. Null where there is no Python. */
function peerPython(): string | null {
  if (process.env['DRTUNE_BENCH_PYTHON']) return process.env['DRTUNE_BENCH_PYTHON'];
  const python = join(folder, 'venv', process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  const done = join(folder, 'venv', '.packages');
  if (existsSync(done)) return python;
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  say('Making an environment for the peer (PyTorch, diffusers, peft) ...');
  const run = (command: string, args: string[]): boolean => spawnSync(command, args, { stdio: ['ignore', 2, 2] }).status === 0;
  if (!run('python3', ['-m', 'venv', join(folder, 'venv')]) || !run(python, ['-m', 'pip', 'install', '-q', ...packages])) {
    say('The peer cannot run here (Python 3 or its packages are missing): only ours is measured, without a ratio.');
    return null;
  }
  writeWhole(done, packages.join('\n'));
  return python;
}

function ensureModel(each: BenchCase, python: string | null): boolean {
  if (existsSync(join(each.config.model, 'model_index.json'))) return true;
  if (!python) return false;
  const temporary = `${each.config.model}.part`;
  rmSync(temporary, { recursive: true, force: true });
  process.stderr.write(`Making a random model of ${each.name} size ...\n`);
  const made = spawnSync(python, [join(import.meta.dirname, 'peer.py'), 'make-model', each.name, temporary, join(root, 'resources/starter/clip')], { stdio: ['ignore', 2, 2] });
  if (made.status !== 0) throw new Error(`the random model of ${each.name} could not be made`);
  renameSync(temporary, each.config.model);
  return true;
}

function table(rows: readonly Row[]): string {
  const lines = [['case', 'side', 'seconds', 'peak MB', 'time / peer', 'memory / peer', 'gradient vs peer']];
  for (const row of rows) {
    const peers = rows.filter((other) => other.case === row.case && other.side !== 'ours');
    const best = peers.reduce<Row | undefined>((least, peer) => (!least || (peer.seconds ?? Infinity) < (least.seconds ?? Infinity) ? peer : least), undefined);
    const ratio = (own: number | null, other: number | null | undefined): string => (row.side === 'ours' && own !== null && other ? (own / other).toFixed(2) : '');
    lines.push([row.case, row.side, row.seconds?.toFixed(2) ?? '', (row.peakBytes / 1e6).toFixed(0), ratio(row.seconds, best?.seconds), ratio(row.peakBytes, best?.peakBytes), row.gradientDifference?.toExponential(1) ?? '']);
  }
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines.map((line) => line.map((cell, i) => cell.padEnd(widths[i]!)).join('  ').trimEnd()).join('\n');
}

const { values } = parseArgs({ options: { cases: { type: 'string' }, repeats: { type: 'string', default: '5' }, out: { type: 'string' }, 'no-peer': { type: 'boolean', default: false } } });
mkdirSync(folder, { recursive: true });
const all = benchCases(root, folder);
const wanted = values.cases?.split(',') ?? ['starter', 'starter-sample', 'growth'];
const chosen = all.filter(({ name }) => wanted.includes(name) || (wanted.includes('growth') && name.includes('-growth-')));
if (chosen.length === 0) throw new Error(`There is no case ${values.cases}; there are ${all.map((each) => each.name).join(', ')}.`);
const python = values['no-peer'] ? null : peerPython();
const rows: Row[] = [];
for (const each of chosen) {
  process.stderr.write(`${each.what} ...\n`);
  if (!ensureModel(each, python)) process.stderr.write(`left out: ${each.config.model} is missing and needs the peer to be made\n`);
  else rows.push(...(await measure(each, python, Number(values.repeats), each.gigabytes * 1e9 > totalmem())));
}
const result = { machine: { cpu: cpus()[0]?.model ?? '', cores: cpus().length, memoryBytes: totalmem() }, repeats: Number(values.repeats), rows };
if (values.out) writeWhole(values.out, `${JSON.stringify(result, null, 1)}\n`);
process.stderr.write(`${table(rows)}\n`);
console.log(JSON.stringify(result));
