/** English: the language whose files say which keys there are. A file is an area of the app. */
import frame from './en/frame.json';
import guides from './en/guides.json';
import settings from './en/settings.json';
import ui from './en/ui.json';

export default { frame, guides, settings, ui };
