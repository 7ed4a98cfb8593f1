// Every benchmark explains itself, and ends by one sentence where it has been called in a wrong way.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const bench = fileURLToPath(new URL("../../bench", import.meta.url));
const IS_PART_OF_ANOTHER = "client-load.mjs";

const run = (file: string, ...words: string[]) =>
  spawnSync(process.execPath, [`${bench}/${file}`, ...words], { encoding: "utf8" });

const files = readdirSync(bench).filter(
  (name) => name.endsWith(".mjs") && name !== IS_PART_OF_ANOTHER,
);

describe.each(files)("bench/%s", (file) => {
  it("shows its options with --help", () => {
    const { status, stdout, stderr } = run(file, "--help");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/ -- \[?--|\.mjs \[--/);
  });

  it("refuses an option that it does not have, in one line", () => {
    const { status, stdout, stderr } = run(file, "--no-such-thing");
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(/^[\w-]+: Unknown option '--no-such-thing' \(see --help\)\n$/);
  });
});

it("refuses a number that is none", () => {
  expect(run("tls.mjs", "--seconds=ten")).toMatchObject({
    ...{ status: 2, stderr: "tls: --seconds=ten is not a number (see --help)\n" },
  });
});

it("refuses a word that it does not know", () => {
  expect(run("remote.mjs", "--parts=rbd,tape")).toMatchObject({
    ...{ status: 2, stderr: "remote: --parts=tape: known are http, s3, rbd (see --help)\n" },
  });
});
