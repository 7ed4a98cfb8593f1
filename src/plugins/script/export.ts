// One export that a plugin in TypeScript has opened for one connection: what it can do, and each
// command as calls of its callbacks, with those that stand in for what it has not got.

import type { Capabilities } from "../../addon/types.js";
import { AsyncnbdError } from "../../errors.js";
import {
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
} from "./commands.js";
import type { ExtentsInfo, Plugin, Support, ZeroInfo } from "./definition.js";
import { failure } from "./errno.js";

/** How many the answer to one block status may have: ScriptBatch of script_bridge.hpp. */
export const MAX_EXTENTS = 2048;

/** What stands in for zero and cache moves this much at a time. */
const PIECE_BYTES = 2 ** 20;

/** What a command does; undefined: done already. */
export type Pending = Promise<unknown> | undefined;

const isThenable = (value: unknown): value is Promise<unknown> =>
  typeof value === "object" && value !== null && "then" in value;

/** The argument that comes with a request, made anew for each: plugins may keep it. */
class Info implements ZeroInfo, ExtentsInfo {
  readonly #owner: ScriptExport;
  readonly fua: boolean;
  readonly mayTrim: boolean;
  readonly fastZero: boolean;
  readonly reqOne: boolean;

  constructor(owner: ScriptExport, flags: number) {
    this.#owner = owner;
    this.fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    this.mayTrim = (flags & NBD_CMD_FLAG_NO_HOLE) === 0;
    this.fastZero = (flags & NBD_CMD_FLAG_FAST_ZERO) !== 0;
    this.reqOne = (flags & NBD_CMD_FLAG_REQ_ONE) !== 0;
  }

  get signal(): AbortSignal {
    return this.#owner.signal;
  }
}

export interface ScriptCapabilities extends Omit<Capabilities, "canZero" | "canFua" | "canCache"> {
  readonly zero: Support;
  readonly fua: Support;
  readonly cache: Support;
  readonly canExtents: boolean;
}

/** The questions in nbdkit's order, once each. */
export async function askCapabilities(
  plugin: Plugin,
  handle: unknown,
  readonly: boolean,
): Promise<ScriptCapabilities> {
  const sizeBytes = checkSize(await plugin.getSize(handle));
  const has = (callback: unknown): boolean => callback !== undefined;
  const canWrite = !readonly && ((await plugin.canWrite?.(handle)) ?? has(plugin.pwrite));
  if (canWrite && !has(plugin.pwrite))
    throw new AsyncnbdError("PLUGIN", "canWrite says yes, but there is no pwrite");
  const nativeZero = (await plugin.canZero?.(handle)) ?? has(plugin.zero);
  return {
    sizeBytes,
    canWrite,
    zero: canWrite ? (nativeZero && has(plugin.zero) ? "native" : "emulate") : "none",
    // Zeroing by writing can be relied on to refuse a fast zero at once, which is all it takes.
    canFastZero: (await plugin.canFastZero?.(handle)) ?? !has(plugin.zero),
    canTrim: ((await plugin.canTrim?.(handle)) ?? true) && has(plugin.trim),
    fua: checkFua(plugin, await plugin.canFua?.(handle)),
    canFlush: ((await plugin.canFlush?.(handle)) ?? true) && has(plugin.flush),
    isRotational: (await plugin.isRotational?.(handle)) ?? false,
    canMultiConn:
      plugin.threadModel !== "serialize_connections" &&
      ((await plugin.canMultiConn?.(handle)) ?? false),
    cache: checkCache(plugin, await plugin.canCache?.(handle)),
    canExtents: ((await plugin.canExtents?.(handle)) ?? true) && has(plugin.extents),
  };
}

function checkSize(size: number | bigint): bigint {
  const isSafe = Number.isSafeInteger(Number(size)) && size >= 0;
  if (!isSafe || typeof size === "string")
    throw new AsyncnbdError(
      "PLUGIN",
      `getSize returned ${size}: a size is a whole number of bytes up to 2^53-1`,
    );
  return BigInt(size);
}

const SUPPORTS: readonly unknown[] = ["none", "emulate", "native"] satisfies Support[];

function checkFua(plugin: Plugin, given: Support | undefined): Support {
  if (given === undefined) return plugin.flush === undefined ? "none" : "emulate";
  if (!SUPPORTS.includes(given) || (given === "emulate" && plugin.flush === undefined))
    throw new AsyncnbdError("PLUGIN", `canFua returned ${given}, which cannot be`);
  return given;
}

function checkCache(plugin: Plugin, given: Support | undefined): Support {
  if (given === undefined) return plugin.cache === undefined ? "none" : "native";
  if (!SUPPORTS.includes(given) || (given === "native" && plugin.cache === undefined))
    throw new AsyncnbdError("PLUGIN", `canCache returned ${given}, which cannot be`);
  return given;
}

export class ScriptExport {
  readonly plugin: Plugin;
  readonly handle: unknown;
  readonly capabilities: ScriptCapabilities;
  #abort: AbortController | undefined;
  #clientHasGone = false;

