// Several servers of one C plugin in a process that knows of one alone: each has variables of its own,
// or is refused.

import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "vitest";
import { program } from "../support/instances.js";
import { debianPlugin, sanitizer, temporaryDirectory } from "../support/server.js";

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
