// How a server breaks the rules of the handshake.

import { joined, u16, u32, u64 } from "../../support/bytes.js";
import { EXPORT_FLAG, INFO, OPT, REP } from "../../support/protocol.js";
import { FLAGS, optionReply, type Wrongs } from "../../support/wrong-server.js";
import { type Break, NONE } from "./break.js";

const { GO, LIST, SET_META_CONTEXT } = OPT;

/** Replies to one option. */
const to = (option: number, ...replies: [type: number, data: Buffer][]): Wrongs => ({
  option: (asked) =>
    asked === option
      ? joined(replies.map(([type, data]) => optionReply(option, type, data)))
      : undefined,
});

const info = (sizeBytes: number, flags: number): Buffer =>
  joined([u16(INFO.EXPORT), u64(sizeBytes), u16(flags)]);

const context = (id: number, name: string): Buffer => joined([u32(id), Buffer.from(name)]);

export const HANDSHAKE_BREAKS: readonly Break[] = [
  { rule: "greeting-magic", wrongs: { greeting: Buffer.from("HTTP/1.1 400 Bad Request\r\n") } },
  {
    rule: "greeting-magic",
    what: "its second half",
    wrongs: { greeting: Buffer.from("NBDMAGICNBDMAGIC\0\x03") },
  },
  {
    rule: "option-reply-magic",
    wrongs: { option: () => Buffer.alloc(20, 3) },
  },
  { rule: "option-reply-option", wrongs: { option: (option) => optionReply(option + 1, 1) } },
  { rule: "option-reply-type", wrongs: to(GO, [REP.SERVER, u32(0)]) },
  { rule: "option-reply-type", what: "an unknown one", wrongs: to(GO, [77, NONE]) },
  { rule: "option-reply-length", wrongs: to(GO, [REP.ACK, u32(0)]) },
  {
    rule: "option-reply-length",
    what: "information",
    wrongs: to(GO, [REP.INFO, info(1, EXPORT_FLAG.HAS_FLAGS).subarray(1)]),
  },
  { rule: "option-reply-length", what: "no type", wrongs: to(GO, [REP.INFO, Buffer.alloc(1)]) },
  { rule: "option-reply-length", what: "too long", wrongs: to(GO, [REP.INFO, Buffer.alloc(9000)]) },
  {
    rule: "option-reply-length",
    what: "a context without a name",
    wrongs: to(SET_META_CONTEXT, [REP.META_CONTEXT, u16(0)]),
  },
  {
    rule: "option-reply-length",
    what: "a name",
    lists: true,
    wrongs: to(LIST, [REP.SERVER, u32(5)]),
  },
  { rule: "string-length", wrongs: to(GO, [REP.ERR_INVALID, Buffer.alloc(4097, 65)]) },
  {
    rule: "string-length",
    what: "a description",
    wrongs: to(GO, [REP.INFO, joined([u16(INFO.DESCRIPTION), Buffer.alloc(4097, 65)])]),
  },
  { rule: "string-utf8", wrongs: to(GO, [REP.ERR_INVALID, Buffer.from([0xff])]) },
  {
    rule: "string-utf8",
    what: "a name",
    lists: true,
    wrongs: to(LIST, [REP.SERVER, joined([u32(1), Buffer.from([0xc0])])]),
  },
  { rule: "info-export", wrongs: to(GO, [REP.ACK, NONE]) },
  { rule: "block-size-minimum", wrongs: { blockSizes: [3, 4096, 65536] } },
  { rule: "block-size-minimum", what: "zero", wrongs: { blockSizes: [0, 4096, 65536] } },
  { rule: "block-size-minimum", what: "huge", wrongs: { blockSizes: [131072, 131072, 2 ** 20] } },
  { rule: "block-size-preferred", wrongs: { blockSizes: [1, 256, 65536] } },
  { rule: "block-size-preferred", what: "minimum", wrongs: { blockSizes: [4096, 512, 65536] } },
  { rule: "block-size-maximum", wrongs: { blockSizes: [1, 4096, 512] } },
  { rule: "has-flags", wrongs: { flags: FLAGS & ~EXPORT_FLAG.HAS_FLAGS } },
  { rule: "flag-df", style: "simple", wrongs: { flags: FLAGS | EXPORT_FLAG.SEND_DF } },
  {
    rule: "flag-fast-zero",
    wrongs: { flags: (FLAGS | EXPORT_FLAG.SEND_FAST_ZERO) & ~EXPORT_FLAG.SEND_WRITE_ZEROES },
  },
  {
    rule: "flag-status-payload",
    style: "structured",
    wrongs: { flags: FLAGS | EXPORT_FLAG.BLOCK_STATUS_PAYLOAD },
  },
  {
    rule: "context-id",
    wrongs: to(
      SET_META_CONTEXT,
      [REP.META_CONTEXT, context(1, "base:allocation")],
      [REP.META_CONTEXT, context(1, "x:y")],
      [REP.ACK, NONE],
    ),
  },
  {
    rule: "context-asked",
    wrongs: to(SET_META_CONTEXT, [REP.META_CONTEXT, context(1, "x:z")], [REP.ACK, NONE]),
  },

  {
    rule: "disconnect-reply",
    use: (client) => client.close(),
    wrongs: { farewell: Buffer.from("goodbye") },
  },
];
