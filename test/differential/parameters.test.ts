// The same parameters of plugins for nbdkit and asyncnbd: the same exit status and the same output.

import { describe, expect, test } from "vitest";
import { debianPlugin } from "../support/server.js";
import {
  both,
  expectSame,
  MEMORY,
  type Result,
  SIZE_AND_MODE,
  sized,
  sizedLast,
} from "./same-lines.js";

const ACCEPTED_SIZES = [
  ...["1", "0", "+5", "08", " 1", "4294967296", "9007199254740993", "9223372036854775807"],
  ...["1b", "1B", "1s", "1S", "1k", "1K", "1m", "1M", "1g", "1G", "1t", "1T", "1p", "1P"],
  ...["1e", "7E", "8191P", "size=512M", "-0"],
];

const REFUSED_SIZES = [
  ...["8E", "8192P", "9223372036854775808", "99999999999999999999", "-1", "-1k", "--1", "++1"],
  ...["1q", "1KiB", "1MB", "1 G", "1 ", "1\n", "1.5G", "1,5", "1_000", "1e3", "0x10", "inf"],
  ...["G", "size", "", "size=", "1k5", "٣", "size=size=1"],
];

const PARAMETERS: string[][] = [
  [],
  ["1=2"],
  ["=1M"],
  ["="],
  ["1M="],
  ["9a=1"],
  ["_a=1"],
  ["-a=1", "1M"],
  ["SIZE=1M"],
  ["size =1M"],
  ["1M", "2M"],
  ["size=1M", "2M"],
  ["2M", "size=1M"],
  ["size=1M", "size=2M"],
  ["nosuch=1", "1M"],
  ["a.b-c_d=1", "1M"],
  ["a b=1", "1M"],
  ["1M", "size"],
  ["1M", "allocator=sparse"],
  ["1M", "allocator=zstd"],
  ["1M", "allocator=nosuch"],
  ["1M", ""],
];

describe("parameters", () => {
  test.concurrent.each(ACCEPTED_SIZES)("memory %j", async (word) => {
    expect(await expectSame(sizedLast(MEMORY, word))).toBe(0);
  });

  test.concurrent.each(REFUSED_SIZES)("memory %j, not a size", async (word) => {
    expect(await expectSame(sizedLast(MEMORY, word))).toBe(1);
  });

  test.concurrent.each(PARAMETERS.map((words) => [words]))("memory %j", async (words) => {
    await expectSame(sized(MEMORY, ...words));
  });

  const others: [string, string[]][] = [
    ["sh", ["disk.sh"]],
    ["sh", ["./disk.sh"]],
    ["sh", ["script=disk.sh"]],
    ["sh", ["script=disk.sh", "key=value"]],
    ["sh", ["disk.sh", "key=", "key=a=b"]],
    ["sh", ["disk.sh", "nosuch=value"]],
    ["sh", ["disk.sh", "bare"]],
    ["sh", ["key=value", "disk.sh"]],
    ["sh", ["disk.sh", "script=disk.sh"]],
    ["sh", ["/nonexistent/script"]],
    ["sh", ["no-script"]],
    ["sh", ["dir"]],
    ["sh", []],
    ["eval", ["get_size=echo 1M", "pread=exit 0"]],
    ["eval", ["get_size=echo 1M"]],
    ["eval", ["bare"]],
    ["file", ["disk.img"]],
    ["file", ["file=disk.img"]],
    ["file", ["a=b.img"]],
    ["file", ["./a=b.img"]],
    ["file", ["file=a=b.img"]],
    ["file", ["missing.img"]],
    ["file", ["dir"]],
    ["file", ["disk.img", "disk.img"]],
    ["file", ["disk.img", "dir=."]],
    ["file", ["disk.img", "fadvise=nosuch"]],
    ["file", []],
    ["data", ["1 2 3"]],
    ["data", ["@0x10 1"]],
    ["data", ["bad("]],
    ["data", ["raw=abc", "size=1M"]],
    ["data", ["base64=AAAA", "1"]],
    ["null", []],
    ["null", ["1M", "1M"]],
    ["zero", ["1M"]],
    ["example1", []],
    ["example2", ["disk.img"]],
    ["ondemand", ["dir=.", "1M"]],
    ["info", ["mode=exportname"]],
    ["split", ["disk.img", "disk.img"]],
    ["partitioning", ["disk.img"]],
    ["floppy", ["dir"]],
  ];
  test.concurrent.each(others)("%s %j", async (plugin, words) => {
    await expectSame(sized(debianPlugin(plugin), ...words));
  });

  test.concurrent.each([
    ["dir=dir"],
    ["directory=dir"],
    ["directory=missing"],
    ["directory=dir", "disk.img"],
  ])("file %s %s, each server's own plugin", async (...words) => {
    await expectSame(["-U", "-", "file", ...words.filter(Boolean), "--run", "exit 3"]);
  });

  test.concurrent.each([
    [sized("example4", "size=1048576")],
    [sized("example4", "script=x")],
    [["-U", "-", "-r", "--run", SIZE_AND_MODE, "--", "example4", "size=1048576"]],
    [["-U", "-", "example4", "--run", "true"]],
  ])("a program named nbdkit-example4-plugin: %j", async (line) => {
    await expectSame(line);
  });

  test.concurrent.each(["example4", "S3"])("--dump-plugin of the program %s", async (name) => {
    const { nbdkit: theirs, asyncnbd: ours } = await both([name, "--dump-plugin"]);
    const sorted = ({ status, stdout }: Result) => [status, stdout.split("\n").sort()];
    expect(sorted(ours)).toEqual(sorted(theirs));
  });

  test.concurrent.each(["file", "memory", "null"])(
    "%s by its short name is each server's own",
    async (name) => {
      await expectSame(sized(name, name === "file" ? "disk.img" : "1M"));
      await expectSame(sized(name, "nosuch=1"));
    },
  );
});
