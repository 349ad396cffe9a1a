/** Imported before any schema: under the content policy `new Function` is refused, so zod must not even probe for it. */
import { config } from 'zod';

config({ jitless: true });
