// Words that shells complete: a line and a tab are typed into a real bash and a real zsh, and the
// command notes the words that it gets; fish is asked by its own `complete -C`.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { asyncnbd, runAsyncnbd, temporaryDirectory } from "../support/server.js";

const client = fileURLToPath(new URL("../../dist/cli/client.js", import.meta.url));

/** What is typed, T being the tab; the words that the command gets. */
const LINES: readonly (readonly [string, readonly string[]])[] = [
  ["--read-oT", ["--read-only"]],
  ["--time-T1", ["--time-out=1"]], // another name, as no main name fits
  ["--tls=reT -f", ["--tls=require", "-f"]],
  ["--log sysT", ["--log", "syslog"]],
  ["-u rooT", ["-u", "root"]],
  ["--filter swaT", ["--filter", "swab"]], // the distribution's
  ["miT", ["mine"]], // of ASYNCNBD_PLUGIN_PATH
  ["stripT", ["striped-mirror"]], // a package
  ["striped-mirror colT5", ["striped-mirror", "colour=5"]],
  ["--filter=slowT ram", ["--filter=slowly", "ram"]],
  ["--filter=cache memory allocator=spT", ["--filter=cache", "memory", "allocator=sparse"]],
  ["--filter=noparallel ram serialize=cT", ["--filter=noparallel", "ram", "serialize=connections"]],
  ["file file=diT", ["file", "file=disk one.img"]],
  ["--tls-certificates=ceT", ["--tls-certificates=certs/"]],
  ["'./script.ts' colT5", ["./script.ts", "colour=5"]],
];

/** Of asyncnbd-client. */
const CLIENT_LINES: readonly (readonly [string, readonly string[]])[] = [
  ["coT", ["copy"]],
  ["copy --request-T1M", ["copy", "--request-size=1M"]],
  ["copy --targT", ["copy", "--target-is-zero"]], // another name
  ["info --jsT", ["info", "--json"]],
  ["map --context qemT", ["map", "--context", "qemu:allocation-depth"]],
  ["info nbds:T/host", ["info", "nbds:///host"]],
  ["info nbd+T", ["info", "nbd+unix:///?socket="]],
  ["list nbd+unix:///?socket=nbdkT", ["list", "nbd+unix:///?socket=nbdkit-mine-plugin.so"]],
  ["list nbds://host/?tls-certificates=ceT", ["list", "nbds://host/?tls-certificates=certs/"]],
  ["copy diT -", ["copy", "disk one.img", "-"]],
];

const SCRIPT = `export default {
  name: "script", config: { colour: "integer" }, getSize: () => 512, pread() {}
};`;

let home: string;
let env: NodeJS.ProcessEnv;

beforeEach(() => {
  home = temporaryDirectory();
  const bin = join(home, "bin");
  for (const folder of [bin, join(home, "certs")]) mkdirSync(folder);
  for (const file of ["disk one.img", "nbdkit-mine-plugin.so"]) writeFileSync(join(home, file), "");
  writeFileSync(join(home, "script.ts"), SCRIPT);
  install("asyncnbd-plugin-striped-mirror", SCRIPT);
  install("asyncnbd-filter-slowly", 'export default { name: "slowly", create: () => [] };');
  // Bytes of zero stand between words, and a line between commands.
  const commands = { asyncnbd, "asyncnbd-client": [process.execPath, client] };
  for (const [name, words] of Object.entries(commands)) {
    const command = `#!/bin/sh
case $1 in
  --completion=*) exec ${words.join(" ")} "$@" ;;
  *) printf '%s\\0' "$@" >> ${home}/noted; echo >> ${home}/noted ;;
esac
`;
    writeFileSync(join(bin, name), command);
    chmodSync(join(bin, name), 0o755);
  }
  env = {
    ...process.env,
    ...{ HOME: home, PATH: `${bin}:${process.env.PATH}`, TERM: "vt100", LC_ALL: "C.UTF-8" },
    ASYNCNBD_PLUGIN_PATH: home,
  };
});

