/** What the system itself shows of the app, in its languages: menu, tray, notifications, dialogs. Electron's own entries (copy, zoom, quit) speak the system's. */
import type { App } from '../app/open-app.ts';
import type { RunSummary, Settings } from '../contract/api.ts';

type Key = 'file' | 'go' | 'view' | 'runs' | 'newRun' | 'compare' | 'models' | 'rewards' | 'settings' | 'open' | 'data' | 'logs' | 'paper' | 'show' | 'pause' | 'resume' | 'quit' | 'idle' | 'addFolder' | 'addFile' | 'addPack' | 'openTitle' | 'openKinds' | 'ends';
export type NativeWords = Readonly<Record<Key, string>> & {
  readonly states: Readonly<Record<RunSummary['state'], string>>;
  of(step: number, iterations: number): string;
  /** After an error nobody caught. */
  endsBecause(logs: string): string;
};

const counted = (of: string, iterations: string) => (step: number, all: number): string => `${step} ${of} ${all} ${iterations}`;

export const NATIVE: Readonly<Record<Exclude<Settings['language'], 'system'>, NativeWords>> = {
  en: {
    file: '&File', go: '&Go', view: '&View', runs: 'Runs', newRun: 'New Run', compare: 'Compare', models: 'Models', rewards: 'Rewards', settings: 'Settings', open: 'Open…', data: 'Show Data Folder', logs: 'Logs',
    paper: 'The DRTune Paper', show: 'Show DRTune Studio', pause: 'Pause (keeps what is learnt)', resume: 'Resume', quit: 'Quit', idle: 'Nothing is running',
    addFolder: 'Add a Model Folder', addFile: 'Add a Model File', addPack: 'The Engine Pack’s File', openTitle: 'Open', openKinds: 'Settings of a run, or a checkpoint',
    ends: 'DRTune Studio has to end', endsBecause: (logs) => `The log in ${logs} has the details. A running training is stopped with a checkpoint.`,
    states: { queued: 'queued', running: 'running', finished: 'finished', stopped: 'stopped', failed: 'failed' }, of: counted('of', 'iterations'),
  },
  de: {
    file: '&Datei', go: '&Gehe zu', view: '&Ansicht', runs: 'Läufe', newRun: 'Neuer Lauf', compare: 'Vergleich', models: 'Modelle', rewards: 'Rewards', settings: 'Optionen', open: 'Öffnen …', data: 'Datenordner zeigen', logs: 'Protokoll',
    paper: 'Der DRTune-Artikel', show: 'DRTune Studio zeigen', pause: 'Pause (Gelerntes bleibt)', resume: 'Fortsetzen', quit: 'Beenden', idle: 'Nichts läuft',
    addFolder: 'Modellordner hinzufügen', addFile: 'Modelldatei hinzufügen', addPack: 'Datei des Engine-Pakets', openTitle: 'Öffnen', openKinds: 'Einstellungen eines Laufs oder ein Checkpoint',
    ends: 'DRTune Studio muss beendet werden', endsBecause: (logs) => `Das Protokoll in ${logs} nennt die Einzelheiten. Ein laufendes Training wird mit einem Checkpoint angehalten.`,
    states: { queued: 'wartet', running: 'läuft', finished: 'fertig', stopped: 'angehalten', failed: 'fehlgeschlagen' }, of: counted('von', 'Iterationen'),
  },
  zh: {
    file: '文件(&F)', go: '前往(&G)', view: '视图(&V)', runs: '运行', newRun: '新建运行', compare: '对比', models: '模型', rewards: '奖励', settings: '设置', open: '打开…', data: '显示数据文件夹', logs: '日志',
    paper: 'DRTune 论文', show: '显示 DRTune Studio', pause: '暂停（保留已学内容）', resume: '恢复', quit: '退出', idle: '当前没有运行',
    addFolder: '添加模型文件夹', addFile: '添加模型文件', addPack: '引擎包文件', openTitle: '打开', openKinds: '运行设置或检查点',
    ends: 'DRTune Studio 必须退出', endsBecause: (logs) => `详情见 ${logs} 中的日志。正在进行的训练会保存检查点后停止。`,
    states: { queued: '等待中', running: '运行中', finished: '已完成', stopped: '已停止', failed: '失败' }, of: counted('/', '次迭代'),
  },
  ja: {
    file: 'ファイル(&F)', go: '移動(&G)', view: '表示(&V)', runs: '実行', newRun: '新規実行', compare: '比較', models: 'モデル', rewards: '報酬', settings: '設定', open: '開く…', data: 'データフォルダーを表示', logs: 'ログ',
    paper: 'DRTune の論文', show: 'DRTune Studio を表示', pause: '一時停止（学習内容は残ります）', resume: '再開', quit: '終了', idle: '実行中のものはありません',
    addFolder: 'モデルのフォルダーを追加', addFile: 'モデルのファイルを追加', addPack: 'エンジンパックのファイル', openTitle: '開く', openKinds: '実行の設定またはチェックポイント',
    ends: 'DRTune Studio を終了します', endsBecause: (logs) => `詳細は ${logs} のログにあります。実行中の学習はチェックポイントを保存して停止します。`,
    states: { queued: '待機中', running: '実行中', finished: '完了', stopped: '停止', failed: '失敗' }, of: counted('/', 'イテレーション'),
  },
};

/** The words of a choice; "system" takes the system's language where it is one of these. */
export function nativeWords(choice: Settings['language'] | undefined, system: string): NativeWords {
  const tag = choice === undefined || choice === 'system' ? system.slice(0, 2).toLowerCase() : choice;
  return NATIVE[tag as keyof typeof NATIVE] ?? NATIVE.en;
}

/** Tells the words of the settings now, and again whenever another language was chosen. */
export function followLanguage(app: Pick<App, 'on' | 'handlers'>, system: string, heard: (words: NativeWords) => void): () => void {
  let last: NativeWords | null = null;
  const ask = (): void => void app.handlers['settings.get']({}).then(({ language }) => {
    const words = nativeWords(language, system);
    if (words !== last) heard(words);
    last = words;
  }, () => undefined);
  ask();
  return app.on((name) => name === 'system' && ask());
}
