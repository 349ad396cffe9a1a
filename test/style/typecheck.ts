/** Type checks every room with its own settings; prints what is wrong and exits non-zero. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(import.meta.dirname, '../..');

export const PROJECTS = [
  { name: 'src-main', compiler: 'typescript/bin/tsc', config: 'src-main/tsconfig.json' },
  { name: 'test', compiler: 'typescript/bin/tsc', config: 'test/tsconfig.json' },
  { name: 'src-renderer', compiler: 'vue-tsc/bin/vue-tsc.js', config: 'src-renderer/tsconfig.json' },
] as const;

/** The compiler's complaints about one room, "" where there are none. */
export function typecheck(project: (typeof PROJECTS)[number]): string {
  const result = spawnSync(process.execPath, [join(root, 'node_modules', project.compiler), '-p', project.config, '--noEmit', '--pretty', 'false'], { cwd: root, encoding: 'utf8' });
  return result.status === 0 ? '' : result.stdout + result.stderr;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const complaints = PROJECTS.map(typecheck).join('');
  process.stdout.write(complaints);
  process.exit(complaints === '' ? 0 : 1);
}
