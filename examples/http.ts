// A file on a web server as a read-only disk: asyncnbd http https://example.com/disk.img
import { setTimeout as sleep } from "node:timers/promises";
import { definePlugin, failure } from "asyncnbd";

/** One read of a client's. */
interface Read {
  readonly buf: Buffer;
  readonly offset: number;
  readonly signal: AbortSignal;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface Settings {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly connections: number;
  readonly maxRequestBytes: number;
  readonly retries: number;
  readonly retryDelayMs: number;
  readonly timeoutMs: number;
  readonly warn: (text: string) => void;
}

/** What must stay the same while we serve it. */
interface Identity {
  readonly sizeBytes: number;
  /** A strong one; a weak one promises nothing of bytes. */
  readonly etag: string | undefined;
  readonly lastModified: string | undefined;
}

/** A failure that another attempt may not meet. */
class Passing extends Error {
  /** The server's wish. */
  readonly afterMs: number | undefined;
  constructor(message: string, afterMs?: number) {
    super(message);
    this.afterMs = afterMs;
  }
}

const codeOf = (error: unknown): unknown => Object((error as Error).cause).code;

/** A connection or a name that another attempt may find; of fetch's failures, those with a code. */
function isLost(error: unknown): boolean {
  const code = codeOf(error);
  // A certificate will be as wrong the next time. Too many redirects have no code.
  return typeof code === "string" && !/CERT|SIGNED|UNABLE_TO|^ERR_/.test(code);
}

function identityOf(response: Response): Identity {
  const [, size] =
    /^bytes (?:\d+-\d+|\*)\/(\d+)$/.exec(response.headers.get("content-range") ?? "") ?? [];
  if (size === undefined) throw failure("EIO", "the server did not send the file's size");
  const etag = response.headers.get("etag") ?? undefined;
  return {
    sizeBytes: Number(size),
    etag: etag?.startsWith('"') ? etag : undefined,
    lastModified: response.headers.get("last-modified") ?? undefined,
  };
}

function retryAfterMs(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) ? Math.min(seconds * 1000, 60_000) : undefined;
}

