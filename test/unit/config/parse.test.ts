import { describe, expect, test } from "vitest";
import { parseLine } from "../../../src/cli/getopt.js";
import { OPTIONS } from "../../../src/cli/options.js";
import { parseConfig } from "../../../src/config/parse.js";

function configOf(...words: string[]) {
  return parseConfig(parseLine(words, OPTIONS).options, "memory", []);
}

describe("the configuration", () => {
  test("without options is a background server on TCP port 10809", () => {
    expect(configOf()).toMatchObject({
      listen: { kind: "tcp", host: "", port: "10809", family: 0 },
      background: true,
      readonly: false,
      threads: 16,
      handshakeTimeoutMs: 30_000,
      log: undefined,
    });
  });

  test.each([
    [["--run", "true"], { kind: "private-unix" }],
    [["-U", "-"], { kind: "private-unix" }],
    [["-U", "/x/sock"], { kind: "unix", path: "/x/sock" }],
    [["--run", "true", "-p", "0"], { kind: "tcp", host: "", port: "0", family: 0 }],
    [["-6", "-4", "-i", "::1"], { kind: "tcp", host: "::1", port: "10809", family: 4 }],
    [["-s"], { kind: "stdio" }],
  ])("listens with %j on %j", (words, listen) => {
    expect(configOf(...words).listen).toEqual(listen);
  });

  test.each([[["-f"]], [["--run", "true"]], [["-s"]], [["--exit-with-parent"]]])(
    "stays in the foreground with %j",
    (words) => {
      expect(configOf(...words).background).toBe(false);
    },
  );

  test.each([
    ["0x10", 16],
    ["010", 8],
    ["0", 16],
    ["3", 3],
  ])("reads --threads=%s as %d", (text, threads) => {
    expect(configOf("-t", text).threads).toBe(threads);
  });

  test.each([
    ["5", 5000],
    ["1.5s", 1500],
    ["20ms", 20],
    ["1us", 1],
  ])("reads --timeout=%s as %d ms", (text, timeoutMs) => {
    expect(configOf("--timeout", text).handshakeTimeoutMs).toBe(timeoutMs);
  });

  test.each([
    [["-t", "many"]],
    [["-t", "-1"]],
    [["-t", "99999999999"]],
    [["--timeout", "0"]],
    [["--timeout", "1h"]],
    [["--log", "paper"]],
    [["-D", "memory"]],
    [["-D", "memory.flag=x"]],
    [["-s", "-p", "1"]],
    [["-s", "--run", "true"]],
    [["-U", "x", "-p", "1"]],
    [["--tls", "sometimes"]],
    [["--oldstyle", "--tls=require"]],
    [["--vsock", "--unix=x"]],
  ])("refuses %j as a mistake of usage", (words) => {
    expect(() => configOf(...words)).toThrow(expect.objectContaining({ code: "USAGE" }));
  });

  test("takes debug flags in order", () => {
    expect(configOf("-D", "sh.script=1", "--debug", "x.y.z=2").debugFlags).toEqual([
      { plugin: "sh", flag: "script", value: 1 },
      { plugin: "x", flag: "y.z", value: 2 },
    ]);
  });

  test.each([
    ["-1", -1],
    ["+1", 1],
    ["0x1f", 31],
    ["-0X10", -16],
    ["010", 8],
    [" 7", 7],
    ["2147483647", 2147483647],
    ["-2147483648", -2147483648],
  ])("takes the debug flag %j as C reads it", (text, value) => {
    expect(configOf("-D", `memory.dir=${text}`).debugFlags[0]?.value).toBe(value);
  });

  test.each(
    ["", "x", "1 ", "08", "0x", "1.0", "-", "--1", "0b1", "1=2", "1\n", "1e3"].concat([
      "2147483648",
      "-2147483649",
      "0xffffffff",
      "0o7",
      "Infinity",
    ]),
  )("refuses the debug flag %j", (text) => {
    expect(() => configOf("-D", `memory.dir=${text}`)).toThrow(
      expect.objectContaining({ code: "USAGE" }),
    );
  });
});

describe("a port", () => {
  test.each(["0", "1", "65535", "nbd", "08"])("can be %j", (port) => {
    expect(configOf("-p", port).listen).toMatchObject({ port });
  });

  test.each(["", "65536", "70000", "-1", " 70000", "+99999", "9".repeat(30)])(
    "cannot be %j",
    (port) => expect(() => configOf("-p", port)).toThrow("--port="),
  );
});
