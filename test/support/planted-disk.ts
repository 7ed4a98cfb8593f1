// A disk with a cache of what is not flushed, in front of a store that survives: right, or with one
// fault that an author of a plugin could make.

import { definePlugin, type Plugin } from "../../src/index.js";
import type { Setup } from "../../src/testing/index.js";

export type PlantedFault =
  | "a lost write"
  | "a wrong offset at a block's edge"
  | "a flush that lies"
  | "a late write"
  | "FUA that lies"
  | "a zero that spares the last byte"
  | "a trim that takes the byte after"
  | "extents that call data zero"
  | "a disk of each client's own"
  | "a read that fails on an odd offset"
  | "writes at once that forget each other"
  | "a request without an answer";

const BLOCK_BYTES = 4096;
const LATE_MS = 30;

const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** `durable`: what is there after a power cut. */
function pluginOver(durable: Buffer, fault: PlantedFault | undefined): Plugin {
  const shared = Buffer.from(durable); // with what is not flushed
  let writes = 0;

  async function write(disk: Buffer, data: Buffer, offset: number, fua: boolean): Promise<void> {
    writes++;
    const crosses =
      Math.floor(offset / BLOCK_BYTES) !== Math.floor((offset + data.length - 1) / BLOCK_BYTES);
    if (fault === "a lost write" && writes % 3 === 0) return;
    if (fault === "a late write" && writes % 3 === 0) {
      const copy = Buffer.from(data); // the buffer is another request's then
      setTimeout(() => copy.copy(disk, offset), LATE_MS);
    } else if (fault === "a wrong offset at a block's edge" && crosses) {
      const here = BLOCK_BYTES - (offset % BLOCK_BYTES);
      data.copy(disk, offset, 0, here);
      data.copy(disk, offset + here + 1, here); // one byte too far
    } else if (fault === "writes at once that forget each other") {
      const block = offset - (offset % BLOCK_BYTES);
      const end = Math.ceil((offset + data.length) / BLOCK_BYTES) * BLOCK_BYTES;
      const read = Buffer.from(disk.subarray(block, end));
      await pause();
      data.copy(read, offset - block);
      read.copy(disk, block);
    } else data.copy(disk, offset);
    if (fua && fault !== "FUA that lies") data.copy(durable, offset);
  }

  return definePlugin({
    name: "planted",
    canMultiConn: () => true,
    canFua: () => "native",
    open: (): Buffer => (fault === "a disk of each client's own" ? Buffer.from(shared) : shared),
    getSize: () => durable.length,
    async pread(disk, buf, offset) {
      if (fault === "a request without an answer" && offset > BLOCK_BYTES)
        await new Promise(() => {});
      if (fault === "a read that fails on an odd offset" && offset % 2 === 1)
        throw new RangeError("an odd offset");
      disk.copy(buf, 0, offset, offset + buf.length);
    },
    pwrite: (disk, buf, offset, { fua }) => write(disk, buf, offset, fua),
    flush(disk) {
      if (fault !== "a flush that lies") disk.copy(durable);
    },
    async zero(disk, count, offset, { fua }) {
      const spared = fault === "a zero that spares the last byte" ? 1 : 0;
      await write(disk, Buffer.alloc(count - spared), offset, fua);
    },
    trim(disk, count, offset, { fua }) {
      const more = fault === "a trim that takes the byte after" ? 1 : 0;
      const end = Math.min(offset + count + more, disk.length);
      disk.fill(0, offset, end);
      if (fua) durable.fill(0, offset, end);
    },
    *extents(disk, count, offset) {
      for (let at = offset; at < offset + count; ) {
        const length = Math.min(offset + count - at, BLOCK_BYTES - (at % BLOCK_BYTES));
        const last = fault === "extents that call data zero" ? at + length - 1 : at + length;
        const zero = disk.subarray(at, last).every((byte) => byte === 0);
        yield { offset: at, length, hole: zero, zero };
        at += length;
      }
    },
  });
}

/** For each case a new one. */
export function plantedDisk(sizeBytes: number, fault?: PlantedFault): () => Setup {
  return () => {
    let store = Buffer.alloc(sizeBytes);
    return {
      plugin: pluginOver(store, fault),
      restart: () => {
        store = Buffer.from(store);
        return pluginOver(store, fault);
      },
    };
  };
}
