/** English: the language whose files say which keys there are. A file is an area of the app. */
import chart from './en/chart.json';
import compare from './en/compare.json';
import error from './en/error.json';
import format from './en/format.json';
import frame from './en/frame.json';
import guides from './en/guides.json';
import logs from './en/logs.json';
import machine from './en/machine.json';
import models from './en/models.json';
import newRun from './en/newRun.json';
import reward from './en/reward.json';
import run from './en/run.json';
import runs from './en/runs.json';
import score from './en/score.json';
import servers from './en/servers.json';
import settings from './en/settings.json';
import setup from './en/setup.json';
import sweep from './en/sweep.json';
import ui from './en/ui.json';
import vote from './en/vote.json';
import work from './en/work.json';

export default { chart, compare, error, format, frame, guides, logs, machine, models, newRun, reward, run, runs, score, servers, settings, setup, sweep, ui, vote, work };
