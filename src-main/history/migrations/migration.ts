/** One step of the schema's history. */
export interface Migration {
  /** The `user_version` it brings the database to. */
  readonly version: number;
  readonly sql: string;
}
