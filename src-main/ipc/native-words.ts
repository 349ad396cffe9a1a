/** What the system itself shows of the app, in its languages: menu, tray, notifications, dialogs. Electron's own entries (copy, zoom, quit) would be English. */
import type { App } from '../app/open-app.ts';
import type { RunSummary, Settings } from '../contract/api.ts';

/** Entries that Electron carries out by itself. */
export type Role = 'undo' | 'redo' | 'cut' | 'copy' | 'paste' | 'delete' | 'selectAll' | 'resetZoom' | 'zoomIn' | 'zoomOut' | 'togglefullscreen' | 'minimize' | 'close' | 'quit' | 'about' | 'services' | 'hide' | 'hideOthers' | 'unhide' | 'zoom' | 'front';

type Key = 'file' | 'edit' | 'go' | 'view' | 'window' | 'help' | 'runs' | 'newRun' | 'compare' | 'models' | 'rewards' | 'settings' | 'open' | 'data' | 'logs' | 'paper' | 'show' | 'pause' | 'resume' | 'quit' | 'idle' | 'addFolder' | 'addFile' | 'addPack' | 'openTitle' | 'openKinds' | 'ends';
export type NativeWords = Readonly<Record<Key, string>> & {
  readonly roles: Readonly<Record<Role, string>>;
  readonly states: Readonly<Record<RunSummary['state'], string>>;
  of(step: number, iterations: number): string;
  /** After an error nobody caught. */
  endsBecause(logs: string): string;
};

const counted = (of: string, iterations: string) => (step: number, all: number): string => `${step} ${of} ${all} ${iterations}`;

