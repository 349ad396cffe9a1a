import { defineConfig } from 'vitest/config';

/** One process a file: the compute engine is chosen once per process. Two at a time: each holds the engine's library and uses two cores. */
export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    include: ['test/**/*.spec.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
    expect: { poll: { timeout: 10_000 } }, // a page answers late on a machine that is busy; the usual second is too short for it
  },
});
