import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src-main/base/errors.ts';
import { REQUESTS, type Handlers } from '../../../src-main/contract/api.ts';
import { createDispatcher } from '../../../src-main/ipc/dispatcher.ts';
import { config } from '../../helpers/temp-home.ts';

/** Handlers that answer with what they got. */
const echo = Object.fromEntries(Object.keys(REQUESTS).map((name) => [name, async (input: unknown) => input])) as unknown as Handlers;

describe('the dispatcher', () => {
  it('answers any JSON with a reply: a value for right input, a typed error for the rest', async () => {
    const dispatch = createDispatcher(echo);
    const names = fc.oneof(fc.constantFrom(...Object.keys(REQUESTS)), fc.string(), fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty'), fc.jsonValue());
    await fc.assert(fc.asyncProperty(names, fc.jsonValue(), async (name, input) => {
      const reply = await dispatch(name, input);
      if (reply.ok) expect(Object.hasOwn(REQUESTS, name as string)).toBe(true);
      else {
        expect(['config', 'not-found']).toContain(reply.error.code);
        expect(reply.error.message.length).toBeGreaterThan(5);
      }
    }), { numRuns: 2000 });
  });

  it('answers a name that is no text, even one that cannot be written as text', async () => {
    for (const name of [{ toString: 1 }, null, 5, ['runs.list'], Object.create(null)]) expect(await createDispatcher(echo)(name, {})).toMatchObject({ ok: false, error: { code: 'not-found' } });
  });

  it('answers damaged configs with the key that is wrong', async () => {
    const dispatch = createDispatcher(echo);
    const keys = Object.keys(config());
    await fc.assert(fc.asyncProperty(fc.constantFrom(...keys), fc.jsonValue(), async (key, value) => {
      const reply = await dispatch('runs.start', { config: { ...config(), [key]: value } });
      if (!reply.ok) expect(reply.error).toMatchObject({ code: 'config', message: expect.stringContaining(key) });
    }), { numRuns: 500 });
  });

  it('names the nearest key for a misspelt one', async () => {
    const reply = await createDispatcher(echo)('runs.start', { config: { ...config(), itterations: 3 } });
    expect(reply).toMatchObject({ ok: false, error: { code: 'config' } });
    expect(JSON.stringify(reply)).toContain('itterations');
  });

  it('fills in defaults before the handler sees the input', async () => {
    expect(await createDispatcher(echo)('runs.list', {})).toEqual({ ok: true, value: { search: '', deleted: false, limit: 500 } });
    expect(await createDispatcher(echo)('settings.set', { theme: 'dark' })).toEqual({ ok: true, value: { theme: 'dark' } });
  });

  it('maps errors to codes and tells only defects to the log', async () => {
    const defects: string[] = [];
    const throwing = (error: unknown) => createDispatcher({ ...echo, 'system.get': () => Promise.reject(error) }, (name) => defects.push(name));
    expect(await throwing(new AppError('busy', 'Busy.', { hint: 'Wait.' }))('system.get', {})).toEqual({ ok: false, error: { code: 'busy', message: 'Busy.', hint: 'Wait.' } });
    expect(defects).toEqual([]);
    expect(await throwing(Object.assign(new Error('full'), { code: 'SQLITE_FULL' }))('system.get', {})).toMatchObject({ error: { code: 'disk' } });
    expect(await throwing(new TypeError('ours'))('system.get', {})).toEqual({ ok: false, error: { code: 'internal', message: 'ours' } });
    expect(await throwing('a string')('system.get', null)).toMatchObject({ error: { code: 'internal' } });
    expect(defects).toEqual(['system.get', 'system.get', 'system.get']);
  });
});
