/** What the hardware panel shows: loads between two questions, GPUs as NVIDIA's program tells them. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Hardware, readGpu } from '../../../src-main/app/hardware.ts';
import { ownProcesses } from '../../../src-main/app/own-processes.ts';

/** Keeps one core busy for so many processor seconds of this process, however little of it others leave. */
function work(seconds: number): void {
  const start = process.cpuUsage();
  for (let x = 0; ; x++) if (x % 1e5 === 0 && (process.cpuUsage(start).user + process.cpuUsage(start).system) / 1e6 >= seconds) return;
}

describe('hardware', () => {
  it('knows no load at first, then that of the time between two questions', async () => {
    const hardware = new Hardware('no-such-program');
    const first = await hardware.get();
    expect(first.cpu).toMatchObject({ load: null, appLoad: null });
    expect(first.cpu.cores).toBeGreaterThan(0);
    const begun = performance.now();
    work(0.3);
    const passed = (performance.now() - begun) / 1000;
    const { cpu, gpus } = await hardware.get();
    expect(gpus).toEqual([]);
    expect(cpu.load).toBeGreaterThan(0);
    expect(cpu.load).toBeLessThanOrEqual(1);
    if (ownProcesses() === null) return void expect(cpu.appLoad).toBeNull();
    // Ticks are 10 ms long, and reading /proc takes its time as well.
    expect(cpu.appLoad! * cpu.cores * passed).toBeGreaterThan(0.2);
  });

  it.skipIf(process.platform === 'win32')('reads GPUs from NVIDIA\'s program', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'drtune-smi-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const program = join(folder, 'nvidia-smi');
    writeFileSync(program, '#!/bin/sh\necho "NVIDIA GeForce RTX 4090, 37, 4096, 24576"\necho "Tesla T4, [N/A], 12, 15360"\n');
    chmodSync(program, 0o755);
    expect((await new Hardware(program).get()).gpus).toEqual([
      { name: 'NVIDIA GeForce RTX 4090', load: 0.37, usedBytes: 4096 * 2 ** 20, totalBytes: 24576 * 2 ** 20 },
      { name: 'Tesla T4', load: null, usedBytes: 12 * 2 ** 20, totalBytes: 15360 * 2 ** 20 },
    ]);
  });

  it('takes what is no number for not told', () => {
    expect(readGpu('Orin (nvgpu), [N/A], [Not Supported], ')).toEqual({ name: 'Orin (nvgpu)', load: null, usedBytes: null, totalBytes: null });
  });
});
