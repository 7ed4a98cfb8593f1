// Starts the command as programs start nbdkit: by that name, and they wait for its PID file.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync, symlinkSync } from "node:fs";
import { delimiter, join } from "node:path";
import { onTestFailed, onTestFinished } from "vitest";
import { asyncnbd, eventually, temporaryDirectory, variantDirectory } from "./server.js";

/** What is called nbdkit there is asyncnbd; there are stand-ins for plugins of others, too. */
export function environment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const bin = temporaryDirectory();
  symlinkSync(asyncnbd[0] as string, join(bin, "nbdkit"));
  return {
    ...process.env,
    LANG: "C",
    PATH: `${bin}${delimiter}${process.env.PATH}`,
    ASYNCNBD_PLUGIN_PATH: variantDirectory,
    ...more,
  };
}

/** Has another process start the command, to be its parent. */
const PARENT = `
  const { spawn } = require("node:child_process");
  spawn("nbdkit", process.argv.slice(1), { stdio: ["ignore", "inherit", "inherit"] });
`;

export interface Nbdkit {
  /** As the PID file says. */
  readonly pid: number;
  /** On both streams, which are one for most programs. */
  output(): string;
  /** Of the server, or of its parent if it has one. */
  readonly child: ChildProcess;
  /** The exit status and the signal. */
  readonly ended: Promise<[number | null, NodeJS.Signals | null]>;
}

export interface NbdkitOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly withParent?: boolean;
}

/** In the foreground. The words name the PID file after "--pidfile". */
export async function startNbdkit(
  words: readonly string[],
  { env = environment(), withParent = false }: NbdkitOptions = {},
): Promise<Nbdkit> {
  const pidFile = words[words.indexOf("--pidfile") + 1] as string;
  const [command, ...args] = withParent ? [process.execPath, "-e", PARENT, "--"] : ["nbdkit"];
  const child = spawn(command as string, [...args, ...words], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  const ended = new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve([code, signal]));
  });
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  onTestFailed(() => console.log(`nbdkit ${words.join(" ")} has said:\n${output}`));
  await eventually("the PID file", () => {
    if (isOver) throw new Error(`nbdkit ${words.join(" ")} ended:\n${output}`);
    return (existsSync(pidFile) && readFileSync(pidFile, "utf8") !== "") || undefined;
  });
  return { pid: Number(readFileSync(pidFile, "utf8")), output: () => output, child, ended };
}

export const uriOf = (socket: string): string => `nbd+unix:///?socket=${socket}`;
