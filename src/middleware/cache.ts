// Keeps blocks in memory: what has been read or written need not be fetched again.

import type { Middleware, OpenExport } from "../plugins/script/layer.js";
import type { RequestInfo } from "../plugins/script/requests.js";
import { BlockLocks, Blocks, forEachPiece, type Piece } from "./blocks.js";
import { defineMiddleware } from "./define.js";

export interface CacheOptions {
  /**
   * "writethrough": a write is answered when the plugin has it. "writeback": it is answered at
   * once, and the plugin gets it at a flush, with FUA, when memory is needed or the client leaves.
   * "unsafe": as that, but flushes are ignored. By default "writethrough".
   */
  readonly mode?: "writethrough" | "writeback" | "unsafe";
  /** Of all exports. By default 256 MiB. */
  readonly maxBytes?: number;
  /** What is fetched and kept at once, a power of 2. By default 64 KiB. */
  readonly blockBytes?: number;
  /** Keep what is read, not only what is written or asked to be cached. By default yes. */
  readonly onRead?: boolean;
}

/** The plugin behind, for one request. */
interface Behind {
  read(buf: Buffer, offset: number): Promise<void>;
  write(data: Buffer, offset: number, fua: boolean): Promise<void>;
}

interface Entry {
  readonly data: Buffer;
  isDirty: boolean;
}

/** The blocks of one export. */
class Store {
  readonly blocks: Blocks;
  readonly locks = new BlockLocks();
  /** The least recently used comes first. */
  readonly #entries = new Map<number, Entry>();

  constructor(blocks: Blocks) {
    this.blocks = blocks;
  }

  get(block: number): Entry | undefined {
    const entry = this.#entries.get(block);
    if (entry === undefined) return undefined;
    this.#entries.delete(block);
    this.#entries.set(block, entry);
    return entry;
  }

  has(block: number): boolean {
    return this.#entries.has(block);
  }

  set(block: number, entry: Entry): void {
    this.#entries.set(block, entry);
  }

  drop(block: number): void {
    this.#entries.delete(block);
  }

  dirtyBlocks(): number[] {
    return [...this.#entries].filter(([, entry]) => entry.isDirty).map(([block]) => block);
  }

  get bytes(): number {
    return this.#entries.size * this.blocks.blockBytes;
  }

  oldest(): number | undefined {
    return this.#entries.keys().next().value;
  }

  /** Under the block's lock: the plugin gets it if it has not got it. */
  async writeBack(block: number, behind: Behind, fua = false): Promise<void> {
    const entry = this.#entries.get(block);
    if (!entry?.isDirty) return;
    await behind.write(entry.data, block * this.blocks.blockBytes, fua);
    entry.isDirty = false;
  }

  /** Under the block's lock: its content, fetched if need be. */
  async fetch(block: number, behind: Behind): Promise<Entry> {
    const known = this.get(block);
    if (known !== undefined) return known;
    const entry = { data: Buffer.alloc(this.blocks.lengthOf(block)), isDirty: false };
    await behind.read(entry.data, block * this.blocks.blockBytes);
    this.#entries.set(block, entry);
    return entry;
  }
}

type Options = Required<CacheOptions>;

/** What requests do to a store. */
class Requests {
  readonly #options: Options;
  readonly #store: Store;

  constructor(options: Options, store: Store) {
    this.#options = options;
    this.#store = store;
  }

