/** The pages' small pure rules: draft, effort, settings, lists, sides, votes, words. */
import { describe, expect, it } from 'vitest';
import { about, bytes, change, duration, value, when } from '../../../src-renderer/format.ts';
import * as mock from '../../../src-renderer/dev/mock-data.ts';
import { configOf, draftOf, issuesOf } from '../../../src-renderer/stores/draft.ts';
import { effortOf, lines, setAside, setEffort } from '../../../src-renderer/stores/effort.ts';
import { arrange, emptyQuery, isFiltered, runsCsv } from '../../../src-renderer/stores/run-list.ts';
import { axisOf, flatSettings, heldOutCurve, samplePoints, smooth, subjects, tunedAt, baseOf, memoryOf, picturesPerMinute, settingWords } from '../../../src-renderer/stores/run-view.ts';
import { fieldText, getAt, isDefault, parseField, setAt, SETTING_FIELDS, withSetting } from '../../../src-renderer/stores/setting-fields.ts';
import { canPaint, imageOf, nearestImage, readSide, stepsOf, writeSide } from '../../../src-renderer/stores/sides.ts';
import { cutAt, tokenWords } from '../../../src-renderer/stores/token-notes.ts';
import { runConfigSchema } from '../../../src-main/contract/run.ts';

describe('what a run takes', () => {
  const detail = mock.detail('r1', 'a run', 'running', { step: 12, config: mock.config({ batch: 4, accumulate: 2 }) });
  const steps = detail.steps.map((row, i) => ({ ...row, stepMs: i < 4 ? 60_000 : 2000, memoryBytes: i === 5 ? 3e9 : 1e9 + i }));
  it('is pictures a minute, by the newest steps, and the memory of the trainer, now and at most', () => {
    expect(picturesPerMinute({ ...detail, steps })).toBe(240);
    expect(memoryOf(steps)).toEqual({ now: steps.at(-1)!.memoryBytes, peak: 3e9 });
  });
  it('is not known before the first step', () => {
    expect([picturesPerMinute({ ...detail, steps: [] }), memoryOf([])]).toEqual([null, null]);
  });
});

describe('token notes', () => {
  const note = (prompt: string, cut: string, more = {}) => ({ prompt, cut, tokens: 81, limit: 77, chunks: 1, ...more });
  it('say how long a prompt is, and in how many chunks it is read', () => {
    expect(tokenWords(note('', 'a'))).toBe('81/77 tokens');
    expect(tokenWords(note('', '', { chunks: 2 }))).toBe('81 tokens, 2 chunks');
  });
  it('find the end that is cut, though the tokenizer spells it anew', () => {
    const cut = (prompt: string, end: string) => prompt.slice(cutAt(note(prompt, end)));
    expect(cut('a Boat on the Sea', 'on the sea')).toBe('on the Sea');
    expect(cut("a boat,don't  sink!", "don 't sink !")).toBe("don't  sink!");
    expect(cut('a boat', 'something else')).toBe('');
    expect(cut('a boat', '')).toBe('');
  });
});

describe('draft', () => {
  it('gives back the config it was made from', () => {
    const config = mock.config();
    expect(runConfigSchema.parse(configOf(draftOf(config)))).toEqual(config);
  });
  it('keeps a file of prompts a file', () => {
    const config = mock.config({ prompts: '/data/prompts.txt' });
    expect(draftOf(config).promptText).toBe('file:/data/prompts.txt');
    expect(runConfigSchema.parse(configOf(draftOf(config)))).toEqual(config);
  });
  it('says what is missing, by setting', () => {
    const draft = draftOf(mock.config());
    draft.promptText = '\n  \n';
    draft.config.rewards = [];
    draft.config.optimizer.lr = -1;
    const issues = issuesOf(draft);
    expect(issues['prompts']).toMatch(/at least one prompt/);
    expect(issues['rewards']).toMatch(/at least one reward/);
    expect(issues['optimizer.lr']).toBeTruthy();
  });
  it('refuses a held-out prompt that is trained too, and more trained steps than there are', () => {
    const draft = draftOf(mock.config({ prompts: ['a', 'b'], heldOutPrompts: ['b'] }));
    draft.config.trainedSteps = 99;
    expect(issuesOf(draft)['heldOutPrompts']).toMatch(/"b"/);
    expect(issuesOf(draft)['trainedSteps']).toMatch(/only 20/);
  });
});

