// The native filter that sees to flushes where a client uses several connections.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

export interface MultiConnOptions {
  /**
   * "auto": "plugin" if the plugin is safe for several connections of a client, else "emulate".
   * "emulate": a flush is one of all connections. "plugin": as the plugin says. "disable": clients
   * are told to use one. "unsafe": they are told that they may use several, whatever the plugin
   * says. By default "auto".
   */
  readonly mode?: "auto" | "emulate" | "plugin" | "disable" | "unsafe";
  /**
   * What decides whether a flush is needed: what each connection has done ("connection"), what all
   * of them have written ("fast"), or nothing ("off": it always is). By default "connection".
   */
  readonly trackDirty?: "connection" | "fast" | "off";
  /** Only clients that have asked for the same name belong together. By default all do. */
  readonly byExportName?: boolean;
}

/** Whether a client may use several connections. */
export function multiConn(options: MultiConnOptions = {}): Middleware {
  return nativeMiddleware({ name: "multi-conn", options: { ...options } });
}
