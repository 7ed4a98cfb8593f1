// A web server of one file, by ranges, that a test has answer as it likes.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, ListenOptions } from "node:net";
import { onTestFinished } from "vitest";

export interface Web {
  readonly url: string;
  readonly port: number;
  /** The ranges asked for, after the first, which asks for the size. */
  readonly ranges: string[];
  readonly sockets: Set<number | undefined>;
  readonly requests: IncomingMessage[];
  /** No longer listens, and has cut all connections. */
  close(): Promise<void>;
}

/** True: it has answered, or will not. `count` are the requests before. */
export type Handler = (
  request: IncomingMessage,
  response: ServerResponse,
  count: number,
) => boolean;

export interface WebOptions {
  readonly etag?: () => string | undefined;
  readonly lastModified?: () => string;
  readonly handle?: Handler;
  readonly listen?: ListenOptions;
  readonly tls?: { readonly key: Buffer; readonly cert: Buffer };
}

export const ETAG = '"one"';

/** Lives as long as the test. */
export async function startWeb(content: Buffer, options: WebOptions = {}): Promise<Web> {
  const { etag = () => ETAG, lastModified, handle = () => false, listen, tls } = options;
  const ranges: string[] = [];
  const sockets = new Set<number | undefined>();
  const requests: IncomingMessage[] = [];
  let count = 0;
  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    const range = request.headers.range ?? "";
    if (count > 0) ranges.push(range);
    sockets.add(request.socket.remotePort);
    requests.push(request);
    response.on("error", () => {});
    if (handle(request, response, count++)) return;
    const validators = {
      ...(etag() !== undefined && { etag: etag() }),
      ...(lastModified !== undefined && { "last-modified": lastModified() }),
    };
    const [, from, to] = (/^bytes=(\d+)-(\d+)$/.exec(range) ?? []).map(Number) as number[];
    const ifRange = request.headers["if-range"];
    if (from === undefined || to === undefined || (ifRange !== undefined && ifRange !== etag())) {
      response.writeHead(200, { ...validators, "content-length": content.length });
      response.end(content);
      return;
    }
    const part = content.subarray(from, to + 1);
    response.writeHead(206, {
      ...validators,
      "content-length": part.length,
      "content-range": `bytes ${from}-${from + part.length - 1}/${content.length}`,
    });
    response.end(part);
  };
  const server = tls === undefined ? createServer(serve) : createSecureServer(tls, serve);
  server.on("connection", (socket) => socket.on("error", () => {}));
  await new Promise<void>((resolve) =>
    server.listen(listen ?? { port: 0, host: "127.0.0.1" }, resolve),
  );
  const close = (): Promise<void> => {
    server.closeAllConnections();
    return new Promise((resolve) => void server.close(() => resolve()));
  };
  onTestFinished(() => void close());
  const address = server.address() as AddressInfo | string;
  const port = typeof address === "string" ? 0 : address.port;
  const url = `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}/disk.img`;
  return { url, port, ranges, sockets, requests, close };
}