describe('effort', () => {
  it('recognises its own settings, and nothing else', () => {
    const good = setEffort(mock.config(), 'good');
    expect(effortOf(good)).toBe('good');
    expect(effortOf({ ...good, batch: good.batch + 1 })).toBeNull();
  });
  it('never leaves an early stop beyond the sampling steps', () => {
    expect(setEffort(mock.config({ earlyStop: 18 }), 'quick').earlyStop).toBeLessThan(12);
  });
  it('sets one prompt in five aside and loses none', () => {
    const prompts = Array.from({ length: 11 }, (_, index) => `p${index}`);
    const { prompts: rest, heldOut } = setAside(prompts);
    expect(heldOut).toEqual(['p4', 'p9']);
    expect([...rest, ...heldOut].sort()).toEqual([...prompts].sort());
    expect(setAside(['a', 'b']).heldOut).toEqual(['b']);
    expect(setAside(['a'])).toEqual({ prompts: ['a'], heldOut: [] });
  });
  it('counts no blank lines', () => expect(lines(' a \n\n b\n')).toEqual(['a', 'b']));
});

describe('settings', () => {
  it('knows every setting of the schema that the other blocks do not own', () => {
    const owned = ['model', 'prompts', 'heldOutPrompts', 'rewards', 'heldOutRewards', 'normalize', 'sampleSeeds'];
    const nested = { lora: ['method', 'rank', 'alpha', 'rankStabilized', 'factor', 'rankDropout', 'textEncoder', 'targets', 'initFile'], optimizer: ['kind', 'lr', 'weightDecay', 'betas', 'eps', 'clipNorm'], lrSchedule: ['kind', 'warmup'], augment: ['crop'] };
    const wanted = Object.keys(runConfigSchema.shape).filter((key) => !owned.includes(key)).flatMap((key) => nested[key as keyof typeof nested]?.map((inner) => `${key}.${inner}`) ?? [key]);
    expect(SETTING_FIELDS.map((field) => field.path).sort()).toEqual(wanted.sort());
  });
  it('reads what it writes', () => {
    const config = mock.config();
    for (const field of SETTING_FIELDS) expect(parseField(field, fieldText(getAt(config, field.path))) ?? undefined).toEqual(getAt(config, field.path));
  });
  it('reads sizes and ranges as they are typed', () => {
    const field = (path: string) => SETTING_FIELDS.find((one) => one.path === path)!;
    expect(parseField(field('sizes'), '512x768, 768 × 512')).toEqual([[512, 768], [768, 512]]);
    expect(fieldText([[512, 768], [768, 512]])).toBe('512x768, 768x512');
    expect(parseField(field('sizes'), ' ')).toBeUndefined();
    expect(parseField(field('guidanceRange'), '2, 8')).toEqual([2, 8]);
  });
  it('says something of every algorithm and optimiser', () => {
    for (const field of SETTING_FIELDS.filter((one) => one.says)) expect(Object.keys(field.says!)).toEqual([...field.options!]);
  });
  it('brings along what an algorithm or optimiser needs', () => {
    const config = mock.config({ earlyStop: 8, steps: 20 });
    expect(withSetting(config, 'algorithm', 'draft-k')).toMatchObject({ algorithm: 'draft-k', earlyStop: 0 });
    expect(withSetting(config, 'algorithm', 'refl').earlyStop).toBe(8);
    expect(withSetting(mock.config({ earlyStop: 0, steps: 20 }), 'algorithm', 'refl').earlyStop).toBe(5);
    const prodigy = withSetting(config, 'optimizer.kind', 'prodigy');
    expect(prodigy.optimizer).toMatchObject({ kind: 'prodigy', lr: 1 });
    expect(withSetting(prodigy, 'optimizer.kind', 'adamw').optimizer.lr).toBe(1e-4);
  });
  it('sets deep values without changing the original, and takes undefined out', () => {
    const config = mock.config();
    const next = setAt(config, 'lora.rank', 4);
    expect(next.lora.rank).toBe(4);
    expect(config.lora.rank).toBe(16);
    expect(isDefault(next, 'lora.rank')).toBe(false);
    expect('width' in setAt({ width: 8 }, 'width', undefined)).toBe(false);
  });
});

