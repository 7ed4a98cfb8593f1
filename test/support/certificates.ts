// An authority, and certificates of it for servers and clients, made by openssl as a user would.

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "./server.js";

const openssl = (...args: string[]): void => {
  execFileSync("openssl", args, { stdio: "ignore" });
};

const pair = (directory: string, name: string): [key: string, certificate: string] => [
  join(directory, `${name}-key.pem`),
  join(directory, `${name}-cert.pem`),
];

/** `days`: < 0 for a certificate that has expired. `host`: whose it is. */
export interface Issue {
  readonly days?: number;
  readonly subject?: string;
  readonly host?: string;
}

export class Authority {
  readonly directory = temporaryDirectory();
  #serial = 1;

  constructor(name = "Test authority") {
    const [key, certificate] = pair(this.directory, "ca");
    const subject = ["-subj", `/CN=${name}`, "-days", "30"];
    const extension = ["-addext", "basicConstraints=critical,CA:TRUE"];
    openssl("req", "-x509", ...curve(key), ...subject, ...extension, "-out", certificate);
  }

  get caCertificate(): string {
    return join(this.directory, "ca-cert.pem");
  }

  /** In a directory as nbdkit's and libnbd's users have it. */
  issue(name: "server" | "client", options: Issue = {}): string {
    const directory = temporaryDirectory();
    this.add(directory, name, options);
    copyFileSync(this.caCertificate, join(directory, "ca-cert.pem"));
    return directory;
  }

  add(
    directory: string,
    name: "server" | "client",
    { days = 30, subject = `/O=Test/CN=${name}`, host = "localhost" }: Issue = {},
  ): void {
    mkdirSync(directory, { recursive: true });
    const [key, certificate] = pair(directory, name);
    const request = join(directory, "request.csr");
    const extensions = join(directory, "extensions");
    writeFileSync(
      extensions,
      `subjectAltName=DNS:${host},IP:127.0.0.1\nbasicConstraints=CA:FALSE\n`,
    );
    openssl("req", ...curve(key), "-subj", subject, "-out", request);
    const [caKey, caCertificate] = pair(this.directory, "ca");
    const signed = ["-CA", caCertificate, "-CAkey", caKey, "-set_serial", String(this.#serial++)];
    // openssl x509 takes no negative number of days, but its CA does.
    const period = ["-startdate", day(days - 60), "-enddate", day(days)];
    const database = ["-config", this.#database()];
    if (days >= 0)
      openssl(
        ..."x509 -req -extfile".split(" "),
        extensions,
        ...["-in", request, ...signed, "-days", String(days), "-out", certificate],
      );
    else
      openssl(
        ...["ca", "-batch", ...database, "-in", request, "-extfile", extensions],
        ...[...period, "-out", certificate],
      );
  }

  /** Revokes a client's certificate. Returns the list of those that are. */
  revoke(certificate: string): string {
    const list = join(this.directory, "ca-crl.pem");
    const database = ["-config", this.#database()];
    openssl("ca", ...database, "-revoke", certificate);
    openssl("ca", ...database, "-gencrl", "-crldays", "30", "-out", list);
    return list;
  }

  /** What `openssl ca` needs. */
  #database(): string {
    const config = join(this.directory, "ca.conf");
    const [caKey, caCertificate] = pair(this.directory, "ca");
    const text = [
      "[ca]\ndefault_ca = this",
      "[this]",
      `database = ${join(this.directory, "index.txt")}`,
      `new_certs_dir = ${this.directory}`,
      `private_key = ${caKey}`,
      `certificate = ${caCertificate}`,
      "default_md = sha256\npolicy = any\nrand_serial = yes",
      "[any]\norganizationName = optional\ncommonName = supplied",
    ];
    writeFileSync(config, `${text.join("\n")}\n`);
    writeFileSync(join(this.directory, "index.txt"), "", { flag: "a" });
    return config;
  }
}

const curve = (key: string): string[] => [
  "-newkey",
  "ec",
  "-pkeyopt",
  "ec_paramgen_curve:prime256v1",
  "-nodes",
  "-keyout",
  key,
];

/** As YYYYMMDDHHMMSSZ. */
const day = (offset: number): string =>
  new Date(Date.now() + offset * 86_400_000).toISOString().replace(/[-:T]|\.\d+/g, "");

/** A file of pre-shared keys. Returns its path. */
export function preSharedKeys(...users: string[]): string {
  const path = join(temporaryDirectory(), "keys.psk");
  const lines = users.map((user) => `${user}:${randomBytes(32).toString("hex")}\n`);
  writeFileSync(path, lines.join(""));
  return path;
}
