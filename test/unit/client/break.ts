// A rule that a server breaks, and how.

import type { Client } from "../../../src/client/index.js";
import type { RuleName } from "../../../src/client/rules.js";
import type { Wrongs } from "../../support/wrong-server.js";

export type Style = "simple" | "structured" | "extended";

export interface Break {
  readonly rule: RuleName;
  readonly style?: Style;
  readonly wrongs: Wrongs;
  /** By default a read of 512 bytes. */
  readonly use?: (client: Client) => Promise<unknown>;
  readonly lists?: true;
  readonly what?: string;
}

export const NONE = Buffer.alloc(0);
