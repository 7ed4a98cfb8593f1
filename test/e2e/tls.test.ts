// Encryption between real clients and the server: certificates, pre-shared keys, and what is wrong
// with them.

import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { Authority, preSharedKeys } from "../support/certificates.js";
import { run } from "../support/command.js";
import { checksum, MIB, writePattern } from "../support/fixtures.js";
import {
  eventually,
  type RunningServer,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const secure = (certificates: string, ...more: string[]) => ({
  options: ["--tls=require", `--tls-certificates=${certificates}`, ...more],
});

/** The server's URI for libnbd with a client's files. */
const uriFor = (server: RunningServer, certificates: string): string =>
  `nbds+unix://localhost/?socket=${server.socket}&tls-certificates=${certificates}`;

const nbdinfo = (uri: string) => run(["nbdinfo", uri]);

const NULL = testPlugin("null");

/** libnbd looks at a server's certificate only where the URI has a host. */
const overTcp = (server: RunningServer, certificates: string): string =>
  server.uri.replace(/\?.*/, `?tls-certificates=${certificates}`);

/** A line that the server has to write. */
const says = (server: RunningServer, words: string | RegExp) =>
  eventually(`the server says ${words}`, () =>
    (typeof words === "string" ? server.stderr().includes(words) : words.test(server.stderr()))
      ? true
      : undefined,
  );

/** Writes and reads back 64 MiB on four connections. */
async function copies(uri: string): Promise<void> {
  const directory = temporaryDirectory();
  const [there, back] = [join(directory, "there"), join(directory, "back")];
  writePattern(there, 64 * MIB);
  expect(await run(["nbdcopy", "--connections=4", there, uri])).toMatchObject({ status: 0 });
  expect(await run(["nbdcopy", "--connections=4", uri, back])).toMatchObject({ status: 0 });
  expect(await checksum(back)).toBe(await checksum(there));
}

describe("with certificates", () => {
  test("libnbd connects and copies, over a unix socket and over TCP", async () => {
    const certificates = new Authority().issue("server");
    const server = await startServer(["memory", "64M"], secure(certificates));
    const info = await nbdinfo(uriFor(server, certificates));
    expect(info).toMatchObject({ status: 0 });
    expect(info.stdout).toContain("with TLS");
    await copies(uriFor(server, certificates));
    await server.stop();

    const tcp = await startServer(["memory", "64M"], { ...secure(certificates), transport: "tcp" });
    expect(tcp.uri).toMatch(/^nbds:\/\/127\.0\.0\.1:\d+\?tls-certificates=\//);
    await copies(tcp.uri);
    await tcp.stop();
  });

  test.each(["TLSv1.2", "TLSv1.3"])("%s", async (version) => {
    const certificates = new Authority().issue("server");
    const other = version === "TLSv1.2" ? "1.3" : "1.2";
    const priority = `--tls-priority=NORMAL:-VERS-TLS${other}`;
    const server = await startServer(["memory", "64M"], secure(certificates, priority));
    await copies(uriFor(server, certificates));
    await server.stop();
  });

  test("qemu-io writes and reads", async () => {
    const authority = new Authority();
    const certificates = authority.issue("server");
    const client = authority.issue("client");
    const verify = "--tls-verify-peer";
    const server = await startServer(["memory", "1M"], secure(certificates, verify));
    const io = await run([
      ...["qemu-io", "--object", `tls-creds-x509,id=tls,dir=${client},endpoint=client`],
      ...["--image-opts", "-c", "write -P 7 4096 65536", "-c", "read -P 7 4096 65536"],
      [
        "driver=nbd,tls-creds=tls,tls-hostname=localhost",
        `server.type=unix,server.path=${server.socket}`,
      ].join(","),
    ]);
    expect(io).toMatchObject({ status: 0 });
    expect(io.stdout).not.toContain("verification failed");
    await server.stop();
  });

  test("a client refuses a certificate of an authority it does not trust", async () => {
    const options = { ...secure(new Authority().issue("server")), transport: "tcp" as const };
    const server = await startServer(["memory", "1M"], options);
    const other = new Authority("Other").issue("client");
    const { status, stderr } = await nbdinfo(overTcp(server, other));
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/certificate/i);
    await says(server, /client .*: refused: TLS handshake failed: .*it may not trust this server/);
    await server.stop();
  });

  test("a client refuses an expired certificate", async () => {
    const certificates = new Authority().issue("server", { days: -1 });
    const options = { ...secure(certificates), transport: "tcp" as const };
    const server = await startServer(["memory", "1M"], options);
    const { status, stderr } = await nbdinfo(overTcp(server, certificates));
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/certificate verification/);
    await says(server, /client .*: refused: TLS handshake failed: .*it may not trust this server/);
    await server.stop();
  });
});

