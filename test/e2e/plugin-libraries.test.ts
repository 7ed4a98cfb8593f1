// Plugins that use libraries of which node has its own: each must get the system's, and they must
// work. Real transfers, because a plugin that merely loads proves nothing.

import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { run } from "../support/command.js";
import { RawClient } from "../support/raw-client.js";
import {
  debianPlugin,
  runAsyncnbd,
  sanitizer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

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
describe.skipIf(sanitizer !== undefined)("libraries that node has too", () => {
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

  test("a certificate that curl does not know is refused, in curl's words", async () => {
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
    expect(await client.request({ type: 0, offset: 0n, length: 32 })).toBe(0);
    expect((await client.read(32)).toString()).toBe("thrown 000042 ff 1.5 46 square\nt");
  });
});
