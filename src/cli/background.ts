// The background: a launcher that starts the server as a child and returns when it is ready.
// Forking without exec is no option, for Node has threads from its first moment.

import { spawn } from "node:child_process";
import { AsyncnbdError } from "../errors.js";
import { type Inheritance, passOn } from "./inheritance.js";
import { READY_FD_VARIABLE } from "./readiness.js";

const PASSED_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** Runs this command line again in a child. Resolves with the exit status that is ours. */
export async function launch(inheritance: Inheritance): Promise<number> {
  const words = [...process.execArgv, ...process.argv.slice(1)];
  const [child, readyFd] = passOn(inheritance, (low, env, fd) => [
    spawn(process.execPath, words, {
      env: { ...env, [READY_FD_VARIABLE]: String(fd) },
      stdio: ["inherit", "inherit", "inherit", ...low, "pipe"],
    }),
    fd,
  ]);
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of PASSED_SIGNALS) process.on(signal, pass);

  const ready = new Promise<number>((resolve) => {
    child.stdio[readyFd]?.once("data", () => resolve(0));
  });
  const ended = new Promise<number>((resolve, reject) => {
    child.once("error", (error) =>
      reject(
        new AsyncnbdError("PROCESS_FAILED", `cannot start the server process: ${error.message}`, {
          cause: error,
        }),
      ),
    );
    child.once("close", (code) => resolve(code ?? 1));
  });
  const status = await Promise.race([ready, ended]);
  for (const signal of PASSED_SIGNALS) process.off(signal, pass);
  child.unref();
  child.stdio[readyFd]?.destroy();
  return status;
}
