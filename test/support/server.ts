// Starts the asyncnbd command (or nbdkit, to compare) as users do, and stops it.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFailed, onTestFinished } from "vitest";
import { type CommandOptions, type Finished, run } from "./command.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const script = join(root, "dist", "cli", "main.js");

/** "address" or "thread": the same tests against the build with that sanitizer. */
export const sanitizer = process.env.ASYNCNBD_TEST_SANITIZER;

/** What a sanitizer's report makes of the exit status: no command here uses it. */
const SANITIZER_STATUS = 99;

const VARIANTS: Readonly<Record<string, string>> = { address: "asan", thread: "tsan" };

/** What cmake-js has built for these tests: scripts/build-variant. */
export const variantDirectory = join(
  root,
  `build-${sanitizer === undefined ? "test" : VARIANTS[sanitizer]}`,
  "Release",
);

/** Plugins from test/plugins. */
export const testPlugin = (name: string): string =>
  join(variantDirectory, `nbdkit-${name}-plugin.so`);

/** Plugins of the distribution. */
export const debianPlugin = (name: string): string =>
  join(
    "/usr/lib",
    `${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`,
    "nbdkit/plugins",
    `nbdkit-${name}-plugin.so`,
  );

/** Filters of the distribution, which are found by their names only where there is none of ours. */
export const debianFilter = (name: string): string =>
  join(dirname(dirname(debianPlugin("memory"))), "filters", `nbdkit-${name}-filter.so`);

function sanitizerEnvironment(): NodeJS.ProcessEnv {
  if (sanitizer === undefined) return {};
  const library = execFileSync("gcc", ["-print-file-name=libasan.so"], { encoding: "utf8" }).trim();
  return {
    LD_PRELOAD: library,
    ASYNCNBD_BUILD_DIR: variantDirectory,
    ASAN_OPTIONS: `exitcode=${SANITIZER_STATUS}:detect_leaks=1`,
    LSAN_OPTIONS: `exitcode=${SANITIZER_STATUS}:print_suppressions=0:suppressions=${join(root, "test/support/lsan.supp")}`,
    UBSAN_OPTIONS: "print_stacktrace=1",
  };
}

/** For servers that keep what a plugin may still reply to: they exit with that, and free nothing. */
export const LEAKS_AT_EXIT: NodeJS.ProcessEnv = {
  ASAN_OPTIONS: `exitcode=${SANITIZER_STATUS}:detect_leaks=0`,
};

/** The environment for every asyncnbd process. */
export const serverEnvironment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  ...sanitizerEnvironment(),
});

export const asyncnbd: readonly string[] = [script];
export const nbdkit: readonly string[] = ["nbdkit"];

/** Clients that a server under a sanitizer starts must run without it. */
export const clean = (command: string): string =>
  `unset LD_PRELOAD ASAN_OPTIONS LSAN_OPTIONS; ${command}`;

/** LeakSanitizer's own crash, which happens with threads at work, says nothing about leaks. */
const isLeakCheckerCrash = ({ stderr }: Finished): boolean =>
  stderr.includes("LeakSanitizer has encountered a fatal error");

/** The crash has replaced the exit status. */
function overlookCrash(argv: readonly string[], finished: Finished): Finished {
  if (!isLeakCheckerCrash(finished)) return finished;
  console.log(`no leak check, LeakSanitizer crashed: ${argv.join(" ")}`);
  const stderr = finished.stderr.replace(/^(Tracer caught signal|==\d+==).*\n/gm, "");
  return { ...finished, status: 0, stderr };
}

function checkSanitizer(argv: readonly string[], finished: Finished): Finished {
  if (finished.status === SANITIZER_STATUS || /Sanitizer|runtime error:/.test(finished.stderr))
    throw new Error(`a sanitizer complains about ${argv.join(" ")}:\n${finished.stderr}`);
  return finished;
}

