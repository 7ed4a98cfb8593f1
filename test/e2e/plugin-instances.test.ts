// Several servers of one C plugin in a process: each has variables of its own, or is refused.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { buildPlugin } from "../support/languages.js";
import {
  debianPlugin,
  sanitizer,
  serverEnvironment,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const index = fileURLToPath(new URL("../../dist/index.js", import.meta.url));

const PRELUDE = `
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { serve } from ${JSON.stringify(index)};
const env = { ...process.env, LD_PRELOAD: "" };
const sh = async (command) => (await promisify(execFile)("sh", ["-c", command], { env })).stdout;
const holds = (uri, byte) => sh(\`qemu-io -r -f raw -c 'read -P \${byte} 0 4k' '\${uri}'\`);
const image = (name, byte) => {
  writeFileSync(name, Buffer.alloc(65536, byte));
  return { plugin, config: { file: process.cwd() + "/" + name } };
};
`;

/** Runs a program, which must end by itself and well. */
async function program(plugin: string, body: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const directory = temporaryDirectory();
  const path = join(directory, "program.mjs");
  writeFileSync(path, `const plugin = ${JSON.stringify(plugin)};\n${PRELUDE}${body}`);
  // LeakSanitizer's own crash would be taken for the program's.
  const all = { ...serverEnvironment(), ASAN_OPTIONS: "exitcode=99:detect_leaks=0", ...env };
  const finished = await run([process.execPath, path], { cwd: directory, env: all });
  expect(finished, finished.stderr).toMatchObject({ status: 0 });
}

/** A plugin of this text, with what every plugin has. */
function compile(
  language: "c" | "cpp",
  text: string,
  { directory = temporaryDirectory(), linked = [] as readonly string[] } = {},
): string {
  const [source, output] = [join(directory, `plugin.${language}`), join(directory, "plugin.so")];
  writeFileSync(
    source,
    `#include <string.h>
     #define NBDKIT_API_VERSION 2
     #include <nbdkit-plugin.h>
     #define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
     ${text}
     static void *open_(int) { return NBDKIT_HANDLE_NOT_NEEDED; }
     static int64_t get_size(void *) { return 4096; }
     static int pread_(void *, void *buf, uint32_t count, uint64_t, uint32_t) {
       memset(buf, value(), count);
       return 0;
     }
     static struct nbdkit_plugin plugin = {
       .name = "compiled", LOAD .open = open_, .get_size = get_size, .pread = pread_,
     };
     NBDKIT_REGISTER_PLUGIN(plugin)`,
  );
  const include = join(import.meta.dirname, "../../native/include");
  const [command, standard] = language === "c" ? ["gcc", "gnu2x"] : ["g++", "gnu++20"];
  const options = [`-std=${standard}`, "-shared", "-fPIC", `-I${include}`];
  execFileSync(command as string, [...options, source, "-o", output, ...linked]);
  return output;
}

// AddressSanitizer does not allow what a copy needs: see the last test.
describe.skipIf(sanitizer !== undefined)("a plugin written for one server per process", () => {
  test("gives each server its own disk, even after the first has ended", async () => {
    await program(
      debianPlugin("file"),
      `const one = await serve(image("one", 1));
       const two = await serve(image("two", 2));
       await Promise.all([holds(one.uri, 1), holds(two.uri, 2)]);
       await one.close();
       const three = await serve(image("three", 3));
       await Promise.all([holds(two.uri, 2), holds(three.uri, 3)]);
       await Promise.all([two.close(), three.close()]);`,
    );
  });

  test("frees the resources of each", async () => {
    await program(
      debianPlugin("file"),
      `const listen = "nothing";
       const copies = () => readFileSync("/proc/self/maps", "utf8").match(/memfd:nbdkit/g) ?? [];
       const first = await serve({ ...image("one", 1), listen });
       for (let i = 0; i < 250; i++) {
         const other = await serve({ ...image("two", 2), listen });
         assert.notEqual(copies().length, 0);
         await other.close();
         assert.equal(copies().length, 0);
       }
       await first.close();
       const open = readdirSync("/proc/self/fd").map((fd) => {
         try { return readlinkSync("/proc/self/fd/" + fd); } catch { return ""; }
       });
       assert.ok(!open.some((target) => target.includes("memfd:nbdkit")));`,
    );
  });

  test("frees the resources of one that cannot start", async () => {
    await program(
      debianPlugin("file"),
      `const loaded = () => readFileSync("/proc/self/maps", "utf8").includes("nbdkit-file-plugin");
       await assert.rejects(serve({ plugin, config: { nosuch: "1" } }));
       assert.ok(!loaded());
       const server = await serve(image("one", 1));
       assert.ok(loaded());
       await server.close();
       assert.ok(!loaded());`,
    );
  });

  test("is loaded by several threads at once", async () => {
    await program(
      debianPlugin("file"),
      `if (isMainThread) {
         const workers = Array.from({ length: 4 }, (_, i) =>
           new Worker(fileURLToPath(import.meta.url), { workerData: i + 1 }));
         const uris = await Promise.all(workers.map(async (w) => (await once(w, "message"))[0]));
         await Promise.all(uris.map((uri, i) => holds(uri, i + 1)));
         const exits = workers.map((worker) => once(worker, "exit"));
         for (const worker of workers) worker.postMessage("close");
         assert.deepEqual(await Promise.all(exits), [[0], [0], [0], [0]]);
       } else {
         const server = await serve(image("disk" + workerData, workerData));
         parentPort.postMessage(server.uri);
         await once(parentPort, "message");
         await server.close();
         parentPort.close();
       }`,
    );
  });

  test("has its own exported variables", async () => {
    const counting = compile(
      "c",
      `int loads;
       static int value(void) { return loads; }
       static void load(void) { loads++; }
       #define LOAD .load = load,`,
    );
    await program(
      counting,
      `const servers = [await serve({ plugin }), await serve({ plugin }), await serve({ plugin })];
       for (const { uri } of servers) await holds(uri, 1);
       for (const server of servers) await server.close();`,
    );
  });

  test("finds what lies beside it", async () => {
    const directory = temporaryDirectory();
    const library = (name: string, text: string): void => {
      const source = join(directory, "library.c");
      writeFileSync(source, text);
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      execFileSync("gcc", ["-shared", "-fPIC", source, "-o", join(directory, name)]);
    };
    library("needs/libneeded.so", "int needed(void) { return 1; }");
    for (const [name, value] of Object.entries({ named: 2, origin: 4, located: 8 }))
      library(`opens/lib${name}.so`, `int answer(void) { return ${value}; }`);
    const plugin = compile(
      "c",
      `#include <dlfcn.h>
       #include <stdio.h>
       int needed(void);
       static int here;
       static int answer(const char *library) {
         void *handle = dlopen(library, RTLD_NOW);
         return handle ? ((int (*)(void))dlsym(handle, "answer"))() : 0;
       }
       static int value(void) {
         Dl_info self;
         char path[4096] = "";
         if (dladdr(&here, &self) != 0)
           snprintf(path, sizeof path, "%.*s/opens/liblocated.so",
                    (int)(strrchr(self.dli_fname, '/') - self.dli_fname), self.dli_fname);
         return needed() + answer("libnamed.so") +
                answer("$ORIGIN/opens/liborigin.so") + answer(path);
       }
       #define LOAD`,
      {
        directory,
        linked: ["-D_GNU_SOURCE", `-L${directory}/needs`, "-lneeded"].concat(
          "-Wl,-rpath,$ORIGIN/needs:$ORIGIN/opens",
        ),
      },
    );
    await program(
      plugin,
      `const servers = [];
       for (let i = 0; i < 3; i++) servers.push(await serve({ plugin }));
       for (const { uri } of servers) await holds(uri, 15);
       await servers[0].close();
       servers.push(await serve({ plugin }));
       await holds(servers[3].uri, 15);
       for (const server of servers.slice(1)) await server.close();`,
    );
  });

  test("stays loaded if the loader keeps it", async () => {
    const kept = compile(
      "c",
      `static int loads;
       static int value(void) { return loads; }
       static void load(void) { loads++; }
       #define LOAD .load = load,`,
      { linked: ["-Wl,-z,nodelete"] },
    );
    await program(
      kept,
      `for (const first of [await serve({ plugin }), await serve({ plugin })]) await first.close();
       const again = [await serve({ plugin }), await serve({ plugin })];
       for (const { uri } of again) await holds(uri, 1);
       const other = { ...image("disk", 7), plugin: ${JSON.stringify(debianPlugin("file"))} };
       const others = [await serve(other), await serve(other)];
       for (const { uri } of others) await holds(uri, 7);
       for (const server of [...again, ...others]) await server.close();`,
    );
  });

  test("is refused a second time if a copy would share symbols, with advice", async () => {
    const unique = compile(
      "cpp",
      `template <int N> struct Counter { static inline int loads = N; };
       static int value() { return Counter<1>::loads; }
       #define LOAD`,
    );
    await program(
      unique,
      `const first = await serve({ plugin });
       const again = (error) => error.code === "LIBRARY_UNLOADABLE" &&
         error.message.includes(plugin) && error.message.includes("-fno-gnu-unique");
       await assert.rejects(serve({ plugin }), again);
       await holds(first.uri, 1);
       await first.close();
       await assert.rejects(serve({ plugin }), again);`, // the loader never lets go of it
    );
  });

  test("is refused a second time under another allocator", async () => {
    await program(
      debianPlugin("file"),
      `const first = await serve(image("one", 1));
       await assert.rejects(serve(image("two", 2)), /memory is allocated by .*libjemalloc/);
       await holds(first.uri, 1);
       await first.close();
       const second = await serve(image("two", 2));
       await holds(second.uri, 2);
       await second.close();`,
      { LD_PRELOAD: "libjemalloc.so.2" },
    );
  });
});

test("plugins by nbdkit-async.hpp share one library and have an object for each server", async () => {
  await program(
    testPlugin("async-ramdisk"),
    `const loaded = () => new Set(readFileSync("/proc/self/maps", "utf8").match(/\\S*async-ramdisk\\S*/g));
     const start = (size) => serve({ plugin, config: { size } });
     const [one, two] = await Promise.all([start("1M"), start("2M")]);
     assert.equal(loaded().size, 1);
     const write = (uri, byte) => sh(\`qemu-io -f raw -c 'write -P \${byte} 0 4k' '\${uri}'\`);
     await Promise.all([write(one.uri, 1), write(two.uri, 2)]);
     await Promise.all([holds(one.uri, 1), holds(two.uri, 2)]);
     assert.equal(await sh(\`nbdinfo --size '\${two.uri}'\`), "2097152\\n");
     await one.close();
     await holds(two.uri, 2);
     await two.close();`,
  );
});

const SCRIPTS = {
  python: `def open(readonly): return 1
def get_size(h): return 65536
def pread(h, count, offset): return bytearray(count)
`,
  perl: `sub open { return 1 }
sub get_size { return 65536 }
sub pread { my ($h, $count) = @_; return "\\0" x $count }
`,
  lua: `function open(readonly) return 1 end
function get_size(h) return 65536 end
function pread(h, count, offset) return string.rep("\\0", count) end
`,
  ruby: `def open(readonly) 1 end
def get_size(h) 65536 end
def pread(h, count, offset) "\\0" * count end
`,
  tcl: `proc plugin_open {readonly} { return 1 }
proc get_size {h} { return 65536 }
proc pread {h count offset} { return [binary format a$count ""] }
`,
};

test.each(Object.entries(SCRIPTS))("%s is refused a second time, by name", async (name, script) => {
  await program(
    debianPlugin(name),
    `writeFileSync("script", ${JSON.stringify(script)});
     const options = { plugin, config: { script: process.cwd() + "/script" } };
     const first = await serve(options);
     const again = (error) => error.code === "LIBRARY_UNLOADABLE" &&
       error.message.includes(plugin) && error.message.includes("it needs lib${name}");
     await assert.rejects(serve(options), again);
     ${name === "ruby" ? "" : "await holds(first.uri, 0);"} // Ruby's cannot be used on our threads
     await first.close();
     await assert.rejects(serve(options), again);`,
  );
});

// Each has the runtime of Go in it, whose signals and threads the whole process shares.
describe.skipIf(sanitizer !== undefined)(
  "plugins in Go serve side by side, each its own disk:",
  () => {
    test.each(["of one file", "of two files"])("two %s", async (files) => {
      const plugin = await buildPlugin("go");
      const other = join(dirname(plugin), "other.so");
      copyFileSync(plugin, other);
      await program(
        plugin,
        `const other = ${JSON.stringify(files === "of one file" ? plugin : other)};
       const use = ({ uri }, byte) => sh(
         \`qemu-io -f raw -c 'write -P \${byte} 0 1M' -c 'read -P \${byte} 0 1M' '\${uri}'\`);
       const often = async (server, first) => {
         for (let i = 0; i < 20; i++) await use(server, first + i);
       };
       const one = await serve({ plugin });
       const two = await serve({ plugin: other });
       await Promise.all([often(one, 1), often(two, 101)]);
       await Promise.all([holds(one.uri, 20), holds(two.uri, 120)]);
       await one.close();
       await often(two, 201);
       const three = await serve({ plugin });
       await holds(three.uri, 0);
       await Promise.all([often(two, 101), often(three, 1)]);
       await Promise.all([two.close(), three.close()]);`,
        { GOGC: "1" }, // garbage is collected all the time, for which threads are stopped by signals
      );
    });
  },
);

describe("our own plugins allow any number of instances:", () => {
  test("a thousand of file, each with its own", async () => {
    await program(
      testPlugin("file"),
      `const servers = [];
       for (let i = 0; i < 1000; i++) {
         const listen = i % 250 === 0 ? "private-unix" : "nothing";
         servers.push(await serve({ ...image("disk" + (i % 256), i % 256), listen }));
       }
       for (const i of [0, 250, 500, 750]) await holds(servers[i].uri, i % 256);
       await Promise.all(servers.map((server) => server.close()));
       const again = await serve(image("again", 9));
       await holds(again.uri, 9);
       await again.close();`,
    );
  });

  test("a thousand of memory, each with its own", async () => {
    await program(
      testPlugin("memory"),
      `const servers = [];
       for (let i = 0; i < 1000; i++) {
         const listen = i % 250 === 0 ? "private-unix" : "nothing";
         servers.push(await serve({ plugin, config: { size: i + 1 + "M" }, listen }));
       }
       const some = [0, 250, 500, 750].map((i) => [i, servers[i].uri]);
       for (const [i, uri] of some)
         await sh(\`qemu-io -f raw -c 'write -P \${i % 251 + 1} 0 64k' '\${uri}'\`);
       for (const [i, uri] of some) {
         await holds(uri, i % 251 + 1);
         assert.equal(await sh(\`nbdinfo --size '\${uri}'\`), (i + 1) * 2 ** 20 + "\\n");
       }
       await Promise.all(servers.map((server) => server.close()));`,
    );
  });

  test.each(["null", "delay-memory"])("two of %s, of different sizes", async (name) => {
    await program(
      testPlugin(name),
      `const one = await serve({ plugin, config: { size: "1M" }, filters: ["readonly"] });
       const two = await serve({ plugin, config: { size: "2M" } });
       await one.close();
       assert.equal(await sh(\`nbdinfo --size '\${two.uri}'\`), "2097152\\n");
       await holds(two.uri, 0);
       await two.close();`,
    );
  });

  test.each(["io_uring", "threads"])(
    "two of async-file with %s, each with its own",
    async (engine) => {
      await program(
        testPlugin("async-file"),
        `const withEngine = ({ plugin, config }) => ({ plugin, config: { ...config, engine: "${engine}" } });
       const one = await serve(withEngine(image("one", 1)));
       const two = await serve(withEngine(image("two", 2)));
       await Promise.all([holds(one.uri, 1), holds(two.uri, 2)]);
       await one.close();
       await holds(two.uri, 2);
       await two.close();`,
      );
    },
  );
});
