// A web server of one file, in parts or as a whole.

import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

/** A status of failure, where to look instead, or undefined: it gets the file. */
export type Refusal = number | string | undefined;

/** Lives as long as the test. The URL, without a path at its end. */
export async function startHttp(
  content: Buffer,
  refuse: (request: IncomingMessage) => Refusal = () => undefined,
): Promise<string> {
  const server = createServer((request, response): void => {
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const last = content.length - 1;
    const [from, to] = [Number(range?.[1] ?? 0), Math.min(Number(range?.[2] ?? last), last)];
    const refusal = refuse(request);
    if (typeof refusal === "number") return void response.writeHead(refusal).end();
    if (refusal !== undefined) return void response.writeHead(302, { location: refusal }).end();
    response.writeHead(range === null ? 200 : 206, {
      ...(request.url === "/no-ranges" ? {} : { "accept-ranges": "bytes" }),
      "content-length": to - from + 1,
      "content-range": `bytes ${from}-${to}/${content.length}`,
    });
    response.end(request.method === "HEAD" ? undefined : content.subarray(from, to + 1));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
