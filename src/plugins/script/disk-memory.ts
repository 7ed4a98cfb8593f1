// Memory that a plugin serves as a disk: large requests are received into it and sent from it, and
// what plugins would copy is in its place already.

import { constants } from "node:buffer";
import { addon } from "../../addon/addon.js";
import type { DiskPlace, NativeDiskMemory } from "../../addon/types.js";
import { AsyncnbdError } from "../../errors.js";
import { version } from "../../version.js";
import type { OpenExport } from "./layer.js";
import { keepHere } from "./slot-views.js";

type Memories = WeakMap<ArrayBufferLike, NativeDiskMemory>;

/** All copies of this version in one process share it: a plugin may have brought its own. */
const SHARED = Symbol.for(`asyncnbd ${version}: memory of disks`);
const global = globalThis as { [SHARED]?: Memories };
/** What allocateDisk has made, by the memory of its buffers. */
global[SHARED] ??= new WeakMap();
const memories: Memories = global[SHARED];

/**
 * Zeroed memory for a plugin's `memory`. The system gives it page by page, as it is written to.
 *
 * @param sizeBytes A whole number, up to `buffer.constants.MAX_LENGTH`.
 * @throws RangeError if that is not possible.
 *
 * @example
 * const disk = allocateDisk(1 << 30);
 */
export function allocateDisk(sizeBytes: number): Buffer {
  if (!(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && sizeBytes <= constants.MAX_LENGTH))
    throw new RangeError(
      `allocateDisk(${sizeBytes}): use a whole number of bytes up to ${constants.MAX_LENGTH}`,
    );
  const memory = new (addon().NativeDiskMemory)(sizeBytes);
  const buffer = memory.buffer();
  keepHere(buffer);
  memories.set(buffer, memory);
  return Buffer.from(buffer);
}

/** Where exports lie that are in such memory; of those alone that a plugin has opened itself. */
const disks = new WeakMap<OpenExport, Buffer>();

/** Says so of one; throws if `memory`, which the plugin has given, cannot be it. */
export function liesIn(opened: OpenExport, plugin: string, memory: Buffer): void {
  const { sizeBytes } = opened.facts;
  const refuse = (what: string): never => {
    throw new AsyncnbdError("PLUGIN_INVALID", `${plugin}: memory returned ${what}`);
  };
  if (!Buffer.isBuffer(memory)) refuse("what is no Buffer: return one from allocateDisk");
  if (!memories.has(memory.buffer)) refuse("a Buffer that is not from allocateDisk");
  // Whatever the plugin has made of it, this one has the length that it says.
  const disk = Buffer.from(memory.buffer, memory.byteOffset, memory.byteLength);
  if (disk.length < sizeBytes) refuse(`${disk.length} bytes for a disk of ${sizeBytes} bytes`);
  // Requests have memory of their own then.
  if (process.env.ASYNCNBD_CHECK_BUFFERS !== "1") disks.set(opened, disk);
}

export const diskMemoryOf = (opened: OpenExport): Buffer | undefined => disks.get(opened);

/** For native code. */
export function placeOf(opened: OpenExport): DiskPlace | undefined {
  const disk = disks.get(opened);
  return disk && { memory: memories.get(disk.buffer) as NativeDiskMemory, begin: disk.byteOffset };
}