describe('lists', () => {
  const runs = [mock.detail('a', 'Red apple', 'finished', { ago: 10 }).summary, mock.detail('b', 'Blue sky', 'failed', { step: 20, ago: 5 }).summary];
  it('searches names, rewards and states by all words, and filters by state', () => {
    expect(arrange(runs, { ...emptyQuery(), search: 'apple symmetry' }).map((run) => run.id)).toEqual(['a']);
    expect(arrange(runs, { ...emptyQuery(), states: ['failed'] }).map((run) => run.id)).toEqual(['b']);
    expect(arrange(runs, { ...emptyQuery(), search: 'nowhere' })).toEqual([]);
  });
  it('knows whether anything is filtered, and writes runs as CSV that no spreadsheet runs', () => {
    expect(isFiltered({ ...emptyQuery(), sort: 'name' })).toBe(false);
    expect(isFiltered({ ...emptyQuery(true), tags: ['x'] })).toBe(true);
    const csv = runsCsv([{ ...runs[0]!, name: '=1+1, "quoted"', tags: ['good'], note: 'two\nlines' }]).split('\r\n');
    expect(csv[0]!.split(',').slice(0, 3)).toEqual(['id', 'name', 'state']);
    expect(csv[1]).toContain(`a,"'=1+1, ""quoted""",finished`);
    expect(csv[1]).toContain('"two\nlines"');
  });
  it('sorts by what was gained', () => expect(arrange(runs, { ...emptyQuery(), sort: 'gain' }).map((run) => run.id)).toEqual(['a', 'b']));
});

