import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { unchangedPages } from '../../../src-main/engine/engines/tensorflow/lean.ts';

const mapping = (head: string, anonymous: number): string => `${head}\nSize:   4 kB\nRss:   4 kB\nAnonymous:   ${anonymous} kB\nAnonHugePages:   0 kB\nVmFlags: rd mr\n`;

describe('pages that a library can be read into again', () => {
  it('are the private mappings of files that nobody can or did write', () => {
    const smaps = [
      mapping('7f0000000000-7f0000001000 r--p 00000000 fe:00 12   /opt/a b/libtensorflow_cc.so.2', 0),
      mapping('7f0000001000-7f0000003000 r-xp 00001000 fe:00 12   /opt/a b/libtensorflow_cc.so.2', 0),
      mapping('7f0000003000-7f0000004000 r--p 00003000 fe:00 12   /opt/a b/libtensorflow_cc.so.2', 8), // relocated
      mapping('7f0000004000-7f0000005000 rw-p 00004000 fe:00 12   /opt/a b/libtensorflow_cc.so.2', 0),
      mapping('7f0000005000-7f0000006000 r--s 00000000 fe:00 13   /opt/shared.bin', 0),
      mapping('7f0000006000-7f0000007000 r--p 00000000 00:00 0 ', 0),
      mapping('7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0    [vdso]', 0),
    ].join('');
    expect(unchangedPages(smaps)).toEqual([{ start: 0x7f0000000000n, end: 0x7f0000001000n }, { start: 0x7f0000001000n, end: 0x7f0000003000n }]);
  });

  it.skipIf(process.platform !== 'linux')('are found in this process', () => {
    expect(unchangedPages(readFileSync('/proc/self/smaps', 'utf8')).length).toBeGreaterThan(3);
  });
});
