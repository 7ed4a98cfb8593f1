import { describe, expect, test } from "vitest";
import { parseLine } from "../../../src/cli/getopt.js";
import { OPTIONS } from "../../../src/cli/options.js";

const parse = (...words: string[]) => parseLine(words, OPTIONS, true);

describe("a command line", () => {
  test("has options and operands in any order", () => {
    const { options, operands } = parse("memory", "-r", "1G", "--run", "true", "x=y");
    expect(operands).toEqual(["memory", "1G", "x=y"]);
    expect(options.has("read-only")).toBe(true);
    expect(options.last("run")).toBe("true");
  });

  test("has only operands after --, and a single dash is one", () => {
    expect(parse("-r", "--", "-v", "-").operands).toEqual(["-v", "-"]);
    expect(parse("-U", "-", "-").operands).toEqual(["-"]);
  });

  test("ends its options at the first operand for POSIX", () => {
    const { options, operands } = parseLine(["-r", "memory", "-v"], OPTIONS, false);
    expect(operands).toEqual(["memory", "-v"]);
    expect(options.has("verbose")).toBe(false);
  });

  test.each([
    [["-rfv"], ["read-only", "foreground", "verbose"]],
    [["--foregr"], ["foreground"]],
    [["--readonly"], ["read-only"]],
    [["--no-fork"], ["foreground"]],
    [["--stdin"], ["single"]],
    [["--export=x"], ["exportname"]],
    [["--pid-file", "x"], ["pidfile"]],
  ])("%j gives %j", (words, names) => {
    const { options } = parse(...words);
    for (const name of names) expect([name, options.has(name)]).toEqual([name, true]);
  });

  test.each([
    [["-p1234"], "port", "1234"],
    [["-fp", "1234"], "port", "1234"],
    [["--port=1", "--port", "2"], "port", "2"],
    [["--run="], "run", ""],
    [["--run", "--help"], "run", "--help"],
  ])("%j sets %s to %j", (words, name, value) => {
    expect(parse(...words).options.last(name)).toBe(value);
  });

  test.each([
    [["--nosuch"], "--nosuch"],
    [["-Z"], "-Z"],
    [["--port"], "--port"],
    [["-fp"], "-p"],
    [["--foreground=yes"], "--foreground"],
    [["--ex"], "ambiguous"],
  ])("%j is a mistake, and the message names it", (words, named) => {
    expect(() => parse(...words)).toThrow(named);
  });

  test("aliases of one option do not make an abbreviation ambiguous", () => {
    expect(parse("--exp", "x").options.last("exportname")).toBe("x");
  });
});

test("no two options share a name, an alias or a letter", () => {
  const names = OPTIONS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])]);
  const letters = OPTIONS.flatMap(({ short }) => short ?? []);
  expect(new Set(names).size).toBe(names.length);
  expect(new Set(letters).size).toBe(letters.length);
});
