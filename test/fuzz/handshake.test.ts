// Any bytes at all, and options of any kind in any order, to the handshake's state machine.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { HandshakeSettings } from "../../src/handshake/machine.js";
import { fuzzMs, fuzzTimeoutMs } from "../support/fuzz.js";
import { client, kinds, negotiate, type Run, replies, type World } from "../support/negotiation.js";
import { OPT } from "../support/protocol.js";
import { encodeOption, goData } from "../support/raw-client.js";
import { contextQueries } from "../support/strict-client.js";

const KNOWN = [1, 2, 3, 5, 6, 7, 8, 9, 10, 11];
const { EXPORT_NAME } = OPT;

const anyName = fc.oneof(fc.constantFrom("", "x"), fc.string({ unit: "binary", maxLength: 40 }));

/** Data that an option might well have. */
const likelyData = fc.oneof(
  fc.constant(Buffer.alloc(0)),
  fc.tuple(anyName, fc.array(fc.nat(5))).map(([name, infos]) => goData(name, infos)),
  fc
    .tuple(anyName, fc.array(fc.constantFrom("base:allocation", "base:", "x-a:b", "x-a:", "z")))
    .map(([name, queries]) => contextQueries(name, ...queries)),
  anyName.map((name) => Buffer.from(name)),
);

/** With some bytes changed or cut off. */
const damaged = fc
  .tuple(likelyData, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }), fc.nat(20))
  .map(([data, changes, cut]) => {
    const bytes = Buffer.from(data);
    for (const [at, value] of changes) if (bytes.length > 0) bytes[at % bytes.length] = value;
    return cut < 4 ? bytes.subarray(0, Math.max(0, bytes.length - cut)) : bytes;
  });

const anyOption = fc
  .tuple(
    fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...KNOWN) }, fc.nat(20)),
    fc.oneof(
      likelyData,
      damaged,
      fc.uint8Array({ maxLength: 64 }).map((data) => Buffer.from(data)),
    ),
    fc.option(fc.nat(2 ** 27), { freq: 20 }),
  )
  .map(([number, data, length]) => encodeOption(number, data, length ?? data.length));

const anyClient = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  fc.array(anyOption, { maxLength: 12 }).map((options) => client(...options)),
);

const anyWorld: fc.Arbitrary<World> = fc.record(
  {
    opens: fc.constant(null),
    exports: fc.constant(null),
    sizes: fc.constantFrom(null, [512, 4096, 1 << 20] as const),
    contexts: fc.constantFrom(
      null,
      [{ name: "x-a:b", bits: 32 as const, number: 1 }],
      [{ name: "x-a:c", bits: 64 as const, number: 2 }],
    ),
    tlsFails: fc.boolean(),
  },
  { requiredKeys: [] },
);

const anySettings: fc.Arbitrary<Partial<HandshakeSettings>> = fc.record(
  {
    tls: fc.constantFrom("off", "on", "require"),
    structuredReplies: fc.boolean(),
    extendedHeaders: fc.boolean(),
    metaContexts: fc.boolean(),
    handshakeFlagsMask: fc.nat(3),
  },
  { requiredKeys: [] },
);

/** After NBD_OPT_EXPORT_NAME come bytes that are no reply to an option. */
const hasExportName = ({ outcome, sent }: Run): boolean =>
  outcome.kind === "transmit" && sent.readUInt32BE(sent.length - 4) !== 0;

function check(run: Run, settings: Partial<HandshakeSettings>): void {
  const opened = kinds(run).filter((kind) => kind === "openExport").length;
  const closed = kinds(run).filter((kind) => kind === "closeExport").length;
  const failed = run.effects.length; // an upper bound of those that could not be opened
  expect(opened - closed).toBeLessThanOrEqual(failed);
  for (const effect of run.effects)
    if (effect.kind === "read") expect(effect.bytes).toBeLessThanOrEqual(140_000);
  expect(kinds(run).filter((kind) => kind === "upgradeTls").length).toBeLessThanOrEqual(1);
  const { outcome } = run;
  if (outcome.kind !== "transmit") return;
  if (settings.tls === "require") expect(kinds(run)).toContain("upgradeTls");
  if (settings.structuredReplies === false) expect(outcome.replyStyle).not.toBe("structured");
  if (settings.extendedHeaders === false) expect(outcome.replyStyle).not.toBe("extended");
  if (outcome.replyStyle === "simple") expect(outcome.contexts).toEqual([]);
  expect(new Set(outcome.contexts.map(({ id }) => id)).size).toBe(outcome.contexts.length);
}

test(
  "any client gets an outcome that fits what was agreed, and whole replies",
  () => {
    fc.assert(
      fc.property(anyClient, anyWorld, anySettings, (input, world, settings) => {
        const run = negotiate(input, world, settings);
        check(run, settings);
        const isOption = run.sent.length > 18 && !input.includes(EXPORT_NAME);
        if (isOption && !hasExportName(run))
          for (const [, type] of replies(run)) expect(type & 0x7fff_0000).toBe(0);
      }),
      { numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: fuzzMs, endOnFailure: true },
    );
  },
  fuzzTimeoutMs,
);

test(
  "every opened export is closed, unless it is served",
  () => {
    fc.assert(
      fc.property(anyClient, (input) => {
        const run = negotiate(input);
        const opened = kinds(run).filter((kind) => kind === "openExport").length;
        const closed = kinds(run).filter((kind) => kind === "closeExport").length;
        expect(opened - closed).toBe(run.outcome.kind === "transmit" ? 1 : 0);
      }),
      { numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: fuzzMs, endOnFailure: true },
    );
  },
  fuzzTimeoutMs,
);

test("what comes after the handshake belongs to the transmission phase", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (rest) => {
      const run = negotiate(
        Buffer.concat([client(encodeOption(OPT.GO, goData("x"))), Buffer.from(rest)]),
      );
      expect(run.unread).toEqual(Buffer.from(rest));
    }),
  );
});
