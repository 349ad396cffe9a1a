/** What works on this machine: engines, disk, history. */
import { cpus, freemem, totalmem } from 'node:os';
import { availableBytes } from '../../base/memory.ts';
import { freeBytes } from '../../base/disk.ts';
import { errorLine } from '../../base/errors.ts';
import { appVersion } from '../../app/version.ts';
import { probeEngines } from '../../engine/select.ts';
import { SCHEMA_VERSION } from '../../history/migrations/index.ts';
import { openHistory, type History } from '../../history/database.ts';
import { configOf, Runs } from '../../history/runs.ts';
import { Steps } from '../../history/steps.ts';
import type { Command } from '../command.ts';

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** What the newest run with steps has shown of this machine. */
interface Measured {
  readonly run: string;
  readonly name: string;
  readonly running: boolean;
  readonly model: string;
  readonly engine: string;
  readonly device: string;
  readonly imagesPerMinute: number;
  /** Of the trainer at its newest step, and at most. */
  readonly memoryBytes: number;
  readonly peakMemoryBytes: number;
}

function newestMeasured({ db }: History): Measured | null {
  const [runs, steps] = [new Runs(db), new Steps(db)];
  for (const { id } of runs.list()) {
    const row = runs.get(id);
    const ms = steps.medianMs(id);
    if (ms === null || row.engine === null) continue;
    const { batch, accumulate } = configOf(row);
    return {
      run: id, name: row.name, running: row.state === 'running', model: row.model, engine: row.engine, device: row.device ?? '', imagesPerMinute: (60_000 * batch * accumulate) / ms,
      memoryBytes: steps.list(id).at(-1)?.memoryBytes ?? 0, peakMemoryBytes: steps.peakMemory(id) ?? 0,
    };
  }
  return null;
}

function measuredLine({ name, running, model, engine, device, imagesPerMinute, memoryBytes, peakMemoryBytes }: Measured): string {
  return `${running ? 'at work' : 'newest run'}: "${name}", ${model} on ${[engine, device].filter(Boolean).join(', ')}: ${imagesPerMinute.toPrecision(3)} images a minute, `
    + `memory ${gigabytes(memoryBytes)} ${running ? 'now' : 'at the end'}, ${gigabytes(peakMemoryBytes)} at its peak`;
}

export const doctor: Command = {
  name: 'doctor',
  usage: 'doctor [--json]',
  what: 'Engines with device and version, usable or why not; speed and memory of the newest run; disk; history schema.',
  flags: {},
  async run({ args, home, print }) {
    args.allowPositionals(0);
    const engines = await probeEngines(home);
    const used = engines.find((each) => each.usable)?.name ?? null;
    let history: { schema: number; ok: boolean; problem: string | null } = { schema: SCHEMA_VERSION, ok: true, problem: null };
    let measured: Measured | null = null;
    try {
      const opened = openHistory(home);
      measured = newestMeasured(opened);
      opened.close();
    } catch (error) {
      history = { schema: SCHEMA_VERSION, ok: false, problem: errorLine(error) };
    }
    const disk = { home, freeBytes: freeBytes(home) };
    const memory = { totalBytes: totalmem(), freeBytes: freemem(), availableBytes: availableBytes() };
    const report = { version: appVersion(), node: process.versions.node, platform: `${process.platform}-${process.arch}`, cpus: cpus().length, memory, engine: used, engines, measured, disk, history };
    if (args.json) print(JSON.stringify(report));
    else {
      print(`DRTune Studio ${report.version}, Node ${report.node}, ${report.platform}, ${report.cpus} cores, ${gigabytes(memory.totalBytes)} memory, ${gigabytes(memory.availableBytes)} available`);
      for (const each of engines) {
        print(`${each.usable ? 'usable ' : 'not    '} ${each.name.padEnd(11)} ${[each.version, each.device, each.why].filter(Boolean).join(', ')}`);
      }
      print(`taken by default: ${used ?? 'none'}`);
      if (measured) print(measuredLine(measured));
      print(`data folder ${home}, ${gigabytes(disk.freeBytes)} free`);
      print(history.ok ? `history schema ${history.schema}` : `history: ${history.problem}`);
    }
    return used === null || !history.ok ? 1 : 0;
  },
};
