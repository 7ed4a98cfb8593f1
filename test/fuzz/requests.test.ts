// libFuzzer's programs, which scripts/fuzz builds: requests_fuzzer.cpp. What they have found before
// is in the corpus, and is tried first.

import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { run } from "../support/command.js";
import { fuzzMs, fuzzTimeoutMs } from "../support/fuzz.js";
import { temporaryDirectory } from "../support/server.js";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

test.each(["requests_fuzzer"])(
  "%s finds nothing",
  async (name) => {
    const program = here(`../../build-fuzz/Release/${name}`);
    if (!existsSync(program)) {
      console.log(`${name} is not built: scripts/fuzz does`);
      return;
    }
    const directory = temporaryDirectory();
    const corpus = join(directory, "corpus");
    cpSync(here(`corpus/${name}`), corpus, { recursive: true });
    const options = [`-max_total_time=${fuzzMs / 1000}`, "-max_len=8192", "-print_final_stats=1"];
    const { status, stderr } = await run([program, ...options, corpus], {
      cwd: directory, // for what it leaves there if it fails
      deadlineMs: fuzzTimeoutMs,
    });
    expect(status, stderr.slice(-4000)).toBe(0);
    console.log(/stat::number_of_executed_units: \d+/.exec(stderr)?.[0]);
  },
  fuzzTimeoutMs,
);
