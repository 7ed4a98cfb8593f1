// Plugins in languages that are compiled, built for a test.

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
