// What a wrong name was probably meant to be.

import { describe, expect, test } from "vitest";
import { didYouMean, editDistance, nearestName } from "../../../src/config/nearest.js";

describe("the distance between names", () => {
  test.each([
    ["", "", 0],
    ["", "abc", 3],
    ["abc", "", 3],
    ["pwrite", "pwrite", 0],
    ["pwrit", "pwrite", 1],
    ["memroy", "memory", 1], // two letters that changed places
    ["kitten", "sitting", 3],
    ["ca", "abc", 3],
  ])("from %j to %j is %i", (from, to, distance) => {
    expect(editDistance(from, to)).toBe(distance);
    expect(editDistance(to, from)).toBe(distance);
  });
});

describe("the nearest name", () => {
  const callbacks = ["pread", "pwrite", "flush", "trim", "zero", "getSize"];

  test.each([
    ["pwrit", "pwrite"],
    ["Flush", "flush"],
    ["get_size", "getSize"],
    ["p_read", "pread"],
    ["tirm", "trim"],
  ])("of %s is %s", (wrong, right) => {
    expect(nearestName(wrong, callbacks)).toBe(right);
  });

  test.each(["version", "x", "", "constructor", "p".repeat(1e6)])("of %.20s is none", (wrong) => {
    expect(nearestName(wrong, callbacks)).toBeUndefined();
  });

  test("is the closest one, not the first that is close", () => {
    expect(nearestName("delay-writ", ["delay-wrote", "delay-write"])).toBe("delay-write");
  });
});

describe("the end of a message", () => {
  test("names the nearest name in the caller's spelling", () => {
    expect(didYouMean("raedonly", ["readonly"])).toBe('; did you mean "readonly"?');
    expect(didYouMean("raedonly", ["readonly"], (name) => `--${name}`)).toBe(
      "; did you mean --readonly?",
    );
  });

  test("is empty if nothing is similar", () => {
    expect(didYouMean("zzz", ["readonly"])).toBe("");
  });
});
