/** This process and its children, as Linux counts them. */
import { readdirSync, readFileSync } from 'node:fs';

/** Ticks a second in /proc, on every Linux that Node runs on. */
const TICKS = 100;

/** Resident bytes and processor seconds so far; null where there is no /proc. */
export function ownProcesses(): { bytes: number; cpuSeconds: number } | null {
  const parents = new Map<number, { parent: number; bytes: number }>();
  try {
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      try {
        const status = readFileSync(`/proc/${name}/status`, 'utf8');
        const field = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
        parents.set(Number(name), { parent: field('PPid'), bytes: field('VmRSS') * 1024 });
      } catch {
        // gone meanwhile
      }
    }
  } catch {
    return null;
  }
  let bytes = 0;
  let cpuSeconds = 0;
  for (const [pid, { bytes: own }] of parents) {
    for (let at: number | undefined = pid; at; at = parents.get(at)?.parent) {
      if (at !== process.pid) continue;
      bytes += own;
      cpuSeconds += cpuSecondsOf(pid);
      break;
    }
  }
  return { bytes, cpuSeconds };
}

/** In user and kernel mode, of ended children that were waited for as well. */
function cpuSecondsOf(pid: number): number {
  try {
    // The name in brackets may hold blanks: fields are counted from behind it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
    return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS;
  } catch {
    return 0;
  }
}
