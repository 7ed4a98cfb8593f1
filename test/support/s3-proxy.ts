// Between the s3 plugin and a real S3 server: passes requests on as they are, or does to them what
// happens on the way.

import { once } from "node:events";
import {
  Agent,
  createServer,
  type IncomingMessage,
  type ServerResponse,
  request as send,
} from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export type Fate =
  | "pass"
  | "lose the request"
  | "be silent"
  | "lose the answer"
  | "cut the answer"
  | { readonly status: number; readonly body?: string; readonly headers?: Record<string, string> }
  | { readonly delayMs: number };

export interface StoreProxy {
  readonly url: string;
  /** What becomes of the next requests. */
  fate: (request: IncomingMessage, body: Buffer) => Fate;
  /** "GET /bucket/key", of all requests until now. */
  readonly seen: string[];
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export const errorDocument = (code: string, more = ""): string =>
  `<?xml version="1.0"?><Error><Code>${code}</Code>${more}</Error>`;

/** Until the test ends. Without a port, all fates must be answers of its own: a stub of a store. */
export async function startProxy(port = 0): Promise<StoreProxy> {
  const agent = new Agent({ keepAlive: true });
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await bodyOf(request);
    proxy.seen.push(`${request.method} ${request.url}`);
    const fate = proxy.fate(request, body);
    if (fate === "be silent") return;
    if (fate === "lose the request") {
      request.socket.destroy();
      return;
    }
    if (typeof fate === "object" && "status" in fate) {
      response.writeHead(fate.status, fate.headers ?? {}).end(fate.body ?? "");
      return;
    }
    if (typeof fate === "object") await new Promise((done) => setTimeout(done, fate.delayMs));
    const { method, url: path, headers } = request;
    const passed = send({ agent, host: "127.0.0.1", port, method, path, headers });
    passed.end(body);
    const [real] = (await once(passed, "response")) as [IncomingMessage];
    const content = await bodyOf(real);
    if (fate === "lose the answer") {
      request.socket.destroy();
      return;
    }
    response.writeHead(real.statusCode ?? 500, real.headers);
    if (fate === "cut the answer" && content.length > 1) {
      response.write(content.subarray(0, content.length / 2), () => request.socket.destroy());
      return;
    }
    response.end(content);
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => request.socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
    agent.destroy();
  });
  const { port: own } = server.address() as AddressInfo;
  const proxy: StoreProxy = { url: `http://127.0.0.1:${own}`, fate: () => "pass", seen: [] };
  return proxy;
}
