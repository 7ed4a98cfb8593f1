// A program's logger gets what is logged for its server, and standard error nothing.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { program } from "../support/program.js";
import { sanitizer, temporaryDirectory, testPlugin } from "../support/server.js";

/** Runs itself again as a child, and sees what that prints; the child's body comes after. */
const CHILD = `
  if (process.argv[2] !== "child") {
    const run = promisify(execFile)(process.execPath, [process.argv[1], "child"], { env: process.env });
    const { stdout, stderr } = await run;
    console.log(JSON.stringify({ lines: JSON.parse(stdout), stderr }));
    process.exit();
  }
  const lines = [];
  const logger = Object.fromEntries(["debug", "info", "warn", "error"].map((level) => [level,
    function (...given) { assert.equal(this, logger); lines.push([level, ...given]); }]));
  const settled = () => new Promise((resolve) => setTimeout(resolve, 20));
  process.on("exit", () => console.log(JSON.stringify(lines)));
`;

interface Printed {
  readonly lines: readonly (readonly [level: string, text: string])[];
  readonly stderr: string;
}

const printedBy = async (body: string): Promise<Printed> =>
  JSON.parse(await program(CHILD + body)) as Printed;

const texts = ({ lines }: Printed, level: string): string =>
  lines
    .filter(([of]) => of === level)
    .map(([, text]) => text)
    .join("\n");

test("a plugin in TypeScript, its failures, clients and listeners", async () => {
  const printed = await printedBy(`
    const plugin = { ...ram(),
      open() { this.log.warn("odd"); this.log.debug("opened"); return Buffer.alloc(4096); },
      pread() { throw failure("EIO", "scratched"); } };
    const server = await serve({ plugin, config: { size: "4k" }, logger });
    server.on("open", () => { throw new Error("in a listener"); });
    await sh(\`qemu-io -r -f raw -c 'read 0 512' '\${server.uri}' || true\`);
    await server.close();
    await settled();`);
  expect(printed.stderr).toBe("");
  expect(texts(printed, "warn")).toContain("ram: odd");
  expect(texts(printed, "debug")).toContain("ram: opened");
  expect(texts(printed, "debug")).toMatch(/ram\[1\]: client pid \d+ of user \d+: disconnected/);
  expect(texts(printed, "error")).toContain("scratched");
  expect(texts(printed, "error")).toContain("in a listener");
  for (const [, text] of printed.lines) expect(text).not.toMatch(/^asyncnbd: |\n$/);
});

test("a plugin in C: before clients, in their callbacks, and at the end", async () => {
  const printed = await printedBy(`
    await assert.rejects(serve({ plugin: "file", config: { file: "/nonexistent" }, logger }));
    const server = await serve({ plugin: ${JSON.stringify(testPlugin("memory"))}, config: { size: "1M" },
      filters: ["error"], logger });
    await sh(\`qemu-io -r -f raw -c 'read 0 512' '\${server.uri}'\`);
    await assert.rejects(sh(\`nbdinfo --size '\${server.uri.replace("unix:", "unixx:")}'\`));
    await server.close();
    await settled();`);
  expect(printed.stderr).toBe("");
  expect(texts(printed, "error")).toContain("/nonexistent");
  expect(texts(printed, "debug")).toMatch(/memory\[1\]: client/);
});

test("two servers of one process have a logger each", async () => {
  const printed = await printedBy(`
    const other = [];
    const into = (text) => other.push(text);
    const failing = (name) => ({ ...ram(), name, pread() { throw failure("EIO", name); } });
    const one = await serve({ plugin: failing("one"), config: { size: "4k" }, logger });
    const two = await serve({ plugin: failing("two"), config: { size: "4k" },
      logger: { debug: into, info: into, warn: into, error: into } });
    for (const { uri } of [one, two]) await sh(\`qemu-io -r -f raw -c 'read 0 512' '\${uri}' || true\`);
    await Promise.all([one.close(), two.close()]);
    await settled();
    assert.ok(other.some((text) => text.includes("two")) && !other.some((text) => text.includes("one")));`);
  expect(printed.stderr).toBe("");
  expect(JSON.stringify(printed.lines)).toContain("one");
  expect(JSON.stringify(printed.lines)).not.toContain("two");
});

