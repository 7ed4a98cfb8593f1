// Replies in which bytes are wrong: whatever they are, each request settles, and nothing else fails.

import { expect, onTestFinished, test } from "vitest";
import { connect, type ProtocolError } from "../../../src/client/index.js";
import { randomOf } from "../../support/random.js";
import { right, startWrongServer } from "../../support/wrong-server.js";

const ROUNDS = 300;

const OPTIONS = {
  simple: { structuredReplies: false, extendedHeaders: false },
  structured: { extendedHeaders: false },
  extended: {},
};

test.each(["simple", "structured", "extended"] as const)("%s", async (style) => {
  const random = randomOf(style.length);
  const seen = new Set<string>();
  const server = await startWrongServer({
    reply: (request, socket) => {
      const reply = right(request, style);
      const altered = 1 + random(2);
      for (let i = 0; i < altered; i++) reply[random(Math.min(reply.length, 60))] = random(256);
      // In two parts, and then the end: a longer length must not make the client wait for ever.
      const cut = random(reply.length);
      socket.write(reply.subarray(0, cut));
      socket.end(reply.subarray(cut));
      return undefined;
    },
  });
  for (let round = 0; round < ROUNDS; round++) {
    const client = await connect({ path: server.path }, OPTIONS[style]);
    onTestFinished(() => client.destroy());
    const canAsk = style !== "simple" && round % 3 === 0;
    const request: Promise<unknown> = canAsk
      ? client.blockStatus(0, 4096)[Symbol.asyncIterator]().next()
      : round % 3 === 1
        ? client.write(512, Buffer.alloc(100))
        : client.read(512, 100);
    const outcome = await request.then(
      () => "succeeds",
      (error: Error) => (error as ProtocolError).rule ?? error.name,
    );
    seen.add(outcome);
    client.destroy();
  }
  expect(seen).toContain("reply-magic");
  expect(seen).toContain("cookie");
  expect(seen).toContain("succeeds"); // what is data may be anything
});
