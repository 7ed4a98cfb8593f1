// How a server breaks the rules of replies.

import type { Client } from "../../../src/client/index.js";
import { joined, u16, u32, u64 } from "../../support/bytes.js";
import { CHUNK, DONE, ERRNO } from "../../support/protocol.js";
import {
  CONTEXT_ID,
  chunk,
  right,
  simple,
  type WireRequest,
  type Wrongs,
} from "../../support/wrong-server.js";
import { type Break, NONE } from "./break.js";

const readWhole = (client: Client): Promise<unknown> => client.read(512, 512, { whole: true });
const flush = (client: Client): Promise<unknown> => client.flush();
const status = async (client: Client): Promise<unknown> => {
  for await (const _ of client.blockStatus(512, 1024));
  return undefined;
};

const replies = (reply: (request: WireRequest) => Buffer): Wrongs => ({ reply });

const data = (offset: number, length: number): Buffer =>
  joined([u64(offset), Buffer.alloc(length, 1)]);
const hole = (offset: number, length: number): Buffer => joined([u64(offset), u32(length)]);

const failure = (error: number, words: Buffer, length = words.length): Buffer =>
  joined([u32(error), u16(length), words]);

const statusOf = (...pairs: [number, number][]): Buffer =>
  joined([u32(CONTEXT_ID), ...pairs.flatMap(([length, flags]) => [u32(length), u32(flags)])]);

const extendedStatus = (count: number, ...pairs: [number, bigint][]): Buffer =>
  joined([
    ...[u32(CONTEXT_ID), u32(count)],
    ...pairs.flatMap(([length, flags]) => [u64(length), u64(flags)]),
  ]);

