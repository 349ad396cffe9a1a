/** Names the process that works on a run, so that a later one can tell a live run from one whose process was killed. */
import { readFileSync } from 'node:fs';

/** "pid:start time"; the start time tells a reused pid apart where the system offers it (Linux), else it is "?". */
export function thisOwner(): string {
  return `${process.pid}:${startTime(process.pid) ?? '?'}`;
}

export function ownerAlive(owner: string): boolean {
  const [pidText, started] = owner.split(':');
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const now = startTime(pid);
  return now === null || started === '?' || now === started;
}

/** Field 22 of /proc/PID/stat: clock ticks after boot; null where there is no /proc. */
function startTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
