/** What a trainer event does to the run on screen. Pure: no clock, no transport. */
import type { EventPayload, RunDetail, RunSummary } from '#contract/api.ts';
import { planLine } from '#contract/memory.ts';
import { appliesTo, termKeys, type RunConfig } from '#contract/run.ts';

type RunEvent = EventPayload<'run.event'>;

/** The detail after the event; the same object where the event is old or of another run. */
export function applyRunEvent(detail: RunDetail, payload: RunEvent): RunDetail {
  if (payload.runId !== detail.summary.id || payload.seq <= detail.lastSeq) return detail;
  const { event } = payload;
  const next: RunDetail = { ...detail, lastSeq: payload.seq };
  switch (event.type) {
    case 'started': {
      next.phase = null;
      next.summary = {
        ...detail.summary, state: 'running', reason: null, verdict: null, iterations: event.iterations, step: event.startIteration, engine: event.engine.name, finishedAt: null,
      };
      next.log = [...detail.log, `started on ${event.engine.name} ${event.engine.version}, ${event.engine.device}: ${event.engine.why}`];
      // A resumed run takes the steps after its checkpoint again.
      next.steps = detail.steps.filter((row) => row.step <= event.startIteration);
      return next;
    }
    case 'phase':
      next.phase = event.total ? `${event.phase} ${Math.floor(event.done ?? 0)} of ${event.total}` : event.phase;
      return next;
    case 'caught-up': // rows of an earlier session; whoever opens the run has them
      return next;
    case 'plan':
      next.log = [...detail.log, planLine(event.plan)];
      return next;
    case 'step': {
      const { type: _, ...row } = event;
      next.phase = null;
      next.steps = [...detail.steps.filter((old) => old.step < row.step), row];
      next.summary = {
        ...detail.summary, state: 'running', step: row.step, rewardLast: row.skipped ? detail.summary.rewardLast : row.reward, rewardFirst: detail.summary.rewardFirst ?? (row.skipped ? null : row.reward),
      };
      return next;
    }
    case 'image': {
      if (payload.imageId === null) return next;
      const { type: _, file: __, ...image } = event;
      next.images = [...detail.images.filter((old) => old.id !== payload.imageId), { ...image, id: payload.imageId, runId: payload.runId }];
      return next;
    }
    case 'sampled': {
      const { type: _, ...row } = event;
      next.samples = [...detail.samples.filter((old) => !(old.step === row.step && old.role === row.role && old.heldOut === row.heldOut)), row];
      return next;
    }
    case 'checkpoint': {
      const { type: _, ...row } = event;
      next.checkpoints = [...detail.checkpoints.filter((old) => old.step !== row.step), row].sort((a, b) => a.step - b.step);
      return next;
    }
    case 'alarm': {
      const { type: _, ...row } = event;
      next.alarms = [...detail.alarms, row];
      next.log = [...detail.log, `alarm at step ${row.step}: ${row.message}`];
      return next;
    }
    case 'finished': {
      next.phase = null;
      const reason = event.reason === 'failed' ? [event.message, event.hint].filter(Boolean).join(' ') : null;
      next.summary = { ...detail.summary, state: event.reason === 'completed' ? 'finished' : event.reason, reason, verdict: event.verdict ?? null, step: event.step, seconds: event.seconds };
      next.log = [...detail.log, `${event.reason} at step ${event.step}`];
      return next;
    }
  }
}

/** A summary put into the list: replaced where it is, first where it is new, taken out where it moved to the other list. */
export function applySummary(list: readonly RunSummary[], summary: RunSummary, deleted: boolean): RunSummary[] {
  const belongs = (summary.deletedAt !== null) === deleted;
  const at = list.findIndex((run) => run.id === summary.id);
  if (!belongs) return at < 0 ? [...list] : list.filter((run) => run.id !== summary.id);
  if (at < 0) return [summary, ...list];
  return list.map((run, index) => (index === at ? summary : run));
}

/**
 * The weighted sum a run maximises, from values by term key, as the trainer counts it; undefined where one is missing.
 * @param at the picture's prompt, where terms may count for some only; what normalised terms are divided by
 */
export function weightedReward(config: Pick<RunConfig, 'rewards'>, values: Record<string, number>, at: { prompt?: string; spread?: Readonly<Record<string, number>> } = {}): number | undefined {
  const keys = termKeys(config.rewards);
  let sum = 0;
  for (const [i, term] of config.rewards.entries()) {
    if (at.prompt !== undefined && !appliesTo(term, at.prompt)) continue;
    const value = values[keys[i]!];
    if (value === undefined) return undefined;
    sum += (term.weight * Math.min(value, term.target ?? Infinity)) / (at.spread?.[keys[i]!] ?? 1);
  }
  return sum;
}
