/** What only a window has: the system's dialogs and its safe place for secrets. */
import { BrowserWindow, dialog, safeStorage } from 'electron';
import type { PickPath } from '../app/handlers.ts';
import type { SecretBox } from '../app/secret-file.ts';
import { NATIVE, type NativeWords } from './native-words.ts';

/** The system's own encryption, null where it has none: on Linux without a keyring Electron's stands for it with a fixed key, which keeps nothing. */
export function systemSecrets(): SecretBox | null {
  if (!safeStorage.isEncryptionAvailable()) return null;
  if (process.platform === 'linux' && safeStorage.getSelectedStorageBackend() === 'basic_text') return null;
  return { encrypt: (text) => safeStorage.encryptString(text), decrypt: (bytes) => safeStorage.decryptString(Buffer.from(bytes)) };
}

export const pickPath = async (what: Parameters<PickPath>[0], words: NativeWords = NATIVE.en): ReturnType<PickPath> => {
  const options = what === 'folder'
    ? { title: words.addFolder, properties: ['openDirectory' as const] }
    : what === 'engine'
      ? { title: words.addPack, properties: ['openFile' as const], filters: [{ name: 'TensorFlow', extensions: ['whl'] }] }
      : { title: words.addFile, properties: ['openFile' as const], filters: [{ name: 'Checkpoints', extensions: ['safetensors', 'ckpt'] }] };
  const window = BrowserWindow.getFocusedWindow();
  const { canceled, filePaths } = window ? await dialog.showOpenDialog(window, options) : await dialog.showOpenDialog(options);
  return canceled ? null : (filePaths[0] ?? null);
};

/** The menu's "Open...": files as the system would give them. */
export async function pickGiven(window: BrowserWindow, words: NativeWords = NATIVE.en): Promise<string[]> {
  const { filePaths } = await dialog.showOpenDialog(window, {
    title: words.openTitle, properties: ['openFile', 'multiSelections'], filters: [{ name: words.openKinds, extensions: ['drtune', 'safetensors'] }],
  });
  return filePaths;
}
