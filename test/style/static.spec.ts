/** Types and lint of the whole tree. */
import { ESLint } from 'eslint';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROJECTS, typecheck } from './typecheck.ts';

const root = join(import.meta.dirname, '../..');

describe('static checks', () => {
  it.each(PROJECTS)('types of $name are right', (project) => {
    expect(typecheck(project)).toBe('');
  }, 300_000);

  it('lint finds nothing', async () => {
    const eslint = new ESLint({ cwd: root });
    const results = await eslint.lintFiles(['src-main', 'src-renderer', 'test', '*.ts', '*.js']);
    expect(results.length).toBeGreaterThan(50);
    const found = results.flatMap((file) => file.messages.map((each) => `${file.filePath}:${each.line} ${each.ruleId}: ${each.message}`));
    expect(found).toEqual([]);
  }, 300_000);
});
