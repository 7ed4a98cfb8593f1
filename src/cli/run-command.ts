// --run: a shell command that gets the server's address in variables, and stops it by exiting.

import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { addon } from "../addon/addon.js";
import type { Endpoint } from "../config/listeners/index.js";
import { type UriTls, uriOf } from "../config/uri.js";

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** The command with nbdkit's variables set before it, not exported. */
export function scriptFor(
  command: string,
  endpoint: Endpoint,
  exportName: string,
  tls: UriTls = { mode: "off" },
): string {
  const uri = uriOf(endpoint, exportName, tls) ?? "";
  const variables: [string, string][] = [
    ["uri", uri],
    ["nbd", uri],
    ["exportname", exportName],
    ["port", "port" in endpoint ? String(endpoint.port) : ""],
    ["unixsocket", "path" in endpoint ? endpoint.path : ""],
  ];
  if (tls.mode !== "off") {
    variables.push(["tls", tls.mode === "require" ? "2" : "1"]);
    variables.push(["tls_certificates", tls.certificates ?? ""]);
    variables.push(["tls_psk", tls.preSharedKeys ?? ""]);
  }
  return variables.map(([name, value]) => `${name}=${quote(value)}\n`).join("") + command;
}

export class RunningCommand {
  readonly #child: ChildProcess;
  /** 0 to 255, as a shell would give it: 128 + N after signal N. */
  readonly status: Promise<number>;
  #killedBy: NodeJS.Signals | undefined;

  /** stdio: the descriptors that are the command's standard input and output. */
  constructor(script: string, stdio: readonly [number, number]) {
    this.#child = spawn("/bin/sh", ["-c", script], {
      argv0: "sh",
      stdio: [stdio[0], stdio[1], "inherit"],
    });
    this.status = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        addon().logError(`cannot run the --run command: ${error.message}`);
        resolve(1);
      });
      this.#child.once("exit", (code, signal) => resolve(code ?? this.#statusAfter(signal)));
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.#killedBy = signal;
    this.#child.kill(signal);
  }

  /** Says so, unless it was we who have killed the command. */
  #statusAfter(signal: NodeJS.Signals | null): number {
    const number = signal === null ? 0 : constants.signals[signal];
    if (signal !== this.#killedBy)
      addon().logError(`the --run command was killed by signal ${number} (${signal})`);
    return 128 + number;
  }
}
