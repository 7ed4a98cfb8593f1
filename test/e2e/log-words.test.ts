// Words of others in the log: what clients call exports, and addresses with passwords.

import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { CMD, ERRNO, OPT } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  debianPlugin,
  eventually,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const FORGED = "asyncnbd: error: the disk is on fire";
const NAME = `x\n${FORGED}\r\x1b[31m\u202e`;

/** Refuses all exports but one, and fails to read that, each time with its name. */
const SCRIPT = `
import { definePlugin } from "asyncnbd";
export default definePlugin({
  name: "doorman",
  open({ exportName }) {
    this.log.warn(exportName);
    if (!exportName.endsWith("!")) throw new Error("no export " + exportName);
    return exportName;
  },
  getSize: () => 512,
  pread(name) { throw new Error("cannot read " + name); },
});
`;

function scriptPlugin(): string {
  const path = join(temporaryDirectory(), "doorman.mjs");
  writeFileSync(path, SCRIPT);
  return path;
}

const plugins: [string, () => string[]][] = [
  ["the file plugin", () => ["file", `dir=${temporaryDirectory()}`]],
  ["a plugin in JavaScript", () => [scriptPlugin()]],
  ["nbdkit's file plugin", () => [debianPlugin("file"), `dir=${temporaryDirectory()}`]],
];

describe.each(plugins)(
  "an export's name that looks like a line of the log, before %s",
  (_, plugin) => {
    test.each([[[]], [["-v"]]])("is escaped, options %j", async (options) => {
      const server = await startServer(plugin(), { options });
      const polite = await RawClient.connect(server.socket);
      await expect(polite.go(NAME)).rejects.toThrow("refused");
      polite.socket.destroy();
      const old = await RawClient.connect(server.socket);
      await old.greet();
      old.sendOption(OPT.EXPORT_NAME, Buffer.from(NAME));
      await old.closed();
      await eventually("both refusals", () =>
        (server.stderr().match(/: refused: /g)?.length ?? 0) >= 2 ? true : undefined,
      );
      const { stderr } = await server.stop();
      expect(stderr.split("\n").filter((line) => line.startsWith(FORGED))).toEqual([]);
      for (const control of ["\x1b", "\r", "\u202e"]) expect(stderr).not.toContain(control);
      expect(stderr).toContain("the disk is on fire");
    });
  },
);

test.each([[[]], [["-v"]]])(
  "the name of an export that is open is escaped, options %j",
  async (options) => {
    const server = await startServer([scriptPlugin()], { options });
    const client = await RawClient.open(server.socket, `${NAME}!`);
    expect(await client.request({ type: CMD.READ, length: 512 })).toBe(ERRNO.EIO);
    client.socket.destroy();
    const { stderr } = await server.stop();
    expect(stderr).toContain("cannot read x");
    expect(stderr.split("\n").filter((line) => line.startsWith(FORGED))).toEqual([]);
  },
);

/** Answers nothing but 404, and keeps what it was asked. */
async function emptyWeb(): Promise<{ host: string; authorizations: (string | undefined)[] }> {
  const authorizations: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    authorizations.push(request.headers.authorization);
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, authorizations };
}

describe("a password", () => {
  const PASSWORD = "S3cr3t";

  test("in an address is sent to its server and shown to nobody else", async () => {
    const { host, authorizations } = await emptyWeb();
    const url = `http://user:${PASSWORD}@${host}/disk.img`;
    const { status, stderr } = await runAsyncnbd(["-f", "-v", "-U", "-", "http", url]);
    expect(status).toBe(1);
    expect(authorizations).toContain(`Basic ${Buffer.from(`user:${PASSWORD}`).toString("base64")}`);
    expect(stderr).not.toContain(PASSWORD);
  });

  test.each([
    ["http", "ftp://user:S3cr3t@host/"],
    ["file", "url=http://user:S3cr3t@host/"],
    ["null", "http://user:S3cr3t@host/"],
  ])("in an address is not in the output of %s", async (plugin, parameter) => {
    const { status, stderr } = await runAsyncnbd(["-f", "-v", "-U", "-", plugin, parameter]);
    expect(status).toBe(1);
    expect(stderr).not.toContain(PASSWORD);
  });

  test("of a C plugin and other secrets are not in the lines of -v", async () => {
    const { stderr } = await runAsyncnbd(
      ["-f", "-v", "-U", "-", debianPlugin("curl")].concat(
        [`url=http://user:${PASSWORD}@127.0.0.1:1/`, `password=${PASSWORD}`],
        [`header=Authorization: Bearer ${PASSWORD}`, `cookie=session=${PASSWORD}`],
        ["--run", "nbdinfo $uri"],
      ),
    );
    expect(stderr).toContain("config key=url, value=http://user:***@127.0.0.1:1/");
    expect(stderr).toContain("config key=header, value=Authorization: ***");
    expect(stderr).not.toContain(PASSWORD);
  });

  test("is not in the message about a parameter that a plugin refuses silently", async () => {
    const refusalOf = async (parameter: string): Promise<string> => {
      const { status, stderr } = await runAsyncnbd(["-U", "-", testPlugin("probe"), parameter]);
      expect(status).toBe(1);
      return stderr;
    };
    expect(await refusalOf("unwanted=value")).toContain(
      'plugin "probe" refused the parameter unwanted=value\n',
    );
    expect(await refusalOf(`unwanted-password=${PASSWORD}`)).toContain(
      'plugin "probe" refused the parameter unwanted-password=***\n',
    );
    const url = await refusalOf(`unwanted-url=http://user:${PASSWORD}@host/`);
    expect(url).toContain("unwanted-url=http://user:***@host/\n");
  });

  test("in an address is not sent to clients", async () => {
    const plugin = join(temporaryDirectory(), "leak.mjs");
    writeFileSync(
      plugin,
      `export default { name: "leak", getSize: () => 512, pread() {
         throw new Error("no answer from http://user:${PASSWORD}@host/");
       } };`,
    );
    const server = await startServer([plugin]);
    const client = await StrictClient.connect(server.where, { style: "structured" });
    const [reply] = await client.requests({ type: CMD.READ, length: 512 });
    expect(reply?.error).toBe(ERRNO.EIO);
    expect(JSON.stringify(reply)).not.toContain(PASSWORD);
    await client.disconnect();
    expect((await server.stop()).stderr).not.toContain(PASSWORD);
  });
});