test("worker threads send their lines to the logger", async () => {
  const path = join(temporaryDirectory(), "noisy.mjs");
  writeFileSync(
    path,
    `export default { name: "noisy", getSize: () => 4096,
      open() { this.log.warn("from a worker"); },
      pread() { throw new Error("scratched"); } };`,
  );
  const printed = await printedBy(`
    const server = await serve({ plugin: ${JSON.stringify(path)}, workers: 2, logger });
    await sh(\`qemu-io -r -f raw -c 'read 0 512' '\${server.uri}' || true\`);
    await server.close();
    await settled();`);
  expect(printed.stderr).toBe("");
  expect(texts(printed, "warn")).toContain("noisy: from a worker");
  expect(texts(printed, "error")).toContain("scratched");
});

test("a logger that throws or rejects does no harm; one that lacks a method is refused", async () => {
  await program(`
    const throws = () => { throw new Error("full"); };
    const logger = { debug: throws, info: throws, warn: async () => throws(), error: throws };
    const plugin = { ...ram(), open() { this.log.warn("odd"); this.log.error("odd"); return Buffer.alloc(4096); } };
    const server = await serve({ plugin, config: { size: "4k" }, logger });
    assert.equal((await sh(\`nbdinfo --size '\${server.uri}'\`)).trim(), "4096");
    await server.close();
    const { warn, ...rest } = logger;
    await assert.rejects(serve({ plugin, config: { size: "4k" }, logger: rest }),
      { code: "OPTION_INVALID", message: /logger: .*warn/ });
    const own = await serve({ plugin: ram(), config: { size: "4k" }, logger: console });
    await own.close();`);
});

const NOISY = JSON.stringify(testPlugin("noisy"));

test("lines of C code are delivered when serve() settles, and all of them at the end", async () => {
  const printed = await printedBy(`
    await assert.rejects(serve({ plugin: ${NOISY}, config: { refuse: 1 }, logger }));
    assert.ok(lines.some(([, text]) => text.includes("refused for good")), "too late: a failed start");
    lines.length = 0;
    const server = await serve({ plugin: ${NOISY}, config: { lines: 3 }, logger });
    assert.ok(lines.some(([, text]) => text.includes("getting ready")), "too late: a start");
    await server.close();
    assert.ok(lines.some(([, text]) => text === "unloading"), "too late: the end");`);
  expect(printed.stderr).toBe("");
});

test("debugging lines cannot crowd out errors, and omitted lines are counted", async () => {
  const printed = await printedBy(`
    const server = await serve({ plugin: ${NOISY}, config: { lines: 12000, errors: 12000 }, logger });
    await server.close();
    const many = (start) => lines.filter(([, text]) => text.startsWith(start)).length;
    assert.deepEqual([many("line "), many("error ")], [10000, 9999]);
    lines.splice(0, lines.length, ...lines.filter(([, text]) => !/^(line|error) /.test(text)));`);
  expect(texts(printed, "error")).toContain("said after 12000 lines");
  expect(texts(printed, "warn")).toContain("2000 lines for debugging were left out");
  expect(texts(printed, "warn")).toContain("2002 errors and warnings were left out");
});

// With a sanitizer a plugin cannot be loaded twice.
const testTwice = test.skipIf(sanitizer !== undefined);

testTwice("threads that plugins and filters have started log for their server", async () => {
  const printed = await printedBy(`
    const others = [];
    const other = Object.fromEntries(["debug", "info", "warn", "error"].map((level) =>
      [level, (text) => others.push(text)]));
    const one = await serve({ plugin: ${NOISY}, config: { thread: "one" }, logger });
    const two = await serve({ plugin: ${NOISY}, config: { thread: "two", "exit-when-script": "exit 3" },
      filters: ["exitwhen"], logger: other });
    while (!others.some((text) => text.includes("exit-when-script"))) await settled();
    await Promise.all([one.close(), two.close()]);
    const said = (where, what) => where.filter((text) => text.includes(what + ": of a thread")).length;
    const texts = lines.map(([, text]) => text);
    assert.deepEqual([said(texts, "one"), said(texts, "two")], [2, 0], texts.join("\\n"));
    assert.deepEqual([said(others, "one"), said(others, "two")], [0, 2], others.join("\\n"));`);
  expect(printed.stderr).toBe("");
});