/** Runs the asyncnbd command to its end. */
export async function runAsyncnbd(
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Finished> {
  const env = { ...serverEnvironment(), ...options.env };
  const argv = [...asyncnbd, ...args];
  let finished = await run(argv, { ...options, env });
  // The crash has replaced the exit status, which is what the caller wants.
  if (isLeakCheckerCrash(finished)) finished = await run(argv, { ...options, env });
  return checkSanitizer(args, overlookCrash(args, finished));
}

/** A tmpfs that every system has. */
export const SHARED_MEMORY = "/dev/shm";

/** A folder that lives as long as the test. */
export function temporaryDirectory(parent = tmpdir()): string {
  const directory = mkdtempSync(join(parent, "asyncnbd-test-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface RunningServer {
  readonly uri: string;
  readonly socket: string; // "" over TCP
  /** For clients over either: the socket's path, or the port. */
  readonly where: string | number;
  readonly pid: number;
  readonly directory: string;
  /** What it has written on stderr so far. */
  stderr(): string;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when it ends by itself or after kill. */
  readonly ended: Promise<Finished>;
  /** Terminates it and checks that it ended well. */
  stop(): Promise<Finished>;
}

export interface ServerOptions {
  readonly command?: readonly string[]; // asyncnbd by default
  readonly transport?: "unix" | "tcp";
  readonly options?: readonly string[]; // before the plugin
  readonly env?: NodeJS.ProcessEnv;
  /** The server need not see a first connection that only tells whether it listens. */
  readonly noProbe?: boolean;
  /** How long the start may take, by default 20 s. */
  readonly startMs?: number;
}

const START_DEADLINE_MS = 20_000;
const POLL_MS = 10;

/** Resolves with what `probe` gives as soon as that is not undefined. */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined | Promise<T | undefined>,
  deadlineMs = START_DEADLINE_MS,
): Promise<T> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const result = await probe();
    if (result !== undefined) return result;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${deadlineMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function canConnect(socket: string): Promise<true | undefined> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(undefined));
  });
}

/** Serves in the foreground until the test ends: startServer("memory", "1M"). */
export async function startServer(
  plugin: readonly string[],
  {
    command = asyncnbd,
    transport = "unix",
    options = [],
    env = {},
    noProbe,
    startMs,
  }: ServerOptions = {},
): Promise<RunningServer> {
  const directory = temporaryDirectory();
  const socket = transport === "unix" ? join(directory, "sock") : "";
  const isNbdkit = command === nbdkit;
  const listen = socket !== "" ? ["-U", socket] : ["-p", "0", "-i", "127.0.0.1"];
  const pidFile = noProbe ? join(directory, "pid") : undefined;
  const pid = pidFile === undefined ? [] : ["-P", pidFile];
  const argv = [...command, "-f", ...listen, ...pid, ...options, ...plugin];
  const child = spawn(argv[0] as string, argv.slice(1), {
    env: { ...(isNbdkit ? process.env : serverEnvironment()), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = collect(child);
  const ended = new Promise<Finished>((resolve) => {
    child.once("close", (code) => {
      const { stdout, stderr } = output;
      resolve(overlookCrash(argv, { status: code ?? -1, stdout, stderr }));
    });
  });
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  onTestFailed(() => {
    if (output.stderr !== "") console.log(`${argv.join(" ")} has said:\n${output.stderr}`);
  });

  const uri = await eventually(
    `start of ${argv.join(" ")}`,
    async () => {
      if (isOver) throw new Error(`${argv.join(" ")} ended:\n${output.stderr}`);
      if (socket === "") return /^nbds?:.*$/m.exec(output.stdout)?.[0];
      const isReady = existsSync(pidFile ?? socket) && (noProbe || (await canConnect(socket)));
      return isReady ? `nbd+unix:///?socket=${socket}` : undefined;
    },
    startMs,
  );
  return {
    uri,
    socket,
    where: socket || Number(new URL(uri).port),
    directory,
    pid: child.pid as number,
    stderr: () => output.stderr,
    kill: (signal) => child.kill(signal),
    ended,
    async stop() {
      child.kill("SIGTERM");
      const finished = checkSanitizer(argv, await ended);
      if (finished.status !== 0)
        throw new Error(`${argv.join(" ")}: exit ${finished.status}\n${finished.stderr}`);
      return finished;
    },
  };
}

/** Sends more signals than one: those within a second of the first count as the same one. */
export async function killUntilEnd(server: RunningServer, signal: NodeJS.Signals): Promise<void> {
  let isOver = false;
  void server.ended.then(() => {
    isOver = true;
  });
  await eventually("the end after several signals", () => {
    if (!isOver) server.kill(signal);
    return isOver || undefined;
  });
}

function collect(child: ChildProcess): { stdout: string; stderr: string } {
  const output = { stdout: "", stderr: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output.stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output.stderr += text;
  });
  return output;
}
