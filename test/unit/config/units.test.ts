// Sizes and times as people write them.

import { expect, test } from "vitest";
import { formatSize, parseSize } from "../../../src/config/size.js";
import { formatTimeMs, parseTimeMs } from "../../../src/config/time.js";

test.each([
  [0, "0"],
  [512, "512"],
  [1000, "1000"],
  [1024, "1K"],
  [1536, "1536"],
  [4194304, "4M"],
  [2 ** 60, "1E"],
])("%i bytes are %s", (bytes, text) => {
  expect(formatSize(bytes)).toBe(text);
  expect(parseSize(text)).toBe(bytes);
});

test.each([
  [0, "0s"],
  [500, "500ms"],
  [30_000, "30s"],
  [1.5, "1500us"],
  [0.05, "50us"],
])("%d ms are %s", (ms, text) => {
  expect(formatTimeMs(ms)).toBe(text);
  expect(parseTimeMs(text)).toBeCloseTo(ms, 9);
});
