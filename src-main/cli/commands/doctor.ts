/** What works on this machine: engines, disk, history. */
import { mkdirSync } from 'node:fs';
import { cpus, freemem, totalmem } from 'node:os';
import { availableBytes } from '../../base/memory.ts';
import { freeBytes } from '../../base/disk.ts';
import { errorLine } from '../../base/errors.ts';
import { appVersion } from '../../app/version.ts';
import { probeEngines } from '../../engine/select.ts';
import { SCHEMA_VERSION } from '../../history/migrations/index.ts';
import { openHistory } from '../../history/database.ts';
import type { Command } from '../command.ts';

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

export const doctor: Command = {
  name: 'doctor',
  usage: 'doctor [--json]',
  what: 'Engines with device and version, usable or why not; disk; history schema.',
  flags: {},
  async run({ args, home, print }) {
    args.allowPositionals(0);
    const engines = await probeEngines(home);
    const used = engines.find((each) => each.usable)?.name ?? null;
    let history: { schema: number; ok: boolean; problem: string | null } = { schema: SCHEMA_VERSION, ok: true, problem: null };
    try {
      openHistory(home).close();
    } catch (error) {
      history = { schema: SCHEMA_VERSION, ok: false, problem: errorLine(error) };
    }
    mkdirSync(home, { recursive: true });
    const disk = { home, freeBytes: freeBytes(home) };
    const memory = { totalBytes: totalmem(), freeBytes: freemem(), availableBytes: availableBytes() };
    const report = { version: appVersion(), node: process.versions.node, platform: `${process.platform}-${process.arch}`, cpus: cpus().length, memory, engine: used, engines, disk, history };
    if (args.json) print(JSON.stringify(report));
    else {
      print(`DRTune Studio ${report.version}, Node ${report.node}, ${report.platform}, ${report.cpus} cores, ${gigabytes(memory.totalBytes)} memory, ${gigabytes(memory.availableBytes)} available`);
      for (const each of engines) {
        print(`${each.usable ? 'usable ' : 'not    '} ${each.name.padEnd(11)} ${[each.version, each.device, each.why].filter(Boolean).join(', ')}`);
      }
      print(`taken by default: ${used ?? 'none'}`);
      print(`data folder ${home}, ${gigabytes(disk.freeBytes)} free`);
      print(history.ok ? `history schema ${history.schema}` : `history: ${history.problem}`);
    }
    return used === null || !history.ok ? 1 : 0;
  },
};
