// Parameters that schemas of other libraries check: zod and valibot, by Standard Schema.

import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { expect, test } from "vitest";
import { program } from "../support/program.js";
import { runAsyncnbd, startServer, temporaryDirectory } from "../support/server.js";

const require = createRequire(import.meta.url);
const zod = JSON.stringify(require.resolve("zod"));
const valibot = JSON.stringify(require.resolve("valibot"));

const LIBRARIES = `
  const { z } = (await import(${zod}));
  const v = await import(${valibot});
  const sizeOf = async (options) => {
    const server = await serve(options);
    const size = Number(await sh(\`nbdinfo --size '\${server.uri}'\`));
    await server.close();
    return size;
  };
  const refusal = async (options) => {
    const error = await serve(options).then(() => assert.fail("it serves"), (e) => e);
    assert.ok(error instanceof AsyncnbdError, error);
    return [error.code, error.message];
  };
  const of = (config, sizeOf) => definePlugin({ name: "checked", config,
    getSize() { return sizeOf(this.config); }, pread: (_h, buf) => { buf.fill(0); } });
`;

test("one schema of all parameters", async () => {
  await program(`${LIBRARIES}
    const config = z.strictObject({
      blocks: z.coerce.number().int().min(1),
      block: z.enum(["512", "4096"]).transform(Number).default(512),
      name: z.array(z.string()).or(z.string().transform((one) => [one])).optional(),
    });
    const plugin = of(config, ({ blocks, block, name = [] }) => blocks * block + name.length);
    assert.equal(await sizeOf({ plugin, config: { blocks: 2 } }), 1024);
    assert.equal(await sizeOf({ plugin, config: { blocks: "2", block: "4096", name: ["a", "b"] } }), 8194);
    assert.equal(await sizeOf({ plugin, config: { blocks: "2", name: "a" } }), 1025);
    const lists = of(z.object({ name: z.array(z.string()), other: z.array(z.string()).optional() }),
      ({ name, other = [1, 2] }) => 512 * (1 + name.length) + other.length);
    assert.equal(await sizeOf({ plugin: lists, config: { name: ["a"] } }), 1026);
    assert.equal(await sizeOf({ plugin: lists, config: { name: ["a", "b"], other: [] } }), 1536);
    let [code, message] = await refusal({ plugin, config: { blocks: 0 } });
    assert.equal(code, "PARAMETER_INVALID");
    assert.match(message, /^plugin checked: parameter blocks: .*1/);
    [code, message] = await refusal({ plugin, config: {} });
    assert.equal(code, "PARAMETER_MISSING");
    assert.match(message, /parameter blocks/);
    [code, message] = await refusal({ plugin, config: { blocks: 1, blocs: 2 } });
    assert.equal(code, "PARAMETER_INVALID");
    assert.match(message, /blocs/);`);
});

test("an undefined parameter is not given; a schema without a result is the plugin's mistake", async () => {
  await program(`${LIBRARIES}
    const plugin = of({ size: "size", more: { type: "size", default: 512 } }, ({ size, more }) => size + more);
    assert.equal(await sizeOf({ plugin, config: { size: 512, more: undefined } }), 1024);
    const empty = { "~standard": { version: 1, vendor: "mine", validate() {} } };
    const [code, message] = await refusal({ plugin: of({ name: empty }, () => 512), config: { name: "a" } });
    assert.equal(code, "PLUGIN_INVALID");
    assert.match(message, /plugin checked: the check of its parameters returned undefined/);`);
});

