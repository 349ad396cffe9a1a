import { describe, expect, it } from 'vitest';
import { drtuneHome } from '../../../src-main/base/paths.ts';

describe('drtuneHome', () => {
  it.each<[NodeJS.Platform, Record<string, string>, string]>([
    ['linux', { DRTUNE_HOME: '/data/drtune', HOME: '/home/a' }, '/data/drtune'],
    ['linux', { HOME: '/home/a' }, '/home/a/.local/share/drtune-studio'],
    ['linux', { HOME: '/home/a', XDG_DATA_HOME: '/home/a/data' }, '/home/a/data/drtune-studio'],
    ['darwin', { HOME: '/Users/a' }, '/Users/a/Library/Application Support/DRTune Studio'],
    ['win32', { APPDATA: '/c/AppData' }, '/c/AppData/DRTune Studio'],
  ])('on %s with %j is %s', (platform, env, expected) => {
    expect(drtuneHome(env, platform)).toBe(expected);
  });
});
