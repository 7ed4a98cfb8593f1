import { describe, expect, test } from "vitest";
import { parseParameters } from "../../../src/config/parameters.js";

describe("parameters", () => {
  test.each([
    ["size=1G", "size", "1G"],
    ["a.b-c_d=", "a.b-c_d", ""],
    ["key=a=b", "key", "a=b"],
    ["key=two\nlines", "key", "two\nlines"],
  ])("%j is KEY=VALUE", (word, key, value) => {
    expect(parseParameters([word], "magic")).toEqual([{ key, value }]);
  });

  test.each(["1G", "1=2", "./a=b.img", "=x", "", "-k=v", "ü=1"])(
    "%j is a bare value, for the magic key",
    (word) => {
      expect(parseParameters([word], "magic")).toEqual([{ key: "magic", value: word }]);
    },
  );

  test("the magic key takes every bare word, wherever it stands", () => {
    expect(parseParameters(["1M", "key=v", "2M"], "size")).toEqual([
      { key: "size", value: "1M" },
      { key: "key", value: "v" },
      { key: "size", value: "2M" },
    ]);
  });

  test("without a magic key only the first word may be bare, and is the script", () => {
    expect(parseParameters(["x.py", "a=b"], undefined)).toEqual([
      { key: "script", value: "x.py" },
      { key: "a", value: "b" },
    ]);
    expect(() => parseParameters(["a=b", "x.py"], undefined)).toThrow('"x.py"');
    expect(() => parseParameters(["1G"], undefined, false)).toThrow('"1G"'); // in TypeScript
  });
});
