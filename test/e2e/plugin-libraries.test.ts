// Plugins that use libraries of which node has its own: each must get the system's, and they must
// work; and what was preloaded must reach plugins. Real transfers, because a plugin that merely loads proves nothing.

import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { checksum, MIB, writePattern } from "../support/fixtures.js";
import { CMD } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  asyncnbd,
  clean,
  debianPlugin,
  nbdkit,
  runAsyncnbd,
  sanitizer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

/** Opens a library that lies beside it, and looks a variable up as the program's. */
const OPENED = `
#include <dlfcn.h>
#include <string.h>
extern char **environ;
int finds(const char *name) {
  for (char **each = environ; *each; each++)
    if (!strncmp(*each, name, strlen(name))) return 1;
  return 0;
}
int inner_answer(void) {
  void *inner = dlopen("libinner.so", RTLD_NOW);
  return inner ? ((int (*)(void))dlsym(inner, "answer"))() : -1;
}`;

const OPENING_PLUGIN = `
#define NBDKIT_API_VERSION 2
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
static void try(const char *name, const char *variable) {
  setenv(variable, "1", 1);
  void *library = dlopen(name, RTLD_NOW);
  if (!library) {
    printf("%s: cannot open\\n", name);
    return;
  }
  int (*answer)(void) = dlsym(library, "inner_answer");
  int (*finds)(const char *) = dlsym(library, "finds");
  printf("%s: %d, %s %s\\n", name, answer(), finds(variable) ? "finds" : "lacks", variable);
  dlclose(library);
}
static void dump(void) {
  try("libopened.so", "FIRST");
  try("$ORIGIN/beside/libopened.so", "SECOND");
  try("libmissing.so", "THIRD");
}
static void *open_(int readonly) { return NBDKIT_HANDLE_NOT_NEEDED; }
static int64_t get_size(void *handle) { return 0; }
static int pread_(void *handle, void *to, uint32_t count, uint64_t offset, uint32_t flags) {
  return 0;
}
static struct nbdkit_plugin plugin = {
  .name = "opening", .dump_plugin = dump, .open = open_, .get_size = get_size, .pread = pread_,
};
NBDKIT_REGISTER_PLUGIN(plugin)`;

/** Serves one file over HTTPS, with ranges, under a certificate of its own. */
async function startHttps(content: Buffer): Promise<{ url: string; certificate: string }> {
  const directory = temporaryDirectory();
  const [key, certificate] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const files = ["-keyout", key, "-out", certificate];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...files, ...subject], {
    stdio: "ignore",
  });
  const server = createServer(
    { key: readFileSync(key), cert: readFileSync(certificate) },
    (request, response) => {
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
      const from = Number(range?.[1] ?? 0);
      const to = Math.min(Number(range?.[2] ?? content.length), content.length - 1);
      response.writeHead(range === null ? 200 : 206, {
        "accept-ranges": "bytes",
        "content-length": to - from + 1,
        ...(range === null ? {} : { "content-range": `bytes ${from}-${to}/${content.length}` }),
      });
      if (request.method === "HEAD") response.end();
      else response.end(content.subarray(from, to + 1));
    },
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `https://localhost:${(server.address() as AddressInfo).port}/disk`, certificate };
}

// Under AddressSanitizer plugins bind to node's OpenSSL: it refuses RTLD_DEEPBIND.
describe.skipIf(sanitizer !== undefined)("libraries that are also in node", () => {
  test("curl reads a disk over TLS, on several connections", async () => {
    const content = randomBytes(8 << 20);
    const { url, certificate } = await startHttps(content);
    const server = await startServer([debianPlugin("curl"), url, `cainfo=${certificate}`]);
    const copy = join(server.directory, "copy");
    writeFileSync(copy, "");
    const { status, stderr } = await run(["nbdcopy", "--connections=4", server.uri, copy]);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(sha256(readFileSync(copy))).toBe(sha256(content));
  });

  test("a certificate that curl does not trust is refused with curl's message", async () => {
    const { url } = await startHttps(randomBytes(4096));
    const server = await startServer([debianPlugin("curl"), url]);
    const client = await RawClient.connect(server.socket);
    await expect(client.go()).rejects.toThrow();
    expect(server.stderr()).toMatch(/certificate/i);
  });

  test("a C++ plugin has working streams, exceptions, casts and threads", async () => {
    const dump = await runAsyncnbd([testPlugin("cxxprobe"), "--dump-plugin"]);
    expect(dump.stdout).toContain("cout_works=1\ncaught=thrown\n");
    expect(dump.stderr).toContain("cerr works\nclog works\n");
    const server = await startServer([testPlugin("cxxprobe")]);
    const client = await RawClient.connect(server.socket);
    await client.go();
    expect(await client.request({ type: CMD.READ, offset: 0n, length: 32 })).toBe(0);
    expect((await client.read(32)).toString()).toBe("thrown 000042 ff 1.5 46 square\nt");
  });
});