export const NATIVE: Readonly<Record<Exclude<Settings['language'], 'system'>, NativeWords>> = {
  en: {
    file: '&File', edit: '&Edit', go: '&Go', view: '&View', window: '&Window', help: '&Help', runs: 'Runs', newRun: 'New Run', compare: 'Compare', models: 'Models', rewards: 'Rewards', settings: 'Settings', open: 'Open…', data: 'Show Data Folder', logs: 'Logs',
    paper: 'The DRTune Paper', show: 'Show DRTune Studio', pause: 'Pause (keeps what is learnt)', resume: 'Resume', quit: 'Quit', idle: 'Nothing is running',
    addFolder: 'Add a Model Folder', addFile: 'Add a Model File', addPack: 'The Engine Pack’s File', openTitle: 'Open', openKinds: 'Settings of a run, or a checkpoint',
    ends: 'DRTune Studio has to end', endsBecause: (logs) => `The log in ${logs} has the details. A running training is stopped with a checkpoint.`,
    roles: {
      undo: 'Undo', redo: 'Redo', cut: 'Cut', copy: 'Copy', paste: 'Paste', delete: 'Delete', selectAll: 'Select All', resetZoom: 'Actual Size', zoomIn: 'Zoom In', zoomOut: 'Zoom Out', togglefullscreen: 'Full Screen',
      minimize: 'Minimise', close: 'Close Window', quit: 'Quit', about: 'About DRTune Studio', services: 'Services', hide: 'Hide DRTune Studio', hideOthers: 'Hide Others', unhide: 'Show All', zoom: 'Zoom', front: 'Bring All to Front',
    },
    states: { queued: 'queued', running: 'running', finished: 'finished', stopped: 'stopped', failed: 'failed' }, of: counted('of', 'iterations'),
  },
  de: {
    file: '&Datei', edit: '&Bearbeiten', go: '&Gehe zu', view: '&Ansicht', window: '&Fenster', help: '&Hilfe', runs: 'Läufe', newRun: 'Neuer Lauf', compare: 'Vergleich', models: 'Modelle', rewards: 'Rewards', settings: 'Optionen', open: 'Öffnen …', data: 'Datenordner zeigen', logs: 'Protokoll',
    paper: 'Der DRTune-Artikel', show: 'DRTune Studio zeigen', pause: 'Pause (Gelerntes bleibt)', resume: 'Fortsetzen', quit: 'Beenden', idle: 'Nichts läuft',
    addFolder: 'Modellordner hinzufügen', addFile: 'Modelldatei hinzufügen', addPack: 'Datei des Engine-Pakets', openTitle: 'Öffnen', openKinds: 'Einstellungen eines Laufs oder ein Checkpoint',
    ends: 'DRTune Studio muss beendet werden', endsBecause: (logs) => `Das Protokoll in ${logs} nennt die Einzelheiten. Ein laufendes Training wird mit einem Checkpoint angehalten.`,
    roles: {
      undo: 'Rückgängig', redo: 'Wiederholen', cut: 'Ausschneiden', copy: 'Kopieren', paste: 'Einfügen', delete: 'Löschen', selectAll: 'Alles auswählen', resetZoom: 'Originalgröße', zoomIn: 'Vergrößern', zoomOut: 'Verkleinern',
      togglefullscreen: 'Vollbild', minimize: 'Minimieren', close: 'Fenster schließen', quit: 'Beenden', about: 'Über DRTune Studio', services: 'Dienste', hide: 'DRTune Studio ausblenden', hideOthers: 'Andere ausblenden',
      unhide: 'Alle einblenden', zoom: 'Zoomen', front: 'Alle nach vorne bringen',
    },
    states: { queued: 'wartet', running: 'läuft', finished: 'fertig', stopped: 'angehalten', failed: 'fehlgeschlagen' }, of: counted('von', 'Iterationen'),
  },
  zh: {
    file: '文件(&F)', edit: '编辑(&E)', go: '前往(&G)', view: '视图(&V)', window: '窗口(&W)', help: '帮助(&H)', runs: '运行', newRun: '新建运行', compare: '对比', models: '模型', rewards: '奖励', settings: '设置', open: '打开…', data: '显示数据文件夹', logs: '日志',
    paper: 'DRTune 论文', show: '显示 DRTune Studio', pause: '暂停（保留已学内容）', resume: '恢复', quit: '退出', idle: '当前没有运行',
    addFolder: '添加模型文件夹', addFile: '添加模型文件', addPack: '引擎包文件', openTitle: '打开', openKinds: '运行设置或检查点',
    ends: 'DRTune Studio 必须退出', endsBecause: (logs) => `详情见 ${logs} 中的日志。正在进行的训练会保存检查点后停止。`,
    roles: {
      undo: '撤销', redo: '重做', cut: '剪切', copy: '复制', paste: '粘贴', delete: '删除', selectAll: '全选', resetZoom: '实际大小', zoomIn: '放大', zoomOut: '缩小', togglefullscreen: '全屏', minimize: '最小化', close: '关闭窗口', quit: '退出',
      about: '关于 DRTune Studio', services: '服务', hide: '隐藏 DRTune Studio', hideOthers: '隐藏其他', unhide: '全部显示', zoom: '缩放', front: '前置全部窗口',
    },
    states: { queued: '等待中', running: '运行中', finished: '已完成', stopped: '已停止', failed: '失败' }, of: counted('/', '次迭代'),
  },
  ja: {
    file: 'ファイル(&F)', edit: '編集(&E)', go: '移動(&G)', view: '表示(&V)', window: 'ウィンドウ(&W)', help: 'ヘルプ(&H)', runs: '実行', newRun: '新規実行', compare: '比較', models: 'モデル', rewards: '報酬', settings: '設定', open: '開く…', data: 'データフォルダーを表示', logs: 'ログ',
    paper: 'DRTune の論文', show: 'DRTune Studio を表示', pause: '一時停止（学習内容は残ります）', resume: '再開', quit: '終了', idle: '実行中のものはありません',
    addFolder: 'モデルのフォルダーを追加', addFile: 'モデルのファイルを追加', addPack: 'エンジンパックのファイル', openTitle: '開く', openKinds: '実行の設定またはチェックポイント',
    ends: 'DRTune Studio を終了します', endsBecause: (logs) => `詳細は ${logs} のログにあります。実行中の学習はチェックポイントを保存して停止します。`,
    roles: {
      undo: '元に戻す', redo: 'やり直す', cut: '切り取り', copy: 'コピー', paste: '貼り付け', delete: '削除', selectAll: 'すべて選択', resetZoom: '実際のサイズ', zoomIn: '拡大', zoomOut: '縮小', togglefullscreen: '全画面表示', minimize: '最小化',
      close: 'ウィンドウを閉じる', quit: '終了', about: 'DRTune Studio について', services: 'サービス', hide: 'DRTune Studio を隠す', hideOthers: 'ほかを隠す', unhide: 'すべてを表示', zoom: '拡大／縮小', front: 'すべてを手前に移動',
    },
    states: { queued: '待機中', running: '実行中', finished: '完了', stopped: '停止', failed: '失敗' }, of: counted('/', 'イテレーション'),
  },
};

/** The words of a choice; "system" takes the system's language where it is one of these. */
export function nativeWords(choice: Settings['language'] | undefined, system: string): NativeWords {
  const tag = choice === undefined || choice === 'system' ? system.slice(0, 2).toLowerCase() : choice;
  return NATIVE[tag as keyof typeof NATIVE] ?? NATIVE.en;
}

/** Tells the settings now, and again whenever they may have changed. */
export function followSettings(app: Pick<App, 'on' | 'handlers'>, heard: (settings: Settings) => void): () => void {
  const ask = (): void => void app.handlers['settings.get']({}).then(heard, () => undefined);
  ask();
  return app.on((name) => name === 'system' && ask());
}

/** Tells the words of the settings now, and again whenever another language was chosen. */
export function followLanguage(app: Pick<App, 'on' | 'handlers'>, system: string, heard: (words: NativeWords) => void): () => void {
  let last: NativeWords | null = null;
  return followSettings(app, ({ language }) => {
    const words = nativeWords(language, system);
    if (words !== last) heard(words);
    last = words;
  });
}
