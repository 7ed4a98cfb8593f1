// What a client needs for TLS: files of certificates or of pre-shared keys become Node's options.

import { existsSync, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import type { ConnectionOptions } from "node:tls";

/**
 * How to encrypt. The server must have a certificate of an authority that is trusted and for its
 * host's name, unless `verify` is false; or it must know the pre-shared key.
 */
export interface ClientTls {
  /** A directory with ca-cert.pem and perhaps client-cert.pem and client-key.pem. */
  readonly certificates?: string;
  /** A file with lines of USER:KEY, in hexadecimal digits, instead of certificates. */
  readonly preSharedKeys?: string;
  /** Whose key of that file. By default this user's, else that of the first line. */
  readonly username?: string;
  /** Authorities to trust, in PEM. By default the system's that Node.js knows. */
  readonly ca?: string | Buffer;
  /** The client's certificate and key, in PEM. */
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  /** Whose certificate the server must have. By default the target's host, else "localhost". */
  readonly serverName?: string;
  /** False takes any certificate: the server may be anybody. By default true. */
  readonly verify?: boolean;
}

/** As a client of GnuTLS offers them. */
const PSK_CIPHERS = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_CHACHA20_POLY1305_SHA256",
  "ECDHE-PSK-CHACHA20-POLY1305",
  "DHE-PSK-AES256-GCM-SHA384",
  "DHE-PSK-AES128-GCM-SHA256",
  "PSK-AES256-GCM-SHA384",
  "PSK-AES128-GCM-SHA256",
].join(":");

export function tlsOptions(tls: ClientTls, host: string | undefined): ConnectionOptions {
  if (tls.preSharedKeys !== undefined) return pskOptions(tls.preSharedKeys, tls.username);
  const directory = tls.certificates;
  const file = (name: string): Buffer | undefined =>
    directory !== undefined && existsSync(join(directory, name))
      ? readFileSync(join(directory, name))
      : undefined;
  if (directory !== undefined && file("ca-cert.pem") === undefined && tls.ca === undefined)
    throw new TypeError(`tls: ${directory} has no ca-cert.pem`);
  const ca = tls.ca ?? file("ca-cert.pem");
  const cert = tls.cert ?? file("client-cert.pem");
  const key = tls.key ?? file("client-key.pem");
  const name = tls.serverName ?? host ?? "localhost";
  return {
    minVersion: "TLSv1.2",
    rejectUnauthorized: tls.verify ?? true,
    host: name, // which the certificate is checked for
    ...(!/^[\d.]+$|:/.test(name) && { servername: name }), // an address is no name to ask for
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  };
}

function pskOptions(file: string, username: string | undefined): ConnectionOptions {
  const { identity, psk } = findKey(file, username);
  return {
    minVersion: "TLSv1.2",
    ciphers: PSK_CIPHERS,
    pskCallback: () => ({ identity, psk }),
    checkServerIdentity: (_, certificate) => keylessError(certificate),
  };
}

/**
 * The key alone proves the server, and there is no certificate then. A server that shows one does not
 * know the key, whoever has signed it: TLS 1.3 goes on with certificates where no key fits.
 */
const keylessError = (certificate: object | undefined): Error | undefined =>
  certificate !== undefined && Object.keys(certificate).length > 0
    ? new Error("the server does not know the pre-shared key: it sent a certificate instead")
    : undefined;

function findKey(file: string, username: string | undefined): { identity: string; psk: Buffer } {
  const keys = new Map(
    readFileSync(file, "utf8")
      .split("\n")
      .map((line) => /^([^#:]+):([0-9a-fA-F]+)\s*$/.exec(line))
      .filter((match) => match !== null)
      .map(([, user, key]) => [user as string, key as string]),
  );
  const [first] = keys.keys();
  const own = userInfo().username;
  const identity = username ?? (keys.has(own) ? own : first);
  const key = identity === undefined ? undefined : keys.get(identity);
  if (identity === undefined || key === undefined)
    throw new TypeError(
      identity === undefined
        ? `tls: ${file} has no USER:KEY line`
        : `tls: ${file} has no key of ${identity}`,
    );
  return { identity, psk: Buffer.from(key, "hex") };
}
