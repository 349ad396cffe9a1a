/** Memory that starting takes and nothing needs afterwards. */
import { readFileSync } from 'node:fs';
import type { LibraryHandle as Library } from 'koffi';

/**
 * Gives back the pages of libraries that were only read while these were loaded and registered their kernels (300 MB), or while a
 * function was recorded and prepared (50 MB); what is needed again, the system maps again. Only pages that are the file's own: those with relocations in them stay. Linux only.
 */
export function giveBackLoadedPages(c: Library): void {
  if (process.platform !== 'linux') return;
  const dontNeed = 4; // MADV_DONTNEED
  const madvise = c.func('madvise', 'int', ['uint64_t', 'size_t', 'int']);
  for (const { start, end } of unchangedPages(mappings())) madvise(start, end - start, dontNeed);
}

/** The private mappings of files that cannot be written and hold nothing but the file, in the text of /proc/self/smaps. */
export function unchangedPages(smaps: string): { start: bigint; end: bigint }[] {
  return smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).flatMap((mapping) => {
    const head = /^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ \d+ +\//.exec(mapping);
    return head && /^Anonymous: +0 kB$/m.test(mapping) ? [{ start: BigInt(`0x${head[1]}`), end: BigInt(`0x${head[2]}`) }] : [];
  });
}

/** Nothing where /proc is hidden from this process. */
function mappings(): string {
  try {
    return readFileSync('/proc/self/smaps', 'utf8');
  } catch {
    return '';
  }
}
