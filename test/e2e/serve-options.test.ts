// serve() says what is wrong with its options, and where it serves.

import { test } from "vitest";
import { program } from "../support/program.js";
import { testPlugin } from "../support/server.js";

test("wrong options are errors with the option's name, before anything is loaded", async () => {
  await program(`
    const wrong = [
      [undefined, "serve:"], [null, "serve:"], ["memory", "serve:"], [{}, "plugin:"],
      [{ plugn: ram() }, 'did you mean "plugin"'], [{ nosuch: 1 }, "no option nosuch"],
      [{ plugin: "" }, "plugin:"], [{ plugin: 1 }, "plugin:"], [{ plugin: "a\\0b" }, "plugin:"],
      [{ plugin: { ...ram(), getSize: undefined } }, "plugin.getSize:"],
      [{ plugin: { ...ram(), pread: 1 } }, "plugin.pread:"],
      [{ plugin: { ...ram(), name: undefined } }, "plugin.name:"],
      ...Object.entries({
        maxConnections: [-1, 0, 1.5, NaN, "2", null], threads: [-1, 0, NaN, Infinity, "x"],
        workers: [-1, 257, NaN], graceMs: [-1, NaN, Infinity, "1s"],
        handshakeTimeoutMs: [0, -1, NaN, Infinity], maxInFlightBytes: [0, -1, NaN, Infinity, "1G"],
        maxConnectionInFlightBytes: [0, -1, NaN], readonly: ["no", 1], signal: [{}, "SIGTERM"],
        config: ["size=1M", null, { size: null }, { size: {} }, { size: "1\\0M" }],
        filters: ["delay", [1], [{}], [""]],
        listen: ["tcp", 10809, {}, { unix: "" }, { unix: "/tmp/a\\0b" }, { host: "::1" },
          { unix: "/tmp/x", port: 1 }],
        tls: [true, { mode: "off" }, { certificates: 1 }, { preSharedKeys: "a\\0b" }],
      }).flatMap(([key, values]) => values.map((value) => [{ [key]: value }, key])),
      [{ listen: { port: 99999 } }, "listen.port:"], [{ listen: { port: -1 } }, "listen.port:"],
      [{ listen: { port: "80" } }, "listen.port:"], [{ listen: { prot: 1 } }, 'listen.prot; did you mean "port"'],
      [{ tls: { priority: { minVersion: "SSLv3" } } }, "tls.priority.minVersion:"],
    ];
    for (const [options, words] of wrong) {
      const isWhole = typeof options !== "object" || options === null || "plugin" in options;
      const plugin = { ...ram(), load() { throw new Error("loaded"); } };
      const given = isWhole || words === "plugin:" || "plugn" in options ? options : { plugin, ...options };
      await assert.rejects(serve(given), (error) => {
        assert.ok(error instanceof AsyncnbdError && ["OPTION_INVALID", "OPTION_UNKNOWN"].includes(error.code), error);
        assert.ok(error.message.includes(words), error.message + " has no " + words);
        return true;
      });
    }
    const server = await serve({ plugin: ram(), config: { size: "1M" }, threads: undefined });
    assert.throws(() => server.close({ graceMs: -1 }), /graceMs/);
    await server.close();`);
});

test("a C plugin's own message comes with its refusal", async () => {
  await program(`
    const refusal = async (plugin, config) => {
      const error = await serve({ plugin, config }).then(() => assert.fail("it serves"), (e) => e);
      assert.ok(error instanceof AsyncnbdError && error.code === "PLUGIN_FAILED", error);
      return error.message;
    };
    assert.match(await refusal("file", { file: "/nonexistent" }), /\\/nonexistent/);
    assert.match(await refusal("memory", { size: "much" }), /much/);
    assert.match(await refusal("memory", {}), /size/);
    assert.match(await refusal("memory", { sise: 1 }), /sise.*did you mean "size"/);
    const probe = ${JSON.stringify(testPlugin("probe"))};
    assert.match(await refusal(probe, { fail: "get_ready" }), /get_ready was told to fail/);`);
});

test("a number that is no size or time is refused, with the parameter's name", async () => {
  await program(`
    const plugin = { ...ram(), config: { size: "size", wait: { type: "time", default: 0 } } };
    for (const config of [{ size: -1 }, { size: 1.5 }, { size: 1, wait: -1 }])
      await assert.rejects(serve({ plugin, config }), (error) => {
        assert.match(error.message, /parameter (size=(-1: the minimum is 0|1.5)|wait=-1: the minimum is)/);
        return error.code === "PARAMETER_INVALID";
      });`);
});

test("server.uri names the address that was bound", async () => {
  await program(`
    const at = async (listen) => {
      const server = await serve({ plugin: ram(), config: { size: "1M" }, listen });
      assert.equal((await sh(\`nbdinfo --size '\${server.uri}'\`)).trim(), "1048576");
      assert.equal(server.endpoint.port, Number(new URL(server.uri).port));
      await server.close();
      return server.uri.replace(/:\\d+$/, "");
    };
    assert.equal(await at({ port: 0, host: "127.0.0.2" }), "nbd://127.0.0.2");
    assert.equal(await at({ port: 0, host: "::1" }), "nbd://[::1]");
    assert.equal(await at({ port: 0, host: "localhost" }), "nbd://localhost");
    assert.equal(await at({ port: 0 }), "nbd://localhost");`);
});
