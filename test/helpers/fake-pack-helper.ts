/** The helper process with a small engine pack from a registry of the tests': its download, check and unpacking are the real ones; that it works is only said. */
import { answer, type FromHelper } from '../../src-main/app/helper-jobs.ts';
import type { AnyAnswer, AnyRequest } from '../../src-main/app/helper.ts';
import { answerLibrary } from '../../src-main/app/library-jobs.ts';
import { rewardInfos } from '../../src-main/rewards/index.ts';
import { packStatus } from '../../src-main/hub/engine-pack.ts';
import { pack } from '../unit/hub/fake-registry.ts';

const send = (message: AnyAnswer): Promise<void> => new Promise((sent) => void process.send?.(message, () => sent()));

/** Which engines there are, by whether the pack is in place; trying them would take seconds. */
async function facts(home: string): Promise<FromHelper> {
  const status = await packStatus(home, pack);
  return {
    type: 'facts', rewards: rewardInfos(),
    engines: [
      ...(status.installed ? [{ name: 'tensorflow' as const, usable: true, version: '2.21.0', device: 'CPU', why: 'the engine pack is installed' }] : []),
      { name: 'wasm' as const, usable: true, version: '4.22.0', device: 'CPU', why: 'works everywhere' },
    ],
    pack: { installed: status.installed, offered: !status.installed, bytes: status.bytesToDownload, bytesThere: status.bytesDownloaded, bytesNeeded: status.bytesNeeded, file: status.file },
  };
}

process.once('message', (message) => {
  const request = message as AnyRequest;
  const works = async () => ({ usable: true, version: '2.21.0', device: 'test', why: '' });
  const done = request.kind === 'facts' ? facts(request.home).then(send)
    : request.kind === 'install' ? answer(request, send, undefined, { pack, probe: works, stallMs: 1500, backoffMs: 200 })
      : answerLibrary(request as never, send);
  void done.then(() => process.exit(0));
});
process.once('disconnect', () => process.exit(0));