/** A file on a server, read by ranges. */
class RemoteFile {
  readonly #settings: Settings;
  /** For messages: what follows a "?" may be secret. */
  readonly #name: string;
  #identity: Identity | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#name = settings.url.replace(/[?#].*/s, "");
  }

  /** Asks for the size, and for what tells this version of the file from others. */
  async identify(): Promise<number> {
    await this.#insist(async () => {
      const response = await this.#request(0, 1, AbortSignal.timeout(this.#settings.timeoutMs));
      await response.body?.cancel();
      if (response.status === 200)
        throw failure("EIO", `${this.#name}: the server does not support range requests`);
      this.#identity = identityOf(response);
    });
    return (this.#identity as Identity).sizeBytes;
  }

  /** Hands the bytes of a range to `take`, in order; from the start again after a failure. */
  async read(
    offset: number,
    count: number,
    signal: AbortSignal,
    take: (bytes: Uint8Array, at: number) => void,
  ): Promise<void> {
    await this.#insist(() => this.#readOnce(offset, count, signal, take), signal);
  }

  async #readOnce(
    offset: number,
    count: number,
    signal: AbortSignal,
    take: (bytes: Uint8Array, at: number) => void,
  ): Promise<void> {
    const silence = new AbortController();
    const timer = setTimeout(
      () => silence.abort(new Passing("no answer")),
      this.#settings.timeoutMs,
    );
    try {
      const response = await this.#request(
        offset,
        count,
        AbortSignal.any([signal, silence.signal]),
      );
      this.#check(response, offset, count);
      let at = 0;
      for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
        timer.refresh();
        if (at + bytes.length > count)
          throw failure("EIO", "the server sent more data than requested");
        take(bytes, at);
        at += bytes.length;
      }
      if (at < count) throw new Passing(`the server sent ${at} of ${count} bytes`);
    } finally {
      clearTimeout(timer);
    }
  }

  async #request(offset: number, count: number, signal: AbortSignal): Promise<Response> {
    const { url, headers } = this.#settings;
    const validator = this.#identity?.etag;
    const response = await fetch(url, {
      headers: {
        ...headers,
        // Compressed, a range would be one of other bytes.
        "accept-encoding": "identity",
        range: `bytes=${offset}-${offset + count - 1}`,
        ...(validator !== undefined && { "if-range": validator }),
      },
      signal,
    });
    const { status, statusText } = response;
    if (status === 206 || status === 200 || status === 416) return response;
    await response.body?.cancel();
    const what = `${this.#name}: the server said ${status} ${statusText}`;
    if (status >= 500 || status === 429 || status === 408)
      throw new Passing(what, retryAfterMs(response));
    throw failure(status === 401 || status === 403 ? "EPERM" : "EIO", what);
  }

  /** Of the version that we serve, and of the range that was asked for. */
  #check(response: Response, offset: number, count: number): void {
    const known = this.#identity as Identity;
    const range = `bytes ${offset}-${offset + count - 1}/${known.sizeBytes}`;
    const isKnown =
      response.status === 206 &&
      response.headers.get("content-range") === range &&
      (known.etag === undefined || response.headers.get("etag") === known.etag) &&
      (known.lastModified === undefined ||
        response.headers.get("last-modified") === known.lastModified);
    if (isKnown) return;
    void response.body?.cancel();
    throw failure("EIO", "the file has changed on the server; restart to serve the new version");
  }

  /** Until it succeeds, fails for good, or `retries` are used up. */
  async #insist(attempt: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    const { retries, retryDelayMs, warn } = this.#settings;
    for (let failures = 0; ; failures++)
      try {
        await attempt();
        return;
      } catch (error) {
        if (signal?.aborted) throw error;
        const { cause, message } = error as Error;
        const what = cause instanceof Error ? `${this.#name}: ${wordsOf(cause)}` : message;
        // A name that has never been found is misspelt.
        const isMisspelt = this.#identity === undefined && codeOf(error) === "ENOTFOUND";
        const isPassing =
          error instanceof Passing ||
          (isLost(error) && !isMisspelt) ||
          (error as Error).name === "TimeoutError";
        if (!isPassing && cause === undefined) throw error;
        if (!isPassing || failures >= retries) throw failure("EIO", what);
        warn(`${what}; retrying`);
        const backoffMs = retryDelayMs * 2 ** failures * (0.5 + Math.random());
        const waitMs = (error instanceof Passing ? error.afterMs : undefined) ?? backoffMs;
        await sleep(waitMs, undefined, { signal });
      }
  }
}

const wordsOf = ({ code, message }: Error & { code?: unknown }): string =>
  code === "ENOTFOUND" ? "there is no such host" : message;

/** Sends no more than so many requests at once, and makes one of reads that lie side by side. */
class Reader {
  readonly #file: RemoteFile;
  readonly #settings: Settings;
  #waiting: Read[] = [];
  #requests = 0;
  #isDue = false;

  constructor(file: RemoteFile, settings: Settings) {
    this.#file = file;
    this.#settings = settings;
  }

  read(buf: Buffer, offset: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ buf, offset, signal, resolve, reject });
      if (this.#isDue) return;
      this.#isDue = true;
      // Reads that come together are seen together.
      setImmediate(() => {
        this.#isDue = false;
        this.#send();
      });
    });
  }

  #send(): void {
    this.#waiting = this.#waiting.filter((read) => {
      if (read.signal.aborted) read.reject(read.signal.reason);
      return !read.signal.aborted;
    });
    this.#waiting.sort((a, b) => a.offset - b.offset);
    while (this.#waiting.length > 0 && this.#requests < this.#settings.connections) {
      const reads = this.#takeNeighbours();
      this.#requests++;
      void this.#serve(reads).finally(() => {
        this.#requests--;
        this.#send();
      });
    }
  }

  /** The first read, and those that follow it without a gap, or lie within. */
  #takeNeighbours(): Read[] {
    const [first] = this.#waiting as [Read];
    let end = first.offset + first.buf.length;
    let count = 1;
    for (const { offset, buf } of this.#waiting.slice(1)) {
      const newEnd = Math.max(end, offset + buf.length);
      if (offset > end || newEnd - first.offset > this.#settings.maxRequestBytes) break;
      end = newEnd;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #serve(reads: readonly Read[]): Promise<void> {
    const { offset } = reads[0] as Read;
    const end = Math.max(...reads.map((read) => read.offset + read.buf.length));
    const abort = new AbortController();
    const onAbort = (): void => {
      if (reads.every(({ signal }) => signal.aborted)) abort.abort();
    };
    for (const { signal } of reads) signal.addEventListener("abort", onAbort);
    try {
      await this.#file.read(offset, end - offset, abort.signal, (bytes, at) => {
        for (const read of reads) scatter(bytes, offset + at, read);
      });
      for (const { resolve } of reads) resolve();
    } catch (error) {
      for (const { reject } of reads) reject(error);
    } finally {
      for (const { signal } of reads) signal.removeEventListener("abort", onAbort);
    }
  }
}

