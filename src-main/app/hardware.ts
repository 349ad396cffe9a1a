/** What the machine is doing. Nothing is measured until somebody looks; loads are those since the question before. */
import { execFile } from 'node:child_process';
import { cpus } from 'node:os';
import { promisify } from 'node:util';
import type { HardwareInfo } from '../contract/hardware.ts';
import { ownProcesses } from './own-processes.ts';

const run = promisify(execFile);
const QUERY = ['--query-gpu=name,utilization.gpu,memory.used,memory.total', '--format=csv,noheader,nounits'];
const MEBI = 2 ** 20;

export class Hardware {
  private before: { at: number; busy: number; all: number; own: number | null } | null = null;
  private nvidia = true;
  /** For tests: the program that knows NVIDIA's GPUs. */
  private readonly program: string;

  constructor(program = 'nvidia-smi') {
    this.program = program;
  }

  async get(): Promise<Pick<HardwareInfo, 'cpu' | 'gpus'>> {
    return { cpu: this.cpu(), gpus: await this.gpus() };
  }

  private cpu(): HardwareInfo['cpu'] {
    const cores = cpus();
    const [busy, all] = cores.reduce(([b, a], { times }) => {
      const total = times.user + times.nice + times.sys + times.irq + times.idle;
      return [b + total - times.idle, a + total];
    }, [0, 0] as [number, number]);
    const now = { at: performance.now(), busy, all, own: ownProcesses()?.cpuSeconds ?? null };
    const { before } = this;
    this.before = now;
    const share = (part: number, whole: number): number | null => (whole > 0 ? Math.min(1, Math.max(0, part / whole)) : null);
    return {
      model: cores[0]?.model.trim() ?? '', cores: cores.length,
      load: before && share(now.busy - before.busy, now.all - before.all),
      appLoad: before && before.own !== null && now.own !== null ? share(1000 * (now.own - before.own), (now.at - before.at) * cores.length) : null,
    };
  }

  /** NVIDIA's own program knows load and memory; without it the engine's device is all that is known. */
  private async gpus(): Promise<HardwareInfo['gpus']> {
    if (!this.nvidia) return [];
    try {
      const { stdout } = await run(this.program, QUERY, { timeout: 2000, windowsHide: true });
      return stdout.trim().split('\n').filter(Boolean).map(readGpu);
    } catch {
      this.nvidia = false;
      return [];
    }
  }
}

/** One line of nvidia-smi: "NAME, 37, 4096, 24576", "[N/A]" for what a GPU does not tell. */
export function readGpu(line: string): HardwareInfo['gpus'][number] {
  const [name = '', ...rest] = line.split(',').map((part) => part.trim());
  const known = (at: number, times: number): number | null => (/^\d+(\.\d+)?$/.test(rest[at] ?? '') ? Number(rest[at]) * times : null);
  return { name, load: known(0, 0.01), usedBytes: known(1, MEBI), totalBytes: known(2, MEBI) };
}