  constructor(plugin: Plugin, handle: unknown, capabilities: ScriptCapabilities) {
    this.plugin = plugin;
    this.handle = handle;
    this.capabilities = capabilities;
  }

  /** Made when a plugin first asks for it. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#clientHasGone) this.#abort.abort();
    return this.#abort.signal;
  }

  onClientGone(): void {
    this.#clientHasGone = true;
    this.#abort?.abort(failure("ECONNRESET", "the client has gone"));
  }

  async close(): Promise<void> {
    await this.plugin.close?.(this.handle);
  }

  read(buf: Buffer, offset: number): Pending {
    return this.plugin.pread(this.handle, buf, offset, new Info(this, 0)) as Pending;
  }

  write(buf: Buffer, offset: number, flags: number): Pending {
    const native = this.#native(flags);
    const done = this.plugin.pwrite?.(this.handle, buf, offset, new Info(this, native));
    return this.#flushed(done as Pending, flags);
  }

  flush(): Pending {
    return this.plugin.flush?.(this.handle, new Info(this, 0)) as Pending;
  }

  trim(count: number, offset: number, flags: number): Pending {
    const info = new Info(this, this.#native(flags));
    return this.#flushed(this.plugin.trim?.(this.handle, count, offset, info) as Pending, flags);
  }

  zero(count: number, offset: number, flags: number): Pending {
    return this.#flushed(this.#zero(count, offset, this.#native(flags)), flags);
  }

  cache(count: number, offset: number): Pending {
    if (this.capabilities.cache === "emulate") return this.#cacheByReading(count, offset);
    return this.plugin.cache?.(this.handle, count, offset, new Info(this, 0)) as Pending;
  }

  /** Writes to `answer` as ScriptBatch has it: a count, then a length and flags for each. */
  async extents(answer: Buffer, count: number, offset: number, flags: number): Promise<void> {
    const values = new Float64Array(answer.buffer, answer.byteOffset, 1 + 2 * MAX_EXTENTS);
    let extents = 0;
    let end = offset;
    const add = (length: number, state: number): void => {
      const last = 2 * extents;
      end += length;
      if (extents > 0 && values[last] === state)
        values[last - 1] = (values[last - 1] ?? 0) + length;
      else values.set([length, state], 1 + 2 * extents++);
    };
    if (!this.capabilities.canExtents) add(count, 0);
    else {
      const info = new Info(this, flags);
      const size = Number(this.capabilities.sizeBytes);
      const given = await this.plugin.extents?.(this.handle, count, offset, info);
      for await (const extent of given ?? []) {
        if (!(extent.length >= 0) || extent.offset > end)
          throw new Error(`extents: one begins at ${extent.offset}, where ${end} was due`);
        const length = Math.min(extent.offset + extent.length, size) - end;
        const state = (extent.hole ? NBD_STATE_HOLE : 0) | (extent.zero ? NBD_STATE_ZERO : 0);
        if (length > 0) add(length, state);
        const isEnough = extents === MAX_EXTENTS || (info.reqOne && extents > 0);
        if (isEnough || end >= offset + count) break;
      }
      if (extents === 0) throw new Error(`extents: none for offset ${offset}`);
    }
    values[0] = extents;
  }

  /** The flags for a callback: without FUA unless it sees to that itself. */
  #native(flags: number): number {
    return this.capabilities.fua === "native" ? flags : flags & ~NBD_CMD_FLAG_FUA;
  }

  #flushed(done: Pending, flags: number): Pending {
    if ((flags & NBD_CMD_FLAG_FUA) === 0 || this.capabilities.fua === "native") return done;
    return isThenable(done) ? done.then(() => this.flush()) : this.flush();
  }

  async #zero(count: number, offset: number, flags: number): Promise<void> {
    if (this.capabilities.zero === "native") {
      try {
        await this.plugin.zero?.(this.handle, count, offset, new Info(this, flags));
        return;
      } catch (error) {
        const { code } = error as { code?: unknown };
        if (code !== "ENOTSUP" && code !== "EOPNOTSUPP") throw error;
      }
    }
    if ((flags & NBD_CMD_FLAG_FAST_ZERO) !== 0)
      throw failure("ENOTSUP", "zeroing would not be fast");
    for (let done = 0; done < count; done += PIECE_BYTES) {
      const zeroes = Buffer.alloc(Math.min(PIECE_BYTES, count - done)); // a plugin might keep it
      const info = new Info(this, flags & NBD_CMD_FLAG_FUA);
      await this.plugin.pwrite?.(this.handle, zeroes, offset + done, info);
    }
  }

  async #cacheByReading(count: number, offset: number): Promise<void> {
    const scratch = Buffer.alloc(Math.min(PIECE_BYTES, count));
    for (let done = 0; done < count; done += PIECE_BYTES)
      await this.read(scratch.subarray(0, Math.min(PIECE_BYTES, count - done)), offset + done);
  }
}