describe("--tls-verify-peer", () => {
  const verifying = async () => {
    const authority = new Authority();
    const certificates = authority.issue("server");
    return { authority, certificates, options: secure(certificates, "--tls-verify-peer") };
  };

  test("accepts a client with a certificate, and tells plugins its name", async () => {
    const { authority, options } = await verifying();
    const server = await startServer([testPlugin("tlsnames")], options);
    const client = authority.issue("client", { subject: "/O=Example/CN=alice" });
    const { stdout } = await nbdinfo(uriFor(server, client));
    expect(stdout).toContain("tls=1 name=CN=alice,O=Example issuer=CN=Test authority");
    await server.stop();
  });

  test.each([
    ["none", undefined, "the client sent no certificate"],
    // GnuTLS does not show a certificate of an authority that the server has not named.
    ["one of another authority", "other", "the client sent no certificate"],
    [
      "one that has expired",
      "expired",
      "the client's certificate was rejected: certificate has expired",
    ],
  ])("refuses %s", async (_, kind, words) => {
    const { authority, certificates, options } = await verifying();
    const server = await startServer(["memory", "1M"], options);
    const issuer = kind === "other" ? new Authority("Other") : authority;
    const client = temporaryDirectory();
    if (kind !== undefined) issuer.add(client, "client", { days: kind === "expired" ? -1 : 30 });
    await run(["cp", join(certificates, "ca-cert.pem"), client]);
    const { status } = await nbdinfo(uriFor(server, client));
    expect(status).not.toBe(0);
    await says(server, words);
    await server.stop();
  });

  test("refuses only certificates revoked in ca-crl.pem", async () => {
    const { authority, certificates, options } = await verifying();
    const [good, bad] = [authority.issue("client"), authority.issue("client")];
    const revoked = authority.revoke(join(bad, "client-cert.pem"));
    await run(["cp", revoked, join(certificates, "ca-crl.pem")]);
    const server = await startServer(["memory", "1M"], options);
    expect((await nbdinfo(uriFor(server, good))).status).toBe(0);
    expect((await nbdinfo(uriFor(server, bad))).status).not.toBe(0);
    await says(server, "the client's certificate was rejected: certificate revoked");
    await server.stop();
  });
});

describe("with pre-shared keys", () => {
  const start = async (priority = "NORMAL") => {
    const keys = preSharedKeys("alice", "bob");
    const options = ["--tls=require", `--tls-psk=${keys}`, `--tls-priority=${priority}`];
    return { keys, server: await startServer(["memory", "64M"], { options }) };
  };
  const uri = (server: RunningServer, user: string, keys: string): string =>
    `nbds+unix://${user}@/?socket=${server.socket}&tls-psk-file=${keys}`;

  test.each(["NORMAL:-VERS-TLS1.2", "NORMAL:-VERS-TLS1.3"])(
    "libnbd copies, %s",
    async (priority) => {
      const { keys, server } = await start(priority);
      await copies(uri(server, "bob", keys));
      await server.stop();
    },
  );

  test("qemu-img connects", async () => {
    const { keys, server } = await start();
    const creds = `tls-creds-psk,id=tls,dir=${dirname(keys)},username=alice,endpoint=client`;
    const where = `driver=nbd,tls-creds=tls,server.type=unix,server.path=${server.socket}`;
    const info = await run(["qemu-img", "info", "--object", creds, "--image-opts", where]);
    expect(info).toMatchObject({ status: 0 });
    expect(info.stdout).toContain("64 MiB");
    await server.stop();
  });

  test("a wrong key and an unknown user are refused, and the log has no secrets", async () => {
    const { keys, server } = await start();
    const other = preSharedKeys("alice", "mallory");
    expect((await nbdinfo(uri(server, "alice", other))).status).not.toBe(0);
    expect((await nbdinfo(uri(server, "mallory", other))).status).not.toBe(0);
    await says(server, /\[3\]: warning: client .*: refused: TLS handshake failed: /); // the first was the probe's
    const { stdout } = await run(["cat", keys, other]);
    for (const [, secret] of stdout.matchAll(/:(\w+)/g))
      expect(server.stderr()).not.toContain(secret as string);
    expect((await nbdinfo(uri(server, "alice", keys))).status).toBe(0);
    await server.stop();
  });

  test.each([
    ["alice\n", "line 1 of the pre-shared keys"],
    ["# comment\n\nalice:0secret\n", "line 3 of the pre-shared keys"],
    ["", "there are no pre-shared keys"],
  ])("a file with %j stops the start, without its secrets in the message", async (text, words) => {
    const path = join(temporaryDirectory(), "keys.psk");
    writeFileSync(path, text);
    const { status, stderr } = await runAsyncnbd(["--tls=require", `--tls-psk=${path}`, NULL]);
    expect(status).toBe(1);
    expect(stderr).toContain(words);
    expect(stderr).not.toContain("0secret");
  });
});

