// The native filters that change what clients may ask of an export.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

export interface NozeroOptions {
  /**
   * "none": clients cannot zero. "emulate": zeroing is writing. "notrim": zeroing makes no holes.
   * "plugin": it goes to the plugin, which must be able to. By default "none".
   */
  readonly mode?: "none" | "emulate" | "notrim" | "plugin";
  /**
   * Of zeroing that is to be fast. "none": clients cannot ask for it. "slow": it fails at once.
   * "ignore": it may be slow. By default as the plugin says.
   */
  readonly fast?: "default" | "none" | "slow" | "ignore";
}

/** What becomes of requests to zero. */
export function nozero(options: NozeroOptions = {}): Middleware {
  return nativeMiddleware({ name: "nozero", options: { ...options } });
}

/** All of the export counts as data, and the plugin is not asked for holes. */
export function noextents(): Middleware {
  return nativeMiddleware({ name: "noextents", options: {} });
}

/** Clients are told the extents that a file lists, as nbdkit-extentlist-filter(1) says. */
export function extentlist(file: string): Middleware {
  return nativeMiddleware({ name: "extentlist", options: { file } });
}

export interface NocacheOptions {
  /**
   * "none": clients cannot ask for caching. "emulate": caching is reading. "nop": it does nothing.
   * By default "none".
   */
  readonly mode?: "none" | "emulate" | "nop";
}

/** What becomes of requests to cache. */
export function nocache(options: NocacheOptions = {}): Middleware {
  return nativeMiddleware({ name: "nocache", options: { ...options } });
}

export interface FuaOptions {
  /**
   * "none": clients cannot ask for FUA. "emulate": the plugin is flushed after the write. "native":
   * FUA goes to the plugin. "force": all writes are with FUA, and flushes do nothing. "pass": as
   * without this. "discard": FUA and flushes do nothing, so a lost machine loses what was written. By
   * default "none".
   */
  readonly mode?: "none" | "emulate" | "native" | "force" | "pass" | "discard";
}

/** What becomes of writes that are to be on the disk when they are answered (FUA). */
export function fua(options: FuaOptions = {}): Middleware {
  return nativeMiddleware({ name: "fua", options: { ...options } });
}
