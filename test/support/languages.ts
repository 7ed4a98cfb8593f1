// Plugins in languages that are compiled, built for a test.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runOk } from "./command.js";
import { temporaryDirectory } from "./server.js";

export const languageSource = (name: string): string =>
  fileURLToPath(new URL(`../plugins/languages/${name}`, import.meta.url));

const GO_PATH = "/usr/lib/go-1.19/bin:/usr/lib/go/bin";

const COMMANDS = {
  go: "go build -buildmode=c-shared -o nbdkit-go-plugin.so .",
  ocaml: `ocamlopt -output-obj -runtime-variant _pic -ccopt -shared -ccopt -fPIC \
    -o nbdkit-ocaml-plugin.so disk.ml callbacks.c`,
};

/** The path of the plugin. Compilers write beside their sources: those are copied. */
export async function buildPlugin(language: keyof typeof COMMANDS): Promise<string> {
  const directory = temporaryDirectory();
  const env: NodeJS.ProcessEnv = { ...process.env, PATH: `${process.env.PATH}:${GO_PATH}` };
  delete env.LD_PRELOAD;
  const copy = `cp ${languageSource(language)}/* ${languageSource("table.h")} .`;
  await runOk(["sh", "-c", `${copy} && ${COMMANDS[language]}`], { cwd: directory, env });
  return join(directory, `nbdkit-${language}-plugin.so`);
}

/** By Debian's compiler where there is another one, too: it is the oldest that has to do. */
export const OLDEST_RUST = { PATH: `/usr/bin:${process.env.PATH}` };

/** The path of a plugin that a package in Rust has as its library, or as an example. */
export async function buildRust(
  folder: string,
  { example, target = temporaryDirectory() }: { example?: string; target?: string } = {},
): Promise<string> {
  const env: NodeJS.ProcessEnv = { ...process.env, ...OLDEST_RUST, CARGO_TARGET_DIR: target };
  delete env.LD_PRELOAD;
  const flags = ["--release", "--offline", "--locked", "--quiet"];
  const what = example === undefined ? ["--lib"] : ["--example", example];
  await runOk(["cargo", "build", ...flags, ...what], { cwd: folder, env });
  const built = join(target, "release", ...(example === undefined ? [] : ["examples"]));
  const [library] = readdirSync(built).filter((name) => /^lib\w+\.so$/.test(name));
  return join(built, library ?? "no library");
}
