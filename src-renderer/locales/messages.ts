/** A language's messages: a tree of strings as vue-i18n takes it. */
export interface Messages { [key: string]: string | Messages }