describe.skipIf(sanitizer !== undefined).each(["libjemalloc.so.2", "libc_malloc_debug.so.0"])(
  "with the allocator of %s preloaded",
  (library) => {
    const env = { LD_PRELOAD: library };

    test.each([
      ["ours", testPlugin("file"), []],
      ["Debian's", debianPlugin("file"), []],
      ["ours, with a filter", testPlugin("file"), ["--filter=readonly"]],
    ])("a file is served by a plugin linked %s", async (_, plugin, options) => {
      const path = join(temporaryDirectory(), "disk");
      writePattern(path, MIB);
      const server = await startServer([plugin, path], { env, options });
      const copy = join(server.directory, "copy");
      await runOk(["nbdcopy", server.uri, copy]);
      expect(await checksum(copy)).toBe(await checksum(path));
      await server.stop();
    });

    test("curl reads a disk over TLS", async () => {
      const content = randomBytes(1 << 20);
      const { url, certificate } = await startHttps(content);
      const server = await startServer([debianPlugin("curl"), url, `cainfo=${certificate}`], {
        env,
      });
      const copy = join(server.directory, "copy");
      await runOk(["nbdcopy", server.uri, copy]);
      expect(sha256(readFileSync(copy))).toBe(sha256(content));
      await server.stop();
    });

    test("a C++ plugin works", async () => {
      const dump = await runAsyncnbd([testPlugin("cxxprobe"), "--dump-plugin"], { env });
      expect(dump).toMatchObject({ status: 0 });
      expect(dump.stdout).toContain("cout_works=1\ncaught=thrown\n");
    });
  },
);

describe.skipIf(sanitizer !== undefined)("a preloaded library", () => {
  function compile(source: string, ...options: string[]): string {
    const output = join(temporaryDirectory(), "compiled.so");
    const include = join(import.meta.dirname, "../../native/include");
    execFileSync("gcc", ["-shared", "-fPIC", `-I${include}`, source, "-o", output, ...options]);
    return output;
  }
  const ramdisk = join(import.meta.dirname, "../../examples/ramdisk.c");

  test("replaces functions for a plugin as it does under nbdkit", async () => {
    const directory = temporaryDirectory();
    const source = join(directory, "preload.c");
    writeFileSync(source, "int getpid(void) { return 1; }\n");
    const env = { LD_PRELOAD: compile(source) };
    const reportOf = async (command: readonly string[]): Promise<string> => {
      const report = join(directory, "report");
      const args = ["--dump-plugin", testPlugin("lifecycle"), `report=${report}`];
      await runOk([...command, ...args], { env: { ...process.env, ...env } });
      return readFileSync(report, "utf8");
    };
    const ours = await reportOf(asyncnbd);
    expect(ours).toContain("load other\n"); // the thread's number is not 1
    expect(ours).toBe(await reportOf(nbdkit));
  });

  test("a plugin built with AddressSanitizer serves beside its runtime", async () => {
    const plugin = compile(ramdisk, "-fsanitize=address");
    const runtime = execFileSync("gcc", ["-print-file-name=libasan.so"], { encoding: "utf8" });
    const env = { LD_PRELOAD: runtime.trim(), ASAN_OPTIONS: "detect_leaks=0" };
    const run = clean('nbdinfo --size "$uri"');
    const finished = await runAsyncnbd(["-U", "-", plugin, "--run", run], { env });
    expect(finished).toMatchObject({ status: 0, stdout: "16777216\n" });
  });

  test("a plugin built with AddressSanitizer is refused without its runtime, with advice", async () => {
    const plugin = compile(ramdisk, "-fsanitize=address");
    const { status, stderr } = await runAsyncnbd(["-U", "-", plugin, "--run", "true"]);
    expect(status).toBe(1);
    expect(stderr).toContain(`${plugin}: it was built with a sanitizer (__asan_init)`);
    expect(stderr).toContain("LD_PRELOAD");
  });
});

describe.skipIf(sanitizer !== undefined)("libraries that a plugin opens itself", () => {
  /** A plugin with a library in a folder beside it, and a third that this one opens. */
  function compileAll(): string {
    const directory = temporaryDirectory();
    const build = (output: string, source: string, ...options: string[]): void => {
      const input = join(directory, "source.c");
      writeFileSync(input, source);
      const include = join(import.meta.dirname, "../../native/include");
      const args = ["-shared", "-fPIC", `-I${include}`, input, "-o", join(directory, output)];
      execFileSync("gcc", [...args, ...options]);
    };
    mkdirSync(join(directory, "beside"));
    build("beside/libinner.so", "int answer(void) { return 42; }");
    build("beside/libopened.so", OPENED, "-Wl,-rpath,$ORIGIN");
    build("plugin.so", OPENING_PLUGIN, "-Wl,-rpath,$ORIGIN/beside");
    return join(directory, "plugin.so");
  }

  test.each([
    ["asyncnbd", asyncnbd],
    ["nbdkit", nbdkit],
  ])(
    "are found by its RUNPATH and $ORIGIN, and share its variables if opened again: %s",
    (_, command) => {
      const plugin = compileAll();
      const [program = "", ...words] = command;
      const args = [...words, plugin, "--dump-plugin"];
      const output = execFileSync(program, args, { encoding: "utf8" });
      expect(output).toContain("libopened.so: 42, finds FIRST\n");
      expect(output).toContain("$ORIGIN/beside/libopened.so: 42, finds SECOND\n");
      expect(output).toContain("libmissing.so: cannot open\n");
    },
  );
});