/** What a read wants of bytes that lie at `offset`. */
function scatter(bytes: Uint8Array, offset: number, read: Read): void {
  const from = Math.max(offset, read.offset);
  const to = Math.min(offset + bytes.length, read.offset + read.buf.length);
  if (from < to) read.buf.set(bytes.subarray(from - offset, to - offset), from - read.offset);
}

function headersOf(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return Object.fromEntries(
    lines.map((line) => {
      const [, name, value] = /^([^:\s]+):\s*(.*)$/.exec(line.trim()) ?? [];
      if (name === undefined || value === undefined)
        throw failure("EINVAL", "parameter headers: expected NAME: VALUE");
      return [name, value];
    }),
  );
}

function decoded(credentials: string): string {
  try {
    return decodeURIComponent(credentials);
  } catch {
    throw failure("EINVAL", "parameter url: invalid % encoding in the user or the password");
  }
}

/** The address without its user and password, which fetch does not take; they become a header. */
function addressOf(text: string): Pick<Settings, "url" | "headers"> {
  const url = new URL(text);
  if (url.username === "" && url.password === "") return { url: text, headers: {} };
  const user = decoded(`${url.username}:${url.password}`);
  url.username = url.password = "";
  const credentials = Buffer.from(user).toString("base64");
  return { url: url.href, headers: { authorization: `Basic ${credentials}` } };
}

let reader: Reader | undefined;
let sizeBytes = 0;

export default definePlugin({
  name: "http",
  longname: "asyncnbd HTTP plugin",
  description:
    "Serves a file on a web server as a read-only disk. The server must support range requests.",
  config: {
    url: { type: "string", magic: true, description: "http: or https: URL" },
    headers: {
      type: "secret",
      default: "",
      description: "Lines of NAME: VALUE; +FILE reads them from a file",
    },
    connections: { type: "integer", default: 16, minimum: 1, description: "Most requests at once" },
    "max-request": {
      type: "size",
      default: 4 * 2 ** 20,
      minimum: 512,
      description: "Largest request; adjacent reads are merged up to this size",
    },
    retries: { type: "integer", default: 5, minimum: 0 },
    "retry-delay": { type: "time", default: 500, minimum: 1, description: "Doubled each time" },
    timeout: {
      type: "time",
      default: 30_000,
      minimum: 1,
      description: "How long the server may be silent",
    },
  },

  configComplete() {
    const { url } = this.config;
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw failure("EINVAL", `parameter url=${url}: not an http: or https: URL`);
  },

  async getReady() {
    const { config } = this;
    const { url, headers } = addressOf(config.url);
    const settings: Settings = {
      url,
      headers: { ...headers, ...headersOf(config.headers) },
      connections: config.connections,
      maxRequestBytes: config["max-request"],
      retries: config.retries,
      retryDelayMs: config["retry-delay"],
      timeoutMs: config.timeout,
      warn: (text) => this.log.warn(text),
    };
    const file = new RemoteFile(settings);
    sizeBytes = await file.identify();
    reader = new Reader(file, settings);
  },

  getSize: () => sizeBytes,
  canMultiConn: () => true,
  blockSize: () => ({ minimum: 1, preferred: 65_536, maximum: 2 ** 25 }),

  async pread(_handle, buf, offset, { signal }) {
    await (reader as Reader).read(buf, offset, signal);
  },
});
