// An S3 client of few lines, and its signature, which is not that of the s3 plugin's libcurl: what one
// of them writes, the other reads, and stubs check by it what they are sent.

import { createHash, createHmac } from "node:crypto";
import { type IncomingHttpHeaders, request } from "node:http";

export const KEYS = { id: "test", secret: "secret12345" };

const hmac = (key: string | Buffer, text: string) =>
  createHmac("sha256", key).update(text).digest();
const sha256 = (data: string) => createHash("sha256").update(data).digest("hex");

const encoded = (text: string): string =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`,
  );

export const pathOf = (bucket: string, key: string): string =>
  `/${bucket}/${key.split("/").map(encoded).join("/")}`;

/** Signature Version 4 of a request with these headers, of which `signed` are signed. */
export function signatureOf(
  method: string,
  path: string,
  headers: IncomingHttpHeaders,
  signed: readonly string[],
  secret: string,
): string {
  const [pathname = "", query = ""] = path.split("?");
  const canonical = [
    method,
    pathname,
    query.split("&").sort().join("&"),
    ...signed.map((name) => `${name}:${headers[name]}`),
    "",
    signed.join(";"),
    headers["x-amz-content-sha256"],
  ].join("\n");
  const time = headers["x-amz-date"] as string;
  const date = time.slice(0, 8);
  const scope = `${date}/us-east-1/s3/aws4_request`;
  const key = [date, "us-east-1", "s3", "aws4_request"].reduce<string | Buffer>(
    hmac,
    `AWS4${secret}`,
  );
  return hmac(key, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${sha256(canonical)}`).toString("hex");
}

export interface S3Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export class S3Client {
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  /** `path` is encoded already, and has a query perhaps. */
  send(
    method: string,
    path: string,
    body: Uint8Array = new Uint8Array(),
    extra: Readonly<Record<string, string>> = {},
  ): Promise<S3Answer> {
    const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
    const headers: Record<string, string> = {
      host: `127.0.0.1:${this.#port}`,
      "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
      "x-amz-date": time,
    };
    const signed = Object.keys(headers).sort();
    const signature = signatureOf(method, path, headers, signed, KEYS.secret);
    headers.authorization =
      `AWS4-HMAC-SHA256 Credential=${KEYS.id}/${time.slice(0, 8)}/us-east-1/s3/aws4_request, ` +
      `SignedHeaders=${signed.join(";")}, Signature=${signature}`;
    headers["content-length"] = String(body.length);
    return new Promise((resolve, reject) => {
      const sent = request(
        { host: "127.0.0.1", port: this.#port, method, path, headers: { ...headers, ...extra } },
        async (response) => {
          const chunks: Buffer[] = [];
          for await (const chunk of response) chunks.push(chunk as Buffer);
          const { statusCode = 0, headers } = response;
          resolve({ status: statusCode, headers, body: Buffer.concat(chunks) });
        },
      );
      sent.once("error", reject);
      sent.end(body);
    });
  }

  async put(bucket: string, key: string, body: Uint8Array = new Uint8Array()): Promise<void> {
    const path = key === "" ? `/${bucket}` : pathOf(bucket, key);
    const { status, body: words } = await this.send("PUT", path, body);
    if (status !== 200) throw new Error(`PUT ${path}: ${status} ${words}`);
  }

  /** undefined: there is none. */
  async get(bucket: string, key: string): Promise<Buffer | undefined> {
    const { status, body } = await this.send("GET", pathOf(bucket, key));
    return status === 200 ? body : undefined;
  }

  /** The names of all objects that begin so. */
  async list(bucket: string, prefix: string): Promise<string[]> {
    const query = `list-type=2&prefix=${encoded(prefix)}`;
    const { body } = await this.send("GET", `/${bucket}?${query}`);
    return [...body.toString().matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key as string);
  }
}
