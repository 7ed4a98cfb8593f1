// A server breaks each rule once: the client notices, names the rule, and closes the connection.

import { afterAll, expect, test } from "vitest";
import { type Client, connect, listExports, ProtocolError } from "../../../src/client/index.js";
import { RULES, type RuleName } from "../../../src/client/rules.js";
import { startWrongServer } from "../../support/wrong-server.js";
import type { Break } from "./break.js";
import { HANDSHAKE_BREAKS } from "./handshake-breaks.js";
import { REPLY_BREAKS } from "./reply-breaks.js";

const read = (client: Client): Promise<unknown> => client.read(512, 512);
const BREAKS: readonly Break[] = [...HANDSHAKE_BREAKS, ...REPLY_BREAKS];

/** Seen to elsewhere, with the reason. */
const ELSEWHERE: Readonly<Partial<Record<RuleName, string>>> = {
  "tls-required": "life.test.ts: it takes TLS",
  "tls-plain-text": "life.test.ts: it takes TLS",
};

const noticed = new Set<string>(Object.keys(ELSEWHERE));

const OPTIONS = {
  simple: { structuredReplies: false, extendedHeaders: false },
  structured: { extendedHeaders: false },
  extended: {},
};

test.each(BREAKS.map((one) => [one.rule, one.what ?? "", one.style ?? "extended", one] as const))(
  "%s %s (%s)",
  async (rule, _what, style, { wrongs, use = read, lists }) => {
    const { path, sockets } = await startWrongServer(wrongs);
    const contexts = ["base:allocation", "x:y"];
    let client: Client | undefined;
    const error = await (async () => {
      if (lists) return listExports({ path });
      client = await connect({ path }, { ...OPTIONS[style], contexts });
      return use(client);
    })().catch((failed: unknown) => failed);
    expect(error).toBeInstanceOf(ProtocolError);
    const { rule: named, section, message } = error as ProtocolError;
    expect(named).toBe(rule);
    expect(section).toBe(RULES[rule].section);
    expect(message).toContain(RULES[rule].rule);
    // Whoever is wrong once is not listened to any longer.
    await Promise.all(
      [...sockets].map((socket) => new Promise((done) => socket.once("close", done))),
    );
    const isOver = rule === "disconnect-reply"; // and the client was closed anyway
    if (client !== undefined && !isOver) await expect(client.flush()).rejects.toBe(error);
    noticed.add(rule);
  },
);

afterAll(() => {
  expect(Object.keys(RULES).filter((rule) => !noticed.has(rule))).toEqual([]);
});