test("schemas of single parameters, beside our own types", async () => {
  await program(`${LIBRARIES}
    const plugin = of({
      size: "size",
      extra: z.coerce.number().default(1),
      part: { schema: v.pipe(v.string(), v.transform(Number), v.integer("whole parts only")), list: true },
    }, ({ size, extra, part }) => size + extra + part.reduce((a, b) => a + b, 0));
    assert.equal(await sizeOf({ plugin, config: { size: "1k" } }), 1025);
    assert.equal(await sizeOf({ plugin, config: { size: "1k", extra: "3", part: ["1", "2"] } }), 1030);
    const [code, message] = await refusal({ plugin, config: { size: 1, part: ["1", "2.5"] } });
    assert.equal(code, "PARAMETER_INVALID");
    assert.match(message, /^plugin checked: parameter part: whole parts only$/);
    assert.deepEqual((await refusal({ plugin, config: { size: 1, extra: [1, 2] } }))[0], "PARAMETER_REPEATED");
    assert.deepEqual((await refusal({ plugin, config: { sise: 1 } }))[0], "PARAMETER_UNKNOWN");
    const needs = of({ name: z.string() }, () => 512);
    assert.deepEqual((await refusal({ plugin: needs }))[0], "PARAMETER_MISSING");`);
});

test("an asynchronous schema is awaited; one that throws is the plugin's mistake", async () => {
  await program(`${LIBRARIES}
    const later = (isRight) => async () => { await sh("true"); return isRight; };
    for (const [schema, isRight] of [
      [z.string().refine(later(true)), true], [z.string().refine(later(false), "taken"), false],
      [v.pipeAsync(v.string(), v.checkAsync(later(true))), true],
      [v.pipeAsync(v.string(), v.checkAsync(later(false), "taken")), false],
    ]) {
      const plugin = of({ name: schema }, ({ name }) => name.length);
      if (isRight) assert.equal(await sizeOf({ plugin, config: { name: "abc" } }), 3);
      else assert.match((await refusal({ plugin, config: { name: "abc" } }))[1], /parameter name: taken/);
    }
    const broken = of({ name: z.string().transform(() => { throw new Error("oops"); }) }, () => 1);
    const error = await serve({ plugin: broken, config: { name: "a" } }).catch((e) => e);
    assert.equal(error.code, "PLUGIN_INVALID");
    assert.equal(error.cause.message, "oops");`);
});

test("a filter has schemas of single parameters, not one of all", async () => {
  await program(`${LIBRARIES}
    const { defineFilter } = await import(process.argv[1].replace(/.*/, ${JSON.stringify(
      new URL("../../dist/index.js", import.meta.url).pathname,
    )}));
    const { defineMiddleware } = await import(${JSON.stringify(
      new URL("../../dist/middleware/index.js", import.meta.url).pathname,
    )});
    let given;
    const create = (config) => {
      given = config;
      return defineMiddleware({ name: "passing", open: (next, info) => next(info) });
    };
    const filter = defineFilter({ name: "f", config: { from: z.coerce.number() }, create });
    assert.equal(await sizeOf({ plugin: ram(), filters: [filter], config: { size: 512, from: "8" } }), 512);
    assert.deepEqual(given, { from: 8 });
    const wrong = { name: "f", config: z.object({ from: z.string() }), create };
    assert.equal((await refusal({ plugin: ram(), filters: [wrong], config: { size: 1 } }))[0], "FILTER_INVALID");`);
});

function pluginFile(config: string): string {
  const path = join(temporaryDirectory(), "disk.mjs");
  writeFileSync(
    path,
    `import { z } from ${zod};
     export default { name: "checked", config: ${config},
       getSize() { return this.config.blocks * 512; }, pread(_h, buf) { buf.fill(0); } };`,
  );
  return path;
}

test("the command passes text to schemas, and --help lists their parameters", async () => {
  const named = pluginFile(
    '{ blocks: { schema: z.coerce.number(), description: "how many", magic: true } }',
  );
  const { stdout } = await runAsyncnbd(["--help", named]);
  expect(stdout).toMatch(/blocks=VALUE +how many \(checked by zod, "blocks=" may be left out\)/);
  const whole = pluginFile("z.object({ blocks: z.coerce.number() })");
  const help = await runAsyncnbd(["--help", whole]);
  expect(help.stdout).toMatch(/(blocks|KEY)=VALUE .*zod/);
  const server = await startServer([whole, "blocks=4"]);
  await server.stop();
  const refused = await runAsyncnbd(["-f", named, "many"]);
  expect(refused.status).toBe(1);
  expect(refused.stderr).toContain("plugin checked: parameter blocks:");
});