describe("without certificates", () => {
  test("--tls=require fails to start, and names what is missing", async () => {
    const directory = temporaryDirectory();
    const options = ["--tls=require", `--tls-certificates=${directory}`];
    const { status, stderr } = await runAsyncnbd([...options, NULL]);
    expect(status).toBe(1);
    expect(stderr).toContain(`${directory} has no ca-cert.pem, server-cert.pem, server-key.pem`);
  });

  test("--tls=on warns and serves without TLS", async () => {
    const options = ["--tls=on", `--tls-certificates=${temporaryDirectory()}`];
    const server = await startServer(["memory", "1M"], { options });
    await says(server, "TLS is disabled because there are no certificates");
    expect((await nbdinfo(server.uri)).status).toBe(0);
    await server.stop();
  });

  test("a key that belongs to another certificate stops the start", async () => {
    const authority = new Authority();
    const [certificates, other] = [authority.issue("server"), authority.issue("server")];
    await run(["cp", join(other, "server-key.pem"), certificates]);
    const { status, stderr } = await runAsyncnbd([
      "--tls=on",
      `--tls-certificates=${certificates}`,
      NULL,
    ]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/key/);
  });
});

test.each([
  ["--tls=maybe", "use off, on or require"],
  ["--tls-priority=NORMAL:+AEAD", "+AEAD is not supported"],
  ["--tls-priority=NORMAL:-VERS-ALL", "disables all TLS versions"],
])("%s is refused", async (option, words) => {
  const { status, stderr } = await runAsyncnbd([option, NULL]);
  expect(status).toBe(1);
  expect(stderr).toContain(words);
});

test("--tls=on lets clients choose; --tls=off offers no TLS", async () => {
  const certificates = new Authority().issue("server");
  const on = await startServer(["memory", "1M"], {
    options: ["--tls=on", `--tls-certificates=${certificates}`],
  });
  expect((await nbdinfo(on.uri)).stdout).toContain("without TLS");
  expect((await nbdinfo(uriFor(on, certificates))).stdout).toContain("with TLS");
  await on.stop();
  const off = await startServer(["memory", "1M"], {
    options: ["--tls=off", `--tls-certificates=${certificates}`],
  });
  expect((await nbdinfo(uriFor(off, certificates))).status).not.toBe(0);
  await off.stop();
});

test("--run's command gets a URI by which libnbd finds the certificates", async () => {
  const certificates = new Authority().issue("server");
  const { status, stdout } = await runAsyncnbd([
    ...["--tls=require", `--tls-certificates=${certificates}`, "-p", "0"],
    ...[
      "--run",
      'nbdinfo --size "$uri" && echo $tls $tls_certificates',
      testPlugin("memory"),
      "1M",
    ],
  ]);
  expect({ status, stdout }).toEqual({ status: 0, stdout: `1048576\n2 ${certificates}\n` });
});

test("a plugin in TypeScript knows whether its client is encrypted, on workers too", async () => {
  const path = join(temporaryDirectory(), "private.mjs");
  writeFileSync(
    path,
    `export default {
      name: "private",
      open: ({ tls }) => tls,
      exportDescription: (tls) => (tls ? "over TLS" : "in the clear"),
      getSize: () => 512,
      pread(_, buf) { buf.fill(0); },
    };`,
  );
  const certificates = new Authority().issue("server");
  for (const workers of [[], ["--workers=2"]]) {
    const options = ["--tls=on", `--tls-certificates=${certificates}`, ...workers];
    const server = await startServer([path], { options });
    expect((await nbdinfo(server.uri)).stdout).toContain("in the clear");
    expect((await nbdinfo(uriFor(server, certificates))).stdout).toContain("over TLS");
    await server.stop();
  }
});
