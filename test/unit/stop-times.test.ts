// How the grace of a stop is divided.

import { expect, test } from "vitest";
import { stopTimes } from "../../src/server/stop-times.js";

test.each([
  [30_000, { answersMs: 29_000, cutMs: 29_500, endMs: 30_000 }],
  [2_000, { answersMs: 1_500, cutMs: 1_750, endMs: 2_000 }],
  [300, { answersMs: 300, cutMs: 750, endMs: 1_000 }],
  [0, { answersMs: 0, cutMs: 750, endMs: 1_000 }],
])("requests get the part of %d ms of grace that closing leaves", (graceMs, times) => {
  expect(stopTimes(graceMs)).toEqual(times);
});
