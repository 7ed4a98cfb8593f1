// A disk in a database that stores equal blocks once.

import { definePlugin, failure } from "asyncnbd";
import { BLOCK_BYTES, Store } from "./store.js";

/** A block status covers at most this much: the client asks again for the rest. */
const MAX_STATUS_BYTES = 256 * 2 ** 20;

const blockOf = (offset: number): number => Math.floor(offset / BLOCK_BYTES);
const blockAfter = (end: number): number => Math.ceil(end / BLOCK_BYTES);

/** Fills the buffer: holes are zeroes. */
function read(store: Store, buf: Buffer, offset: number): void {
  buf.fill(0);
  const end = offset + buf.length;
  for (const [number, data] of store.blocks(blockOf(offset), blockAfter(end))) {
    const start = number * BLOCK_BYTES;
    const from = Math.max(offset, start);
    const to = Math.min(end, start + BLOCK_BYTES);
    buf.set(data.subarray(from - start, to - start), from - offset);
  }
}

/** If only a part of a block is written, the block is read first. */
function write(store: Store, buf: Buffer, offset: number): void {
  const end = offset + buf.length;
  for (let number = blockOf(offset); number < blockAfter(end); number++) {
    const start = number * BLOCK_BYTES;
    const block = Buffer.alloc(BLOCK_BYTES);
    if (start < offset || start + BLOCK_BYTES > end) read(store, block, start);
    buf.copy(block, Math.max(0, offset - start), Math.max(0, start - offset));
    store.put(number, block);
  }
}

function* extents(store: Store, offset: number, end: number) {
  let at = offset;
  for (const number of store.numbers(blockOf(offset), blockAfter(end))) {
    const start = Math.max(offset, number * BLOCK_BYTES);
    if (start > at) yield { offset: at, length: start - at, hole: true, zero: true };
    at = Math.min(end, (number + 1) * BLOCK_BYTES);
    yield { offset: start, length: at - start, hole: false, zero: false };
  }
  if (at < end) yield { offset: at, length: end - at, hole: true, zero: true };
}

/** Makes a new disk: tests need several. */
export function makeDisk() {
  let store: Store | undefined;
  const opened = (): Store => {
    if (store === undefined) throw failure("ESHUTDOWN", "the database is not open");
    return store;
  };

  return definePlugin({
    name: "deduplicated",
    config: {
      file: { type: "path", magic: true, description: "The database" },
      size: { type: "size", description: "How large the disk is" },
      limit: { type: "size", default: 2 ** 40, description: "How large the database may become" },
    },
    getReady() {
      store = new Store(this.config.file, this.config.limit);
    },
    cleanup() {
      try {
        store?.close();
      } catch (error) {
        this.log.error(`what was not flushed is lost: ${(error as Error).message}`);
      }
    },
    canMultiConn: () => true,
    getSize() {
      return this.config.size;
    },
    blockSize: () => ({ minimum: 1, preferred: BLOCK_BYTES, maximum: 2 ** 25 }),
    exportDescription() {
      const { blocks, different } = opened().counts();
      return `${blocks} blocks, of which ${different} are different`;
    },
    pread(_handle, buf, offset) {
      read(opened(), buf, offset);
    },
    pwrite(_handle, buf, offset) {
      write(opened(), buf, offset);
    },
    flush() {
      opened().commit();
    },
    /** Blocks that are trimmed only in part do not change. */
    trim(_handle, count, offset) {
      const end = offset + count;
      const isAtEnd = end === this.config.size;
      const last = isAtEnd ? blockAfter(end) : blockOf(end);
      opened().release(blockAfter(offset), last);
    },
    zero(_handle, count, offset) {
      const end = offset + count;
      const first = blockAfter(offset);
      const last = blockOf(end);
      if (first > last) return write(opened(), Buffer.alloc(count), offset);
      opened().release(first, last);
      write(opened(), Buffer.alloc(first * BLOCK_BYTES - offset), offset);
      write(opened(), Buffer.alloc(end - last * BLOCK_BYTES), last * BLOCK_BYTES);
    },
    extents(_handle, count, offset) {
      return extents(opened(), offset, offset + Math.min(count, MAX_STATUS_BYTES));
    },
  });
}

export default makeDisk();
