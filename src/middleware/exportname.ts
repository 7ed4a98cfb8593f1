// The native filter that decides on the names of exports.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

export interface ExportnameOptions {
  /** The name that a client gets which asks for "". By default as the plugin says. */
  readonly defaultExport?: string;
  /**
   * What clients are told that ask for a list. "keep": as the plugin says. "error": the list fails.
   * "empty": nothing. "defaultonly": the default export. "explicit": `names`. By default "keep".
   */
  readonly list?: "keep" | "error" | "empty" | "defaultonly" | "explicit";
  /** Refuse clients that ask for another name than one of `names`. */
  readonly isStrict?: boolean;
  readonly names?: readonly string[];
  /** "keep", "none", "fixed:TEXT" or "script:COMMANDS", whose output it is. By default "keep". */
  readonly description?: string;
}

/** Which exports there are, for clients. */
export function exportname(options: ExportnameOptions): Middleware {
  const { isStrict: strict, ...others } = options;
  return nativeMiddleware({
    name: "exportname",
    options: { ...others, strict },
    seesClients: true,
  });
}
