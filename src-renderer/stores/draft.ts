/** The run being prepared on "New run". Kept in localStorage at every change: leaving the page loses nothing. */
import { defineStore } from 'pinia';
import { computed, ref, watch } from 'vue';
import { runConfigSchema, type RunConfig } from '#contract/run.ts';
import { expandPrompts, PromptError } from '#contract/prompts.ts';
import { api } from '../api/client.ts';
import { fromMain, t } from '../i18n.ts';
import { lines, setEffort as withEffort, type Effort, effortOf } from './effort.ts';

/** Each machine has a draft of its own: it names that machine's models. */
const key = (): string => `drtune.draft.1${api.server() === null ? '' : `.${api.server()}`}`;
/** Text of the prompts is kept as typed; empty lines and all. */
export interface Draft { name: string; from: string | null; promptText: string; heldOutText: string; config: Omit<RunConfig, 'prompts' | 'heldOutPrompts'> }

const FIRST: RunConfig = runConfigSchema.parse({ prompts: ['a photo'], rewards: [{ name: 'symmetry', weight: 1 }] });

export function draftOf(config: RunConfig, name = '', from: string | null = null): Draft {
  const { prompts, heldOutPrompts, ...rest } = config;
  const text = (list: string | readonly string[]) => (typeof list === 'string' ? FILE + list : list.join('\n'));
  return { name, from, promptText: text(prompts), heldOutText: text(heldOutPrompts), config: JSON.parse(JSON.stringify(rest)) as typeof rest };
}

/** A lone line that starts so names a file of prompts, as configs written by hand may. */
const FILE = 'file:';
function promptsOf(text: string): string | string[] {
  const [only, ...more] = lines(text);
  return only?.startsWith(FILE) && more.length === 0 ? only.slice(FILE.length).trim() : lines(text);
}

/** The config as it would be sent; unchecked. */
export function configOf(draft: Draft): unknown {
  return JSON.parse(JSON.stringify({ ...draft.config, prompts: promptsOf(draft.promptText), heldOutPrompts: promptsOf(draft.heldOutText) }));
}

/** Messages by dotted path ("optimizer.lr"), in words. */
export function issuesOf(draft: Draft): Record<string, string> {
  const result = runConfigSchema.safeParse(configOf(draft));
  const issues: Record<string, string> = {};
  if (!result.success) {
    for (const issue of result.error.issues) {
      const path = issue.path.filter((part) => typeof part !== 'number').join('.') || 'config';
      issues[path] ??= path === 'prompts' ? t('newRun.noPrompt') : path === 'rewards' ? t('newRun.noReward') : fromMain(issue.message);
    }
  }
  const { config } = draft;
  if (config.trainedSteps > config.steps) issues['trainedSteps'] ??= t('newRun.onlySteps', { steps: config.steps });
  if (config.earlyStop > config.steps - 1) issues['earlyStop'] ??= t('newRun.belowSteps', { steps: config.steps });
  if (config.algorithm === 'refl' && (config.earlyStopStep ?? config.earlyStop) < 1) issues['earlyStop'] ??= t('newRun.reflStop');
  if (!['drtune', 'refl'].includes(config.algorithm) && config.earlyStop > 0) issues['earlyStop'] ??= t('newRun.toTheEnd', { algorithm: config.algorithm });
  for (const [key, text] of [['prompts', draft.promptText], ['heldOutPrompts', draft.heldOutText]] as const) {
    const problem = templateProblem(text, config.seed);
    if (problem) issues[key] ??= problem;
  }
  const held = new Set(lines(draft.heldOutText));
  const both = lines(draft.promptText).find((prompt) => held.has(prompt));
  if (both) issues['heldOutPrompts'] ??= t('newRun.both', { prompt: both });
  return issues;
}

function templateProblem(text: string, seed: number): string | null {
  try {
    expandPrompts(lines(text).map((prompt) => ({ prompt })), seed);
    return null;
  } catch (error) {
    if (error instanceof PromptError) return fromMain(`${error.message} ${error.hint}`);
    throw error;
  }
}

/** The prompts that lines stand for, their choices made; the lines themselves where a brace has no partner. */
export function expandedLines(text: string, seed: number): string[] {
  const entries = lines(text).map((prompt) => ({ prompt }));
  return templateProblem(text, seed) === null ? expandPrompts(entries, seed).map((each) => each.prompt) : entries.map((each) => each.prompt);
}

export const useDraftStore = defineStore('draft', () => {
  const kept = key();
  const draft = ref<Draft>(read() ?? draftOf({ ...FIRST, prompts: [] }));
  const untouched = ref(read() === null);
  /** What is not filled in yet is no mistake. */
  const issues = computed(() => (untouched.value ? {} : issuesOf(draft.value)));
  const config = computed<RunConfig | null>(() => {
    const result = runConfigSchema.safeParse(configOf(draft.value));
    return result.success ? result.data : null;
  });
  const prompts = computed(() => expandedLines(draft.value.promptText, draft.value.config.seed));
  const heldOut = computed(() => expandedLines(draft.value.heldOutText, draft.value.config.seed));
  const effort = computed<Effort | null>(() => effortOf(draft.value.config));

  watch(draft, (value) => {
    untouched.value = false;
    localStorage.setItem(kept, JSON.stringify(value));
  }, { deep: true, flush: 'sync' });

  function take(value: RunConfig, name = '', from: string | null = null): void {
    draft.value = draftOf(value, name, from);
  }
  function setEffort(level: Effort): void {
    draft.value.config = withEffort(draft.value.config, level);
  }
  function forget(): void {
    localStorage.removeItem(kept);
    untouched.value = true;
  }
  return { draft, untouched, issues, config, prompts, heldOut, effort, take, setEffort, forget };
});

function read(): Draft | null {
  try {
    const text = localStorage.getItem(key());
    if (text === null) return null;
    const draft = JSON.parse(text) as Draft;
    // Settings a newer version added get their defaults; what no longer fits is given up.
    const { name, from, promptText, heldOutText } = draft;
    const { prompts: _, heldOutPrompts: __, ...config } = runConfigSchema.parse({ ...draft.config, prompts: ['x'] });
    return { name, from, promptText, heldOutText, config };
  } catch {
    return null;
  }
}
