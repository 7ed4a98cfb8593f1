// The handshake's state machine, fed with bytes from memory: every path. test/fuzz has any bytes at all.

import { describe, expect, test } from "vitest";
import { u32 } from "../../support/bytes.js";
import { client, kinds, negotiate, replies, types } from "../../support/negotiation.js";
import { INFO, OPT, REP } from "../../support/protocol.js";
import { encodeOption, goData } from "../../support/raw-client.js";

const { ACK, SERVER, ERR_UNSUP, ERR_INVALID, ERR_PLATFORM, ERR_UNKNOWN, ERR_TOO_BIG } = REP;

describe("the greeting", () => {
  test("offers the fixed newstyle and no zeroes", () => {
    const { sent } = negotiate(Buffer.alloc(0));
    expect(sent.toString("hex")).toBe("4e42444d4147494349484156454f50540003");
  });

  test("offers fewer flags under a mask", () => {
    const { sent } = negotiate(Buffer.alloc(0), {}, { handshakeFlagsMask: 1 });
    expect(sent.readUInt16BE(16)).toBe(1);
  });

  test.each([4, 0x80000000, 0x10003])(
    "ends for client flags 0x%s that were not offered",
    (flags) => {
      const run = negotiate(Buffer.concat([u32(flags), encodeOption(OPT.ABORT)]));
      expect(run.outcome.kind).toBe("close");
      expect(replies(run)).toEqual([]);
    },
  );
});

describe("NBD_OPT_EXPORT_NAME", () => {
  const name = Buffer.from("disk");

  test("gives size and flags without zeroes, and transmission begins", () => {
    const run = negotiate(client(encodeOption(OPT.EXPORT_NAME, name)));
    expect(run.outcome).toMatchObject({ kind: "transmit", flags: 0x16d, replyStyle: "simple" });
    expect(run.sent.subarray(18).toString("hex")).toBe("00000000075bcd15016d");
  });

  test.each([0, 1])("gives 124 zeroes to a client with flags %d", (flags) => {
    const run = negotiate(Buffer.concat([u32(flags), encodeOption(OPT.EXPORT_NAME, name)]));
    expect(run.outcome.kind).toBe("transmit");
    expect(run.sent).toHaveLength(18 + 10 + 124);
  });

  test.each([
    ["an export that cannot be opened", name, { opens: null }],
    ["a name that is not UTF-8", Buffer.from([0xff, 0xfe]), {}],
    ["a name with NUL", Buffer.from("a\0b"), {}],
    ["a name of 4097 bytes", Buffer.alloc(4097, "a"), {}],
  ])("closes for %s", (_what, data, world) => {
    const run = negotiate(client(encodeOption(OPT.EXPORT_NAME, data)), world);
    expect(run.outcome.kind).toBe("close");
    expect(replies(run)).toEqual([]);
  });
});

describe("NBD_OPT_GO and NBD_OPT_INFO", () => {
  test("GO describes the export, acknowledges and begins transmission", () => {
    const run = negotiate(client(encodeOption(OPT.GO, goData("disk"))));
    expect(types(run)).toEqual([REP.INFO, ACK]);
    expect(replies(run)[0]?.[2].toString("hex")).toBe("000000000000075bcd15016d");
    expect(run.outcome).toMatchObject({ kind: "transmit", flags: 0x16d, replyStyle: "simple" });
    expect(kinds(run)).not.toContain("closeExport");
  });

  test("INFO closes the export again, and option haggling goes on", () => {
    const run = negotiate(
      client(
        encodeOption(OPT.INFO, goData("disk")),
        encodeOption(OPT.INFO, goData("disk")),
        encodeOption(OPT.ABORT),
      ),
    );
    expect(types(run)).toEqual([REP.INFO, ACK, REP.INFO, ACK, ACK]);
    expect(kinds(run).filter((kind) => kind === "closeExport")).toHaveLength(2);
  });

  test("give the requested information, and ignore unknown kinds", () => {
    const infos = [3, 1, 2, 0, 77, 1];
    const run = negotiate(client(encodeOption(OPT.GO, goData("", infos))), {
      description: "a disk",
      sizes: [512, 4096, 65536],
    });
    const given = replies(run)
      .slice(0, -1)
      .map(([, , data]) => [data.readUInt16BE(0), data.subarray(2)]);
    expect(given.slice(1)).toEqual([
      [1, Buffer.from("canonical")],
      [2, Buffer.from("a disk")],
      [3, Buffer.from("000002000000100000010000", "hex")],
    ]);
  });

  test("state the server's own block sizes for a plugin that has none", () => {
    const run = negotiate(client(encodeOption(OPT.GO, goData("", [INFO.BLOCK_SIZE]))));
    expect(replies(run)[1]?.[2].toString("hex")).toBe("0003000000010000100004000000");
  });

  test("leave out a description that is empty or too long", () => {
    for (const description of ["", "x".repeat(4097)])
      expect(
        types(
          negotiate(client(encodeOption(OPT.GO, goData("", [INFO.DESCRIPTION]))), { description }),
        ),
      ).toEqual([REP.INFO, ACK]);
  });

  test("answer NBD_REP_ERR_UNKNOWN for an export that cannot be opened, and go on", () => {
    const run = negotiate(client(encodeOption(OPT.GO, goData("nope")), encodeOption(OPT.ABORT)), {
      opens: null,
    });
    expect(types(run)).toEqual([ERR_UNKNOWN, ACK]);
    expect(kinds(run)).not.toContain("closeExport");
  });

  test("answer NBD_REP_ERR_UNKNOWN and close the export if its block sizes are unavailable", () => {
    const run = negotiate(
      client(encodeOption(OPT.GO, goData("x", [INFO.BLOCK_SIZE])), encodeOption(OPT.ABORT)),
      {
        sizes: null,
      },
    );
    expect(types(run)).toEqual([ERR_UNKNOWN, ACK]);
    expect(kinds(run)).toContain("closeExport");
  });

  test.each([
    ["no data", Buffer.alloc(0)],
    ["half a length", Buffer.alloc(3)],
    ["a name longer than the data", Buffer.concat([u32(100), Buffer.from("abc\0\0")])],
    ["a name of nearly 4 GiB", Buffer.concat([u32(0xffffffff), Buffer.alloc(10)])],
    ["fewer infos than counted", Buffer.concat([u32(0), Buffer.from([0, 2, 0, 1])])],
    ["more bytes than counted", Buffer.concat([goData("x"), Buffer.alloc(1)])],
    ["a name with NUL", goData("a\0b")],
    ["a name that is not UTF-8", Buffer.concat([u32(1), Buffer.from([0xff, 0, 0])])],
    ["a name of 4097 bytes", goData("a".repeat(4097))],
  ])("answer NBD_REP_ERR_INVALID to %s, and go on", (_what, data) => {
    const run = negotiate(client(encodeOption(OPT.GO, data), encodeOption(OPT.ABORT)));
    expect(types(run)).toEqual([ERR_INVALID, ACK]);
    expect(kinds(run)).not.toContain("openExport");
  });
});

