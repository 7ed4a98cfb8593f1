// Keys of the shipped s3 plugin: where it finds them, that it renews them, and that nobody else sees
// them. The store and all services that give keys are stubs on loopback.

import { readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { ERRNO } from "../support/protocol.js";
import { refusalOf } from "../support/refusal.js";
import { signatureOf } from "../support/s3-client.js";
import { errorDocument, type Fate, type StoreProxy, startProxy } from "../support/s3-proxy.js";
import {
  eventually,
  type RunningServer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

interface Keys {
  readonly id: string;
  readonly secret: string;
  readonly token?: string;
}

const ODD: Keys = { id: "AKIA:odd/+id", secret: "se:cr/et+=ü $%", token: "to/ken+==" };

/** Of the stub's only object, of zeroes. */
const OBJECT_BYTES = 4096;

/** Signed with those keys, as S3 checks it, and with all that is to be signed. */
function isSignedBy(request: IncomingMessage, keys: Keys): boolean {
  const { headers, method = "", url = "" } = request;
  const words =
    /^AWS4-HMAC-SHA256 Credential=(.*)\/\d{8}\/us-east-1\/s3\/aws4_request, SignedHeaders=([^,]*), Signature=(.*)$/.exec(
      headers.authorization ?? "",
    );
  if (words === null || words[1] !== keys.id) return false;
  const signed = (words[2] ?? "").split(";");
  const needed = ["host", "x-amz-date", "x-amz-content-sha256"];
  if (keys.token !== undefined) needed.push("x-amz-security-token");
  if (headers["x-amz-security-token"] !== keys.token) return false;
  if (!needed.every((name) => signed.includes(name))) return false;
  return words[3] === signatureOf(method, url, headers, signed, keys.secret);
}

interface Store extends StoreProxy {
  /** With which requests must be signed. */
  keys: Keys | undefined;
}

async function startStore(first: Keys | undefined): Promise<Store> {
  const proxy = await startProxy();
  const store: Store = Object.assign(proxy, { keys: first });
  proxy.fate = (request): Fate => {
    const { keys } = store;
    const isRight =
      keys === undefined ? request.headers.authorization === undefined : isSignedBy(request, keys);
    if (!isRight) return { status: 403, body: errorDocument("ExpiredToken") };
    const [, from = "0", to = "0"] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
    return {
      status: 206,
      headers: { "content-range": `bytes ${from}-${to}/${OBJECT_BYTES}`, etag: '"it"' },
      body: "\0".repeat(Number(to) - Number(from) + 1),
    };
  };
  return store;
}

/** As the services have it. */
const documentOf = ({ id, secret, token }: Keys, lifeMs = 3_600_000): string =>
  JSON.stringify({
    Code: "Success",
    AccessKeyId: id,
    SecretAccessKey: secret,
    Token: token,
    Expiration: new Date(Date.now() + lifeMs).toISOString(),
  });

const NOTHING = {
  HOME: "/nonexistent",
  AWS_EC2_METADATA_DISABLED: "true",
  AWS_ACCESS_KEY_ID: "",
  AWS_SECRET_ACCESS_KEY: "",
};

const words = (store: StoreProxy, ...parameters: readonly string[]) =>
  ["s3", `endpoint-url=${store.url}`, "bucket=bucket", "key=x", ...parameters] as const;

const serve = (
  store: StoreProxy,
  env: NodeJS.ProcessEnv = {},
  ...parameters: readonly string[]
): Promise<RunningServer> =>
  startServer(words(store, "retry-delay=50ms", ...parameters), { env: { ...NOTHING, ...env } });

const refusal = (
  store: StoreProxy,
  env: NodeJS.ProcessEnv,
  ...parameters: readonly string[]
): Promise<string> => refusalOf(words(store, ...parameters), { env: { ...NOTHING, ...env } });

function file(text: string): string {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, text);
  return path;
}

/** A stub of a service. */
async function startService(fate: (request: IncomingMessage) => Fate): Promise<StoreProxy> {
  const service = await startProxy();
  service.fate = fate;
  return service;
}

const NOT_FOUND = { status: 404 } as const;

describe("keys come from", () => {
  test("parameters, with any characters", async () => {
    const store = await startStore(ODD);
    const secret = `secret-key=+${file(`${ODD.secret}\n`)}`;
    await serve(store, {}, `access-key=${ODD.id}`, secret, `session-token=${ODD.token}`);
  });

  test("the environment", async () => {
    await serve(await startStore(ODD), {
      AWS_ACCESS_KEY_ID: ODD.id,
      AWS_SECRET_ACCESS_KEY: ODD.secret,
      AWS_SESSION_TOKEN: ODD.token,
    });
  });

  test.each(["default", "other"])("the profile %s of both files", async (profile) => {
    const wrong = "[wrong]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n";
    const config = `[${profile === "default" ? "" : "profile "}${profile}]\nregion = us-east-1\ns3 =\n  region = wrong\naws_session_token=${ODD.token}\n`;
    const credentials = `# keys\n${wrong}[${profile}]\naws_access_key_id = ${ODD.id}\naws_secret_access_key=${ODD.secret}\n`;
    await serve(
      await startStore(ODD),
      { AWS_CONFIG_FILE: file(config), AWS_SHARED_CREDENTIALS_FILE: file(credentials) },
      ...(profile === "default" ? [] : [`profile=${profile}`]),
    );
  });

  test("the profile that a parameter names, before the environment", async () => {
    const keys = `aws_access_key_id = ${ODD.id}\naws_secret_access_key = ${ODD.secret}\n`;
    const credentials = file(`[one]\n${keys}aws_session_token = ${ODD.token}\n`);
    const env = {
      AWS_PROFILE: "one",
      AWS_ACCESS_KEY_ID: "wrong",
      AWS_SECRET_ACCESS_KEY: "wrong",
      AWS_WEB_IDENTITY_TOKEN_FILE: "/nosuch",
      AWS_SHARED_CREDENTIALS_FILE: credentials,
    };
    const store = await startStore(ODD);
    await serve(store, env, "profile=one");
    expect(await refusal(store, env)).toContain("cannot open the object x");
  });

  test("a profile, and the endpoint too", async () => {
    const store = await startStore(ODD);
    const keys = `aws_access_key_id = ${ODD.id}\naws_secret_access_key = ${ODD.secret}\n`;
    const profile = `${keys}aws_session_token = ${ODD.token}\nendpoint_url = ${store.url}\n`;
    await startServer(["s3", "bucket=bucket", "key=x"], {
      env: { ...NOTHING, AWS_CONFIG_FILE: file(`[default]\n${profile}`) },
    });
  });

  test("the container's service (a stub), with its token", async () => {
    const service = await startService(({ headers, url }) =>
      headers.authorization === "the token" && url === "/keys"
        ? { status: 200, body: documentOf(ODD) }
        : NOT_FOUND,
    );
    await serve(await startStore(ODD), {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${service.url}/keys`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file("the token\n"),
    });
  });

  test("the machine's metadata (a stub), version 2", async () => {
    const service = await startService(({ method, headers, url }) => {
      if (url === "/latest/api/token")
        return method === "PUT" && headers["x-aws-ec2-metadata-token-ttl-seconds"] !== undefined
          ? { status: 200, body: "session" }
          : NOT_FOUND;
      if (headers["x-aws-ec2-metadata-token"] !== "session") return { status: 401 };
      const role = "/latest/meta-data/iam/security-credentials/";
      if (url === role) return { status: 200, body: "the-role" };
      return url === `${role}the-role` ? { status: 200, body: documentOf(ODD) } : NOT_FOUND;
    });
    await serve(await startStore(ODD), {
      AWS_EC2_METADATA_DISABLED: "",
      AWS_EC2_METADATA_SERVICE_ENDPOINT: `${service.url}/`,
    });
  });

  test.each(["JSON", "XML"])("STS (a stub) for a web identity, in %s", async (kind) => {
    const { id, secret, token } = ODD;
    const end = new Date(Date.now() + 3_600_000);
    const json = {
      AssumeRoleWithWebIdentityResponse: {
        AssumeRoleWithWebIdentityResult: {
          Credentials: {
            AccessKeyId: id,
            SecretAccessKey: secret,
            SessionToken: token,
            Expiration: Math.floor(end.getTime() / 1000),
          },
        },
      },
    };
    const xml = `<R><Credentials><AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${secret}</SecretAccessKey><SessionToken>${token}</SessionToken><Expiration>${end.toISOString()}</Expiration></Credentials></R>`;
    const service = await startService(({ method, headers }) =>
      method === "POST" && headers.accept === "application/json"
        ? { status: 200, body: kind === "JSON" ? JSON.stringify(json) : xml }
        : NOT_FOUND,
    );
    await serve(await startStore(ODD), {
      AWS_ENDPOINT_URL_STS: service.url,
      AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/disks",
      AWS_WEB_IDENTITY_TOKEN_FILE: file("identity"),
    });
  });

  test("nowhere, with anonymous=true", async () => {
    await serve(await startStore(undefined), {}, "anonymous=true");
  });
});

test("keys are renewed before they end, and when the store says that they have ended", async () => {
  const [first, second, third] = ["1", "2", "3"].map((id) => ({
    id,
    secret: `s${id}`,
    token: "t",
  }));
  let current = first as Keys;
  let lifeMs = 2000;
  let asked = 0;
  const service = await startService(() => {
    asked++;
    return { status: 200, body: documentOf(current, lifeMs) };
  });
  const store = await startStore(current);
  const server = await serve(store, { AWS_CONTAINER_CREDENTIALS_FULL_URI: service.url });
  const client = await StrictClient.connect(server.socket);
  current = second as Keys;
  lifeMs = 3_600_000;
  await eventually("a second question", () => (asked >= 2 ? true : undefined));
  await sleep(200);
  store.keys = second;
  expect((await client.read(0n, 512)).error).toBe(0);
  // The store revokes them: the request waits for others.
  current = third as Keys;
  store.keys = third;
  expect((await client.read(0n, 512)).error).toBe(0);
  expect(asked).toBeLessThan(10);
  expect(server.stderr()).toBe("");
}, 20_000);

test("keys that cannot be renewed are used on, and the log says so once", async () => {
  let isThere = true;
  const service = await startService(() =>
    isThere ? { status: 200, body: documentOf(ODD, 3000) } : { status: 500 },
  );
  const store = await startStore(ODD);
  const env = { AWS_CONTAINER_CREDENTIALS_FULL_URI: service.url };
  const server = await serve(store, env, "deadline=2s");
  isThere = false;
  const told = () => server.stderr().includes("cannot renew the keys for the store") || undefined;
  await eventually("words about it", told);
  const client = await StrictClient.connect(server.socket);
  expect((await client.read(0n, 512)).error).toBe(0);
  store.keys = undefined; // they have ended for the store, too
  expect((await client.read(0n, 512)).error).not.toBe(0);
  expect((await client.read(0n, 512)).error).not.toBe(ERRNO.EINVAL);
  expect(server.stderr()).not.toContain(ODD.secret);
}, 60_000);

describe("what is wrong with keys is said at start:", () => {
  test.each<[NodeJS.ProcessEnv, string]>([
    [{}, "there are no keys for the store: give access-key= and secret-key="],
    [{ AWS_ACCESS_KEY_ID: "a" }, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together"],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://example.com/" }, "must be an https URL"],
    [
      { AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://127.0.0.1:1/" },
      "the container's credential service:",
    ],
    [{ AWS_WEB_IDENTITY_TOKEN_FILE: "/nosuch" }, "needs AWS_ROLE_ARN"],
    [
      { AWS_WEB_IDENTITY_TOKEN_FILE: "/nosuch", AWS_ROLE_ARN: "arn" },
      "token in /nosuch cannot be read",
    ],
    [
      { AWS_PROFILE: "nosuch", AWS_CONFIG_FILE: "/config", AWS_SHARED_CREDENTIALS_FILE: "/keys" },
      'there is no profile "nosuch" in /keys or /config',
    ],
  ])("%j", async (env, said) => {
    expect(await refusal(await startStore(ODD), env)).toContain(said);
  });

  test("a profile of a kind that is not supported", async () => {
    const credentials = file("[default]\ncredential_process = /bin/false\n");
    const env = { AWS_SHARED_CREDENTIALS_FILE: credentials };
    expect(await refusal(await startStore(ODD), env)).toContain(
      "credential_process is not supported",
    );
  });
});

test("a secret on the command line is blanked there, and is not in the log", async () => {
  const store = await startStore({ id: "visible", secret: "quite-secret-words" });
  const server = await serve(store, {}, "access-key=visible", "secret-key=quite-secret-words");
  const line = readFileSync(`/proc/${server.pid}/cmdline`, "latin1");
  expect(line).toContain("secret-key=");
  expect(line).not.toContain("quite-secret-words");
  expect(server.stderr()).toMatch(/warning: .*secret-key=\+FILE/);
  expect(server.stderr()).not.toContain("access-key:");
  expect(server.stderr()).not.toContain("quite-secret-words");
});
