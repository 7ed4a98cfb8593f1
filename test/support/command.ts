// Runs real commands to their end.

import { spawn } from "node:child_process";

export interface Finished {
  readonly status: number; // 128 + N after signal N
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly input?: string | Uint8Array;
  readonly deadlineMs?: number;
}

const DEADLINE_MS = 50_000;

/** Rejects only if the command cannot be started or does not end in time. */
export function run(argv: readonly string[], options: CommandOptions = {}): Promise<Finished> {
  const [file, ...args] = argv as [string, ...string[]];
  const child = spawn(file, args, { env: options.env ?? process.env, cwd: options.cwd });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => {}); // a command may not want its input
  child.stdin.end(options.input ?? "");
  const deadlineMs = options.deadlineMs ?? DEADLINE_MS;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`${argv.join(" ")}: not done after ${deadlineMs} ms\n${stdout}\n${stderr}`));
    }, deadlineMs);
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ status: code ?? 128 + signalNumber(signal), stdout, stderr });
    });
  });
}

/** As run, but a status other than 0 is an error that shows all output. Returns stdout. */
export async function runOk(argv: readonly string[], options?: CommandOptions): Promise<string> {
  const { status, stdout, stderr } = await run(argv, options);
  if (status !== 0) throw new Error(`${argv.join(" ")}: exit ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

function signalNumber(signal: NodeJS.Signals | null): number {
  const numbers: Partial<Record<NodeJS.Signals, number>> = { SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11 };
  return signal === null ? 0 : (numbers[signal] ?? 15);
}