describe("NBD_OPT_LIST", () => {
  test("gives each export and its description, then acknowledges", () => {
    const exports = [
      { name: "a", description: "" },
      { name: "ü", description: "second" },
    ];
    const run = negotiate(client(encodeOption(OPT.LIST), encodeOption(OPT.ABORT)), { exports });
    expect(types(run)).toEqual([SERVER, SERVER, ACK, ACK]);
    expect(replies(run)[1]?.[2].toString("hex")).toBe("00000002c3bc7365636f6e64");
  });

  test("with data is invalid", () => {
    expect(
      types(negotiate(client(encodeOption(OPT.LIST, Buffer.from("x")), encodeOption(OPT.ABORT)))),
    ).toEqual([ERR_INVALID, ACK]);
  });

  test("that fails is answered NBD_REP_ERR_PLATFORM", () => {
    expect(
      types(negotiate(client(encodeOption(OPT.LIST), encodeOption(OPT.ABORT)), { exports: null })),
    ).toEqual([ERR_PLATFORM, ACK]);
  });
});

describe("other options", () => {
  test.each([4, 12, 0, 0xffffffff])("%d is unsupported, its data skipped", (number) => {
    const run = negotiate(client(encodeOption(number, Buffer.alloc(70)), encodeOption(OPT.ABORT)));
    expect(types(run)).toEqual([ERR_UNSUP, ACK]);
    expect(replies(run)[0]?.[0]).toBe(number);
  });

  test("NBD_OPT_ABORT is acknowledged, with data or without, and ends the handshake", () => {
    for (const data of [Buffer.alloc(0), Buffer.from("bye")]) {
      const run = negotiate(client(encodeOption(OPT.ABORT, data), encodeOption(OPT.LIST)));
      expect(types(run)).toEqual([ACK]);
      expect(run.outcome.kind).toBe("close");
    }
  });

  test("an option with more data than it can have is skipped and NBD_REP_ERR_TOO_BIG", () => {
    const run = negotiate(
      client(encodeOption(OPT.GO, Buffer.alloc(200_000)), encodeOption(OPT.ABORT)),
    );
    expect(types(run)).toEqual([ERR_TOO_BIG, ACK]);
  });

  test("an option that claims more than 64 MiB ends the handshake at once", () => {
    const run = negotiate(client(encodeOption(OPT.GO, Buffer.alloc(10), 64 * 2 ** 20 + 1)));
    expect(run.outcome.kind).toBe("close");
    expect(kinds(run)).not.toContain("skip");
  });

  test("a wrong magic number ends the handshake", () => {
    const run = negotiate(Buffer.concat([u32(3), Buffer.alloc(16, 1)]));
    expect(run.outcome.kind).toBe("close");
    expect(replies(run)).toEqual([]);
  });

  test("a client without fixed newstyle may send NBD_OPT_EXPORT_NAME only", () => {
    const run = negotiate(
      Buffer.concat([
        u32(0),
        encodeOption(OPT.LIST),
        encodeOption(OPT.EXPORT_NAME, Buffer.from("x")),
      ]),
    );
    expect(types({ ...run, sent: run.sent.subarray(0, -134) })).toEqual([ERR_INVALID]);
    expect(run.outcome.kind).toBe("transmit");
  });

  test("the 1025th option ends the handshake", () => {
    const run = negotiate(client(...Array<Buffer>(1025).fill(encodeOption(OPT.LIST))));
    expect(run.outcome.kind).toBe("close");
    expect(kinds(run).filter((kind) => kind === "listExports")).toHaveLength(1024);
  });
});
