// Copy on write: what clients write goes to a temporary file, and the plugin is only read.

import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OpenInfo, Plugin, RequestInfo, ZeroInfo } from "../plugins/script/definition.js";
import { BlockLocks, Blocks, forEachPiece, type Piece } from "./blocks.js";
import { type Layered, layer, type Middleware } from "./wrap.js";

export interface CowOptions {
  /** What is copied at once, in bytes, a power of 2. By default 64 KiB. */
  readonly blockBytes?: number;
  /** Copy what is read too, so that it is fetched once. By default no. */
  readonly onRead?: boolean;
  /** Copy what a client asks to be cached; else the plugin may cache it. By default no. */
  readonly onCache?: boolean;
}

type Read = (buf: Buffer, offset: number) => Promise<void>;

/** Where a block's content is: in the plugin behind, in the file, nowhere. */
const State = { Behind: 0, Copied: 1, Zero: 2 } as const;

/** The file of what differs from the plugin; it has no name, and goes with the process. */
async function openOverlay(): Promise<FileHandle> {
  const directory = await mkdtemp(join(tmpdir(), "asyncnbd-cow-"));
  try {
    return await open(join(directory, "overlay"), "wx+", 0o600);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** What has been written to one export, by all clients. */
class Overlay {
  readonly #blocks: Blocks;
  readonly #locks = new BlockLocks();
  readonly #states: Uint8Array;
  readonly #file: FileHandle;

  constructor(blocks: Blocks, file: FileHandle) {
    this.#blocks = blocks;
    this.#states = new Uint8Array(Math.ceil(blocks.sizeBytes / blocks.blockBytes));
    this.#file = file;
  }

  read(buf: Buffer, offset: number, readBehind: Read, copies: boolean): Promise<void> {
    return forEachPiece(this.#runs(offset, buf.length, copies), async (piece) => {
      const part = buf.subarray(piece.at, piece.at + piece.count);
      if (copies && this.#states[piece.block] === State.Behind)
        await this.#locks.run(piece.block, () => this.#copy(piece.block, readBehind));
      await this.#readPart(part, offset + piece.at, piece.block, readBehind);
    });
  }

  write(data: Buffer, offset: number, readBehind: Read): Promise<void> {
    return forEachPiece(this.#blocks.pieces(offset, data.length), (piece) =>
      this.#locks.run(piece.block, async () => {
        if (!piece.isWhole) await this.#copy(piece.block, readBehind);
        await this.#store(data.subarray(piece.at, piece.at + piece.count), offset + piece.at);
        this.#states[piece.block] = State.Copied;
      }),
    );
  }

  zero(count: number, offset: number, readBehind: Read): Promise<void> {
    return forEachPiece(this.#blocks.pieces(offset, count), (piece) =>
      this.#locks.run(piece.block, async () => {
        if (piece.isWhole) {
          this.#states[piece.block] = State.Zero;
          return;
        }
        await this.#copy(piece.block, readBehind);
        await this.#store(Buffer.alloc(piece.count), offset + piece.at);
      }),
    );
  }

  copyAll(count: number, offset: number, readBehind: Read): Promise<void> {
    return forEachPiece(this.#blocks.pieces(offset, count), ({ block }) =>
      this.#locks.run(block, () => this.#copy(block, readBehind)),
    );
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** The pieces of a range, those that follow each other in the same state as one. */
  *#runs(offset: number, count: number, copies: boolean): Generator<Piece> {
    let run: Piece | undefined;
    for (const piece of this.#blocks.pieces(offset, count)) {
      if (run === undefined) run = piece;
      else if (!copies && this.#states[run.block] === this.#states[piece.block])
        run = { ...run, count: run.count + piece.count, isWhole: false };
      else {
        yield run;
        run = piece;
      }
    }
    if (run !== undefined) yield run;
  }

  async #readPart(part: Buffer, offset: number, block: number, readBehind: Read): Promise<void> {
    const state = this.#states[block];
    if (state === State.Behind) await readBehind(part, offset);
    else if (state === State.Zero) part.fill(0);
    else await this.#load(part, offset);
  }

  /** Under the block's lock: makes it one of the file's. */
  async #copy(block: number, readBehind: Read): Promise<void> {
    if (this.#states[block] === State.Copied) return;
    const offset = block * this.#blocks.blockBytes;
    const content = Buffer.alloc(this.#blocks.lengthOf(block));
    if (this.#states[block] === State.Behind) await readBehind(content, offset);
    await this.#store(content, offset);
    this.#states[block] = State.Copied;
  }

  async #load(part: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < part.length; ) {
      const { bytesRead } = await this.#file.read(part, done, part.length - done, offset + done);
      if (bytesRead === 0) throw new Error("the overlay file was truncated");
      done += bytesRead;
    }
  }

  async #store(data: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < data.length; ) {
      const rest = data.length - done;
      done += (await this.#file.write(data, done, rest, offset + done)).bytesWritten;
    }
  }
}

/**
 * Clients can write, and see what they have written, but the plugin is never written to: it all
 * goes to a temporary file ($TMPDIR) which is lost when the server ends.
 */
export function cow(options: CowOptions = {}): Middleware {
  const { blockBytes = 65536, onRead = false, onCache = false } = options;
  return (plugin) => {
    const overlays = new Map<string, Promise<Overlay>>();
    const overlayOf = (name: string, sizeBytes: number): Promise<Overlay> => {
      let overlay = overlays.get(name);
      if (overlay === undefined) {
        const blocks = new Blocks(blockBytes, sizeBytes);
        overlay = openOverlay().then((file) => new Overlay(blocks, file));
        overlays.set(name, overlay);
      }
      return overlay;
    };
    const front = layer<Overlay>(plugin, async (inner, { exportName }, self) =>
      overlayOf(exportName, Number(await plugin.getSize.call(self, inner))),
    );
    type Handle = Layered<Overlay>;
    const behind =
      ({ inner, self }: Handle, request: RequestInfo): Read =>
      async (buf, offset) => {
        await plugin.pread.call(self, inner, buf, offset, request);
      };
    const openFront = front.open;
    return Object.assign(front, {
      open(this: Plugin, info: OpenInfo) {
        return openFront?.call(this, { ...info, readonly: true });
      },
      async cleanup(this: Plugin) {
        for (const overlay of overlays.values()) await (await overlay).close();
        await plugin.cleanup?.call(this);
      },
      canWrite: () => true,
      canFlush: () => true,
      canTrim: () => true,
      canZero: () => true,
      canFastZero: () => true,
      canFua: () => "native",
      canMultiConn: () => true,
      canExtents: () => false,
      ...(onCache && { canCache: () => "native" }),
      pread: (handle: Handle, buf: Buffer, offset: number, request: RequestInfo) =>
        handle.state.read(buf, offset, behind(handle, request), onRead),
      pwrite: (handle: Handle, buf: Buffer, offset: number, request: RequestInfo) =>
        handle.state.write(buf, offset, behind(handle, request)),
      flush: async () => {}, // nothing outlives the server
      trim: (handle: Handle, count: number, offset: number, request: RequestInfo) =>
        handle.state.zero(count, offset, behind(handle, request)),
      zero: (handle: Handle, count: number, offset: number, request: ZeroInfo) =>
        handle.state.zero(count, offset, behind(handle, request)),
      ...(onCache && {
        cache: (handle: Handle, count: number, offset: number, request: RequestInfo) =>
          handle.state.copyAll(count, offset, behind(handle, request)),
      }),
    } satisfies Partial<Plugin>);
  };
}
