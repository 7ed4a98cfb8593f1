// A small S3 server in memory: as much of the protocol as boto3 needs for one bucket's objects.

import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export interface ObjectStore {
  readonly url: string;
  /** By key, without the bucket. */
  readonly objects: Map<string, Buffer>;
}

export const ACCESS_KEY = "the-access-key";

function fail(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { "content-type": "application/xml" });
  response.end(`<Error><Code>${code}</Code><Message>${code} it is</Message></Error>`);
}

function sendObject(request: IncomingMessage, response: ServerResponse, object: Buffer): void {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  const from = Number(range?.[1] ?? 0);
  const to = Math.min(Number(range?.[2] ?? object.length), object.length - 1);
  response.writeHead(range === null ? 200 : 206, {
    "content-length": to - from + 1,
    "content-range": `bytes ${from}-${to}/${object.length}`,
    etag: '"object"',
  });
  response.end(request.method === "HEAD" ? undefined : object.subarray(from, to + 1));
}

function list(objects: ReadonlyMap<string, Buffer>, query: URLSearchParams): string {
  const [prefix, after] = [query.get("prefix") ?? "", query.get("start-after") ?? ""];
  const keys = [...objects.keys()].sort().filter((key) => key.startsWith(prefix) && key > after);
  const contents = keys.map((key) => `<Contents><Key>${key}</Key></Contents>`).join("");
  return `<ListBucketResult><IsTruncated>false</IsTruncated>${contents}</ListBucketResult>`;
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function answer(
  objects: Map<string, Buffer>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://store");
  const [, bucket, ...rest] = url.pathname.split("/").map(decodeURIComponent);
  const key = rest.join("/");
  const body = await bodyOf(request);
  if (!request.headers.authorization?.includes(`Credential=${ACCESS_KEY}/`))
    return fail(response, 403, "InvalidAccessKeyId");
  if (bucket !== "bucket") return fail(response, 404, "NoSuchBucket");
  if (request.method === "PUT") {
    objects.set(key, body);
    response.writeHead(200, { etag: '"object"' }).end();
  } else if (request.method === "POST" && url.searchParams.has("delete")) {
    for (const [, name] of body.toString().matchAll(/<Key>([^<]*)<\/Key>/g))
      objects.delete(name as string);
    response.writeHead(200).end("<DeleteResult></DeleteResult>");
  } else if (request.method === "DELETE") {
    objects.delete(key);
    response.writeHead(204).end();
  } else if (key === "") {
    response.writeHead(200).end(list(objects, url.searchParams));
  } else {
    const object = objects.get(key);
    if (object === undefined) fail(response, 404, "NoSuchKey");
    else sendObject(request, response, object);
  }
}

/** Lives as long as the test; its one bucket is "bucket". */
export async function startObjectStore(): Promise<ObjectStore> {
  const objects = new Map<string, Buffer>();
  const server = createServer((request, response) => void answer(objects, request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, objects };
}