/** As npm would, in the folder where the command is run. */
function install(name: string, code: string): void {
  const directory = join(home, "node_modules", name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "package.json"), '{ "type": "module", "main": "index.js" }');
  writeFileSync(join(directory, "index.js"), code);
}

/** Types into the shell, on a terminal of its own, and returns the words of each command. */
async function typed(shell: string, setUp: string): Promise<string[][]> {
  const keys = ALL_LINES.map(([line]) => `${line.replace("T", "\t")}\r`);
  const input = [`${setUp}\r`, ...keys, "exit\r"].join("");
  await run(["script", "-qec", shell, "/dev/null"], { cwd: home, env, input, deadlineMs: 55_000 });
  const noted = readFileSync(join(home, "noted"), "utf8").trimEnd().split("\n");
  return noted.map((line) => line.split("\0").slice(0, -1));
}

/** With their commands. */
const ALL_LINES = [
  ...LINES.map(([line, words]) => [`asyncnbd ${line}`, words] as const),
  ...CLIENT_LINES.map(([line, words]) => [`asyncnbd-client ${line}`, words] as const),
];
const wanted = ALL_LINES.map(([, words]) => words);

describe("a tab completes options, values, plugins, filters and parameters", () => {
  test("in bash", async () => {
    const setUp = "source <(asyncnbd --completion=bash)";
    expect(await typed("bash --norc --noprofile -i", setUp)).toEqual(wanted);
  });

  test("in zsh", async () => {
    const setUp =
      "setopt noautoremoveslash nonomatch; autoload -U compinit; compinit -u; source <(asyncnbd --completion=zsh)";
    expect(await typed("zsh -f -i", setUp)).toEqual(wanted);
  });

  test("in fish", async () => {
    writeFileSync(join(home, "c.fish"), (await runAsyncnbd(["--completion=fish"])).stdout);
    const lines = ALL_LINES.map(([line]) => line.slice(0, line.indexOf("T")));
    const asked = lines.map((line) => `complete -C ${quoted(line)}; echo END`);
    const script = ["source c.fish", ...asked].join("\n");
    const answers = await runOk(["fish", "--no-config", "-c", script], { cwd: home, env });
    const words = answers.split("END\n").map((answer) => answer.split("\n"));
    for (const [i, [line, all]] of ALL_LINES.entries()) {
      const last = all[line.slice(0, line.indexOf("T")).split(" ").length - 2] as string;
      const start = last.replace(/=(1|1G|5|1M)$/, "=").replace(/\/host$/, "");
      const found = (words[i] ?? []).map((word) => word.split("\t")[0]);
      expect(found, line).toContain(start);
    }
  });
});

const quoted = (text: string): string => `'${text.replaceAll("'", "\\'")}'`;

test("the client's options are offered with the commands that have them", async () => {
  const offered = (...words: string[]): Promise<string> =>
    runOk([process.execPath, client, "--completion=words", "--", ...words]);
  expect(await offered("info", "--j")).toBe("none\t\n--json\tinfo, list and map: print JSON\n");
  expect(await offered("copy", "--j")).toBe("none\t\n");
  expect(await offered("--fl")).toContain("--flush\t");
  expect(await offered("read", "nbd://host", "1")).toBe("none\t\n");
  expect(await offered("nosuch", "")).toBe("none\t\n");
});

test("an unknown shell is refused with the names of the known ones", async () => {
  const { status, stderr } = await runAsyncnbd(["--completion=tcsh"]);
  expect(status).toBe(1);
  expect(stderr).toContain("bash, zsh, fish");
});

test("a plugin that hangs during loading delays the shell for some seconds only", async () => {
  writeFileSync(join(home, "hangs.ts"), "await new Promise(() => setInterval(() => {}, 1e6));");
  const words = ["--completion=words", "--", "./hangs.ts", "k"];
  const { status, stdout } = await runAsyncnbd(words, { cwd: home });
  expect({ status, stdout }).toEqual({ status: 0, stdout: "file\t\n" });
});
