/** English: the language whose files say which keys there are. A file is an area of the app. */
import compare from './en/compare.json';
import format from './en/format.json';
import frame from './en/frame.json';
import guides from './en/guides.json';
import machine from './en/machine.json';
import servers from './en/servers.json';
import settings from './en/settings.json';
import ui from './en/ui.json';
import vote from './en/vote.json';

export default { compare, format, frame, guides, machine, servers, settings, ui, vote };
