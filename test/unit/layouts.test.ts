// What TypeScript and native code share in memory lies where both think.

import { expect, test } from "vitest";
import { addon } from "../../src/addon/addon.js";
import * as batch from "../../src/plugins/script/batch-layout.js";
import { OPERATIONS } from "../../src/protocol.js";
import { FIGURES, MAX_EXPORTS } from "../../src/server/statistics.js";

const { submission, completion, script, counts } = addon().layouts;
const words = (count: number): number => count * Uint32Array.BYTES_PER_ELEMENT;
const doubles = (count: number): number => count * Float64Array.BYTES_PER_ELEMENT;

test("submissions to a bridge have the same layout on both sides", () => {
  expect(doubles(batch.SUBMISSION_DOUBLES)).toBe(words(batch.SUBMISSION_WORDS));
  expect(submission).toEqual({
    bytes: words(batch.SUBMISSION_WORDS),
    offset: doubles(batch.OFFSET),
    lengthBytes: doubles(batch.LENGTH_BYTES),
    operation: words(batch.OPERATION),
    connection: words(batch.CONNECTION),
    slot: words(batch.SLOT),
    command: words(batch.COMMAND),
    flags: words(batch.FLAGS),
  });
});

test("completions of a bridge have the same layout on both sides", () => {
  expect(completion).toEqual({
    bytes: words(batch.COMPLETION_WORDS),
    operation: words(0),
    outcome: words(1),
  });
});

test("a bridge's events and flags are the same on both sides", () => {
  expect(script).toEqual({
    clientGone: batch.CLIENT_GONE,
    close: batch.CLOSE,
    mayHaveHoles: batch.MAY_HAVE_HOLES,
    noSlot: batch.NO_SLOT,
    keepsSlot: batch.KEEPS_SLOT,
    freesSlot: batch.FREES_SLOT,
  });
});

test("a connection's counters are as many on both sides", () => {
  const commands = Math.max(...Object.values(OPERATIONS)) + 1;
  expect(counts).toEqual({ commands, figures: FIGURES, exports: MAX_EXPORTS });
});