export const REPLY_BREAKS: readonly Break[] = [
  { rule: "reply-magic", wrongs: replies(() => Buffer.alloc(32, 9)) },
  { rule: "reply-magic", style: "simple", wrongs: replies(() => Buffer.alloc(16, 9)) },
  {
    rule: "reply-magic",
    what: "of another style",
    style: "structured",
    wrongs: replies((r) => chunk({ ...r, isExtended: true }, CHUNK.NONE)),
  },
  {
    rule: "reply-simple-read",
    style: "structured",
    wrongs: replies((r) => simple(r, 0, Buffer.alloc(512))),
  },
  { rule: "reply-simple-extended", wrongs: replies((r) => joined([simple(r), Buffer.alloc(16)])) },
  { rule: "reply-chunk", style: "simple", wrongs: replies((r) => chunk(r, CHUNK.NONE)) },
  { rule: "cookie", wrongs: replies((r) => right({ ...r, cookie: u64(0x99) }, "extended")) },
  {
    rule: "cookie",
    what: "twice",
    style: "simple",
    use: async (client) => {
      await client.flush();
      await client.read(0, 512);
    },
    wrongs: replies((r) => joined([simple(r, 0, Buffer.alloc(r.length)), simple(r)])),
  },
  { rule: "reply-offset", wrongs: replies((r) => chunk({ ...r, offset: 7n }, CHUNK.NONE)) },
  { rule: "reply-flags", wrongs: replies((r) => chunk(r, CHUNK.NONE, NONE, DONE | 2)) },
  { rule: "chunk-type", wrongs: replies((r) => chunk(r, 9)) },
  { rule: "chunk-none", wrongs: replies((r) => chunk(r, CHUNK.NONE, u32(0))) },
  {
    rule: "chunk-none",
    what: "not the last",
    wrongs: replies((r) => chunk(r, CHUNK.NONE, NONE, 0)),
  },
  {
    rule: "content-command",
    use: flush,
    wrongs: replies((r) => chunk(r, CHUNK.OFFSET_DATA, data(0, 1))),
  },
  {
    rule: "content-command",
    what: "a hole",
    use: flush,
    wrongs: replies((r) => chunk(r, CHUNK.OFFSET_HOLE, hole(0, 1))),
  },
  { rule: "data-length", wrongs: replies((r) => chunk(r, CHUNK.OFFSET_DATA, data(512, 0))) },
  { rule: "hole-length", wrongs: replies((r) => chunk(r, CHUNK.OFFSET_HOLE, data(512, 8))) },
  {
    rule: "hole-length",
    what: "zero",
    wrongs: replies((r) => chunk(r, CHUNK.OFFSET_HOLE, hole(512, 0))),
  },
  { rule: "content-range", wrongs: replies((r) => chunk(r, CHUNK.OFFSET_DATA, data(500, 512))) },
  {
    rule: "content-range",
    what: "too long",
    wrongs: replies((r) => chunk(r, CHUNK.OFFSET_DATA, data(512, 513))),
  },
  {
    rule: "content-range",
    what: "behind",
    wrongs: replies((r) => chunk(r, CHUNK.OFFSET_DATA, data(1020, 5))),
  },
  {
    rule: "content-range",
    what: "a hole",
    wrongs: replies((r) => chunk(r, CHUNK.OFFSET_HOLE, hole(512, 2 ** 31))),
  },
  {
    rule: "content-overlap",
    wrongs: replies((r) =>
      joined([
        chunk(r, CHUNK.OFFSET_DATA, data(512, 300), 0),
        chunk(r, CHUNK.OFFSET_DATA, data(800, 200)),
      ]),
    ),
  },
  {
    rule: "content-overlap",
    what: "all of it twice",
    wrongs: replies((r) =>
      joined([
        chunk(r, CHUNK.OFFSET_DATA, data(512, 512), 0),
        chunk(r, CHUNK.OFFSET_HOLE, hole(512, 512)),
      ]),
    ),
  },
  {
    rule: "content-overlap",
    what: "around another",
    wrongs: replies((r) =>
      joined([
        chunk(r, CHUNK.OFFSET_DATA, data(600, 8), 0),
        chunk(r, CHUNK.OFFSET_HOLE, hole(512, 512)),
      ]),
    ),
  },
  {
    rule: "content-overlap",
    what: "an error's offset",
    wrongs: replies((r) =>
      joined([
        chunk(r, CHUNK.ERROR_OFFSET, joined([failure(ERRNO.EIO, NONE), u64(600)]), 0),
        chunk(r, CHUNK.OFFSET_DATA, data(512, 512)),
      ]),
    ),
  },
  {
    rule: "content-pieces",
    use: (client) => client.read(0, 2 ** 18),
    wrongs: {
      sizeBytes: () => 2 ** 20,
      reply: (r) =>
        joined(
          Array.from({ length: 2 ** 12 + 1 }, (_, index) =>
            chunk(r, CHUNK.OFFSET_HOLE, hole(2 * index, 1), 0),
          ),
        ),
    },
  },
  { rule: "content-whole", wrongs: replies((r) => chunk(r, CHUNK.OFFSET_DATA, data(512, 511))) },
  { rule: "content-whole", what: "nothing", wrongs: replies((r) => chunk(r, CHUNK.NONE)) },
  {
    rule: "content-df",
    use: readWhole,
    wrongs: replies((r) =>
      joined([
        chunk(r, CHUNK.OFFSET_DATA, data(512, 256), 0),
        chunk(r, CHUNK.OFFSET_DATA, data(768, 256)),
      ]),
    ),
  },
  {
    rule: "status-command",
    wrongs: replies((r) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(1, [512, 0n]))),
  },
  {
    rule: "status-style",
    use: status,
    wrongs: replies((r) => chunk(r, CHUNK.BLOCK_STATUS, statusOf([512, 0]))),
  },
  {
    rule: "status-style",
    style: "structured",
    use: status,
    wrongs: replies((r) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(1, [512, 0n]))),
  },
  {
    rule: "status-length",
    use: status,
    wrongs: replies((r) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(0))),
  },
  {
    rule: "status-length",
    what: "a broken one",
    use: status,
    wrongs: replies((r) =>
      chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(1, [512, 0n]).subarray(1)),
    ),
  },
  {
    rule: "status-length",
    what: "endless",
    use: status,
    wrongs: replies((r) =>
      chunk(r, CHUNK.BLOCK_STATUS_EXT).fill(u64(8n + 16n * (2n ** 20n + 1n)), 24, 32),
    ),
  },
  {
    rule: "status-count",
    use: status,
    wrongs: replies((r) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(2, [512, 0n]))),
  },
  {
    rule: "status-context",
    use: status,
    wrongs: replies((r) =>
      chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(1, [512, 0n]).fill(1, 0, 4)),
    ),
  },
  {
    rule: "status-duplicate",
    use: status,
    wrongs: replies((r) =>
      joined(
        [0, 1].map((last) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(1, [512, 0n]), last)),
      ),
    ),
  },
  { rule: "status-missing", use: status, wrongs: replies((r) => chunk(r, CHUNK.NONE)) },
  {
    rule: "status-empty",
    use: status,
    wrongs: replies((r) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(2, [512, 0n], [0, 1n]))),
  },
  {
    rule: "status-range",
    use: status,
    wrongs: replies((r) =>
      chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(2, [1024, 0n], [512, 1n])),
    ),
  },
  {
    rule: "status-end",
    use: status,
    wrongs: replies((r) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(1, [65536, 0n]))),
  },
  {
    rule: "status-aligned",
    use: status,
    wrongs: {
      blockSizes: [512, 4096, 65536],
      reply: (r) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(2, [500, 0n], [524, 1n])),
    },
  },
  {
    rule: "status-bits",
    use: status,
    wrongs: replies((r) => chunk(r, CHUNK.BLOCK_STATUS_EXT, extendedStatus(1, [1024, 2n ** 32n]))),
  },
  { rule: "error-length", wrongs: replies((r) => chunk(r, CHUNK.ERROR, u32(5))) },
  {
    rule: "error-length",
    what: "of its message",
    wrongs: replies((r) => chunk(r, CHUNK.ERROR, failure(ERRNO.EIO, NONE, 1))),
  },
  {
    rule: "error-length",
    what: "a rest",
    wrongs: replies((r) => chunk(r, CHUNK.ERROR, joined([failure(ERRNO.EIO, NONE), u16(0)]))),
  },
  {
    rule: "error-length",
    what: "endless",
    wrongs: replies((r) => chunk(r, CHUNK.ERROR).fill(u64(2n ** 40n), 24, 32)),
  },
  {
    rule: "string-length",
    what: "an error's",
    wrongs: replies((r) => chunk(r, CHUNK.ERROR, failure(ERRNO.EIO, Buffer.alloc(4097, 65)))),
  },
  {
    rule: "string-utf8",
    what: "an error's",
    wrongs: replies((r) => chunk(r, CHUNK.ERROR, failure(ERRNO.EIO, Buffer.from([0xfe])))),
  },
  { rule: "error-zero", wrongs: replies((r) => chunk(r, CHUNK.ERROR, failure(0, NONE))) },
  {
    rule: "error-offset",
    wrongs: replies((r) =>
      chunk(r, CHUNK.ERROR_OFFSET, joined([failure(ERRNO.EIO, NONE), u64(1024)])),
    ),
  },
];