  async read(buf: Buffer, offset: number, behind: Behind): Promise<void> {
    const { blocks, locks } = this.#store;
    const pieces = [...blocks.pieces(offset, buf.length)];
    if (!this.#options.onRead && !pieces.some(({ block }) => this.#store.has(block)))
      return behind.read(buf, offset);
    await forEachPiece(pieces, async (piece) => {
      const part = buf.subarray(piece.at, piece.at + piece.count);
      const known = this.#store.get(piece.block);
      if (known !== undefined) known.data.copy(part, 0, piece.start);
      else if (!this.#options.onRead) await behind.read(part, offset + piece.at);
      else {
        const fetch = async (): Promise<Entry> => this.#store.fetch(piece.block, behind);
        (await locks.run(piece.block, fetch)).data.copy(part, 0, piece.start);
      }
    });
    await this.#makeRoom(behind);
  }

  async write(data: Buffer, offset: number, fua: boolean, behind: Behind): Promise<void> {
    const { blocks, locks } = this.#store;
    const isThrough = fua || this.#options.mode === "writethrough";
    await forEachPiece(blocks.pieces(offset, data.length), (piece) => {
      const part = data.subarray(piece.at, piece.at + piece.count);
      return locks.run(piece.block, () =>
        isThrough
          ? this.#writeThrough(piece, part, offset + piece.at, fua, behind)
          : this.#writeLater(piece, part, behind),
      );
    });
    await this.#makeRoom(behind);
  }

  /** Everything that is dirty reaches the plugin, several blocks at once. */
  async writeBackAll(behind: Behind): Promise<void> {
    const { blocks, locks } = this.#store;
    const dirty = this.#store.dirtyBlocks().map((block) => pieceOf(block, blocks));
    await forEachPiece(dirty, ({ block }) =>
      locks.run(block, () => this.#store.writeBack(block, behind)),
    );
  }

  /** The plugin has the latest of a range, and only the plugin, while `work` is done. */
  async behindTheCache(
    count: number,
    offset: number,
    behind: Behind,
    work: (count: number, offset: number) => Promise<void>,
  ): Promise<void> {
    const { blocks } = this.#store;
    for (const window of windowsOf(count, offset, blocks.blockBytes)) {
      const pieces = [...blocks.pieces(window.offset, window.count)];
      await this.#withoutThem(pieces, behind, () => work(window.count, window.offset));
    }
  }

  async #withoutThem(
    pieces: readonly Piece[],
    behind: Behind,
    work: () => Promise<void>,
  ): Promise<void> {
    const { locks } = this.#store;
    // Whoever wrote to one of these blocks meanwhile would write back what was there before.
    await locks.runAll(
      pieces.map(({ block }) => block),
      async () => {
        await forEachPiece(pieces, async ({ block }) => {
          await this.#store.writeBack(block, behind);
          this.#store.drop(block);
        });
        await work();
      },
    );
  }

  async fetchAll(count: number, offset: number, behind: Behind): Promise<void> {
    const { blocks, locks } = this.#store;
    for (const window of windowsOf(count, offset, blocks.blockBytes)) {
      await forEachPiece(blocks.pieces(window.offset, window.count), async ({ block }) => {
        await locks.run(block, () => this.#store.fetch(block, behind));
      });
      await this.#makeRoom(behind);
    }
  }

  async #writeThrough(
    { block, start }: Piece,
    part: Buffer,
    offset: number,
    fua: boolean,
    behind: Behind,
  ): Promise<void> {
    const entry = this.#store.get(block);
    if (entry?.isDirty) {
      part.copy(entry.data, start);
      await this.#store.writeBack(block, behind, fua);
      return;
    }
    this.#store.drop(block); // if the write fails, nobody knows what is there
    await behind.write(part, offset, fua);
    if (entry === undefined) return;
    part.copy(entry.data, start);
    this.#store.set(block, entry);
  }

  async #writeLater({ block, start, isWhole }: Piece, part: Buffer, behind: Behind): Promise<void> {
    if (isWhole && !this.#store.has(block)) {
      this.#store.set(block, { data: Buffer.from(part), isDirty: true });
      return;
    }
    const entry = await this.#store.fetch(block, behind);
    part.copy(entry.data, start);
    entry.isDirty = true;
  }

  async #makeRoom(behind: Behind): Promise<void> {
    const { locks } = this.#store;
    while (this.#store.bytes > this.#options.maxBytes) {
      const block = this.#store.oldest() as number;
      await locks.run(block, async () => {
        await this.#store.writeBack(block, behind);
        this.#store.drop(block);
      });
    }
  }
}

/** So many blocks of a long range are worked on at once. */
const WINDOW_BLOCKS = 1024;

/** Parts of a range that end at blocks' ends. */
function* windowsOf(
  count: number,
  offset: number,
  blockBytes: number,
): Generator<{ readonly count: number; readonly offset: number }> {
  const windowBytes = WINDOW_BLOCKS * blockBytes;
  for (let at = offset; at < offset + count; ) {
    const end = Math.min(offset + count, (Math.floor(at / windowBytes) + 1) * windowBytes);
    yield { offset: at, count: end - at };
    at = end;
  }
}

const pieceOf = (block: number, blocks: Blocks): Piece => ({
  block,
  start: 0,
  count: blocks.lengthOf(block),
  at: 0,
  isWhole: true,
});

const NEVER = new AbortController().signal;

/** The export behind, for one request. */
const behindFor = (next: OpenExport, { signal }: RequestInfo): Behind => ({
  async read(buf, offset) {
    await next.read(buf, offset, { signal });
  },
  async write(data, offset, fua) {
    await next.write(data, offset, { signal, fua });
  },
});

/**
 * Clients share a cache of each disk in memory. With "writeback" a plugin that fails a late write
 * fails the flush, or the request that needed memory; with "unsafe" written data may be lost.
 */
export function cache(options: CacheOptions = {}): Middleware {
  const { mode = "writethrough", maxBytes = 2 ** 28, blockBytes = 65536, onRead = true } = options;
  return defineMiddleware({
    name: "cache",
    async open(open, info) {
      const next = await open(info);
      try {
        const { sizeBytes } = next.facts;
        const disk = await info.shared((): { store?: Store } => ({}));
        if (disk.store?.blocks.sizeBytes !== sizeBytes)
          disk.store = new Store(new Blocks(blockBytes, sizeBytes));
        const requests = new Requests({ mode, maxBytes, blockBytes, onRead }, disk.store);
        return mode === "writethrough"
          ? cached(next, requests)
          : writtenBack(next, requests, mode === "unsafe");
      } catch (error) {
        await next.close();
        throw error;
      }
    },
  });
}

function cached(next: OpenExport, requests: Requests): OpenExport {
  return {
    ...next,
    facts: { ...next.facts, cache: "native" },
    read: (buf, offset, request) => requests.read(buf, offset, behindFor(next, request)),
    write: (buf, offset, request) =>
      requests.write(buf, offset, request.fua, behindFor(next, request)),
    cache: (count, offset, request) => requests.fetchAll(count, offset, behindFor(next, request)),
    trim: (count, offset, request) =>
      requests.behindTheCache(count, offset, behindFor(next, request), async (part, at) => {
        await next.trim(part, at, request);
      }),
    zero: (count, offset, request) =>
      requests.behindTheCache(count, offset, behindFor(next, request), async (part, at) => {
        await next.zero(part, at, request);
      }),
  };
}

function writtenBack(next: OpenExport, requests: Requests, ignoresFlush: boolean): OpenExport {
  const { facts, ...front } = cached(next, requests);
  const fua = facts.fua === "none" ? "emulate" : facts.fua;
  return {
    ...front,
    // What is written back later is no hole, whatever the plugin knows.
    facts: { ...facts, canExtents: false, canFlush: true, fua },
    async flush(request) {
      if (ignoresFlush) return;
      await requests.writeBackAll(behindFor(next, request));
      if (next.facts.canFlush) await next.flush(request);
    },
    async close() {
      try {
        await requests.writeBackAll(behindFor(next, { signal: NEVER }));
      } finally {
        await next.close();
      }
    },
  };
}