describe('pictures of a run', () => {
  const detail = mock.detail('r', 'Run', 'finished');
  const [first] = subjects(detail.images);
  it('never shows a tuned picture as base', () => {
    for (const subject of subjects(detail.images)) {
      expect(baseOf(detail.images, subject.key)?.weights).toBe('base');
      expect(tunedAt(detail.images, subject.key, 60)?.weights).not.toBe('base');
    }
  });
  it('finds the newest picture at or before a step, or exactly that one', () => {
    expect(tunedAt(detail.images, first!.key, 25)?.step).toBe(20);
    expect(tunedAt(detail.images, first!.key, 25, true)).toBeNull();
    expect(samplePoints(detail.images)).toEqual([0, 10, 20, 30, 40, 50, 60]);
  });
  it('puts all lines on one axis', () => {
    const axis = axisOf(detail);
    const held = axis.at(heldOutCurve(detail));
    expect(held).toHaveLength(axis.x.length);
    expect(held.filter((one) => one !== null)).toHaveLength(7);
  });
  it('writes a side and reads it back', () => {
    expect(readSide(writeSide({ run: 'r@1', step: 'base', strength: 1 }))).toEqual({ run: 'r@1', step: 'base', strength: 1 });
    expect(readSide(writeSide({ run: 'r', step: 20, strength: 1 }))).toEqual({ run: 'r', step: 20, strength: 1 });
    expect(readSide(writeSide({ run: 'r', step: 20, strength: 0.75 }))).toEqual({ run: 'r', step: 20, strength: 0.75 });
    for (const strength of [1, 0.5]) expect(readSide(writeSide({ run: 'r', step: 20, strength, loraFrom: 6 }))).toEqual({ run: 'r', step: 20, strength, loraFrom: 6 });
    expect(readSide('nonsense')).toBeNull();
    expect(stepsOf(detail)).toEqual([10, 20, 30, 40, 50, 60]);
    expect(imageOf(detail, { run: 'r', step: 'base', strength: 1 }, first!.key)?.role).toBe('base');
  });
  it('never takes a picture of another strength for a step, and shows the nearest one while it waits', () => {
    const key = first!.key;
    const at = (step: number, strength: number) => ({ run: 'r', step, strength });
    const half = { ...imageOf(detail, at(20, 1), key)!, id: 9001, strength: 0.5 };
    const more = { ...detail, images: [...detail.images, half] };
    expect(imageOf(more, at(20, 1), key)).toEqual(imageOf(detail, at(20, 1), key));
    expect(imageOf(more, at(20, 0.5), key)?.id).toBe(9001);
    expect(imageOf(more, at(20, 0.25), key)).toBeNull();
    expect(nearestImage(more, at(20, 0.25), key)?.id).toBe(9001);
    expect(nearestImage(more, at(23, 1), key)?.step).toBe(20);
    expect(imageOf(more, at(20, 0), key)?.role).toBe('base');
    const late = { ...half, id: 9002, strength: 1, loraFrom: 6 };
    expect(imageOf({ ...detail, images: [...detail.images, late] }, at(20, 1), key)?.id).not.toBe(9002);
    expect(imageOf({ ...detail, images: [...detail.images, late] }, { ...at(20, 1), loraFrom: 6 }, key)?.id).toBe(9002);
    expect(samplePoints([half, late])).toEqual([]);
    expect(canPaint(detail, at(20, 1.5))).toBe(true);
    expect(canPaint(detail, at(30, 1))).toBe(false);
  });
  it('smooths without leaning to zero at the start, and leaves gaps open', () => {
    expect(smooth([5, 5, null, 5]).map((one) => one && Number(one.toFixed(9)))).toEqual([5, 5, null, 5]);
    const [, second] = smooth([0, 1], 3);
    expect(second).toBeCloseTo(2 / 3);
  });
  it('flattens a config for the table', () => {
    const title = (name: string): string => name.toUpperCase();
    expect(settingWords('[{"name":"symmetry","weight":1},{"name":"clipscore","weight":2,"target":0.95}]', title)).toBe('SYMMETRY, 1\nCLIPSCORE, 2, target 0.95');
    expect(['[]', '', '0.003', '[1,2]', '["a cat","a dog"]', '[[512,512]]', '{"kind"'].map((value) => settingWords(value, title))).toEqual(['–', '–', '0.003', '1, 2', 'a cat\na dog', '512, 512', '{"kind"']);
    expect(flatSettings({ a: { b: 1 }, c: [{ d: 2 }], e: [1, 2] })).toEqual([{ key: 'a.b', value: '1' }, { key: 'c', value: '[{"d":2}]' }, { key: 'e', value: '[1,2]' }]);
  });
});

describe('words for numbers', () => {
  it('writes values', () => {
    expect(value(-0.1094)).toBe('−0.109');
    expect(value(0.00001)).toBe('1.0e−5');
    expect(value(1234.5)).toBe('1234.5');
    expect(value(null)).toBe('–');
    expect(change(0.2)).toBe('+0.200');
  });
  it('writes sizes and times', () => {
    expect(bytes(999)).toBe('999 B');
    expect(bytes(999_999)).toBe('1.0 MB');
    expect(duration(3725)).toBe('1 h 02 min');
    expect(duration(61)).toBe('1 min 01 s');
    expect(about(170)).toBe('about 3 minutes');
    expect(when(0, 30_000)).toBe('just now');
  });
});
