// What the command says in place of serving: --help, --version, --dump-plugin, --dump-config,
// completions and the hidden lists of options.

import { addon } from "../addon/addon.js";
import type { Config } from "../config/schema.js";
import { UsageError } from "../errors.js";
import { Chain } from "../exports/chain.js";
import { Life } from "../plugins/life.js";
import type { ParsedLine } from "./getopt.js";
import {
  dumpConfigText,
  helpText,
  longOptionsText,
  pluginHelpText,
  pluginVersionText,
  shortOptionsText,
  versionText,
} from "./help.js";
import { openFlagged, parametersFor } from "./server-process.js";

/** What needs no plugin. */
export async function plainAnswer({ options, operands }: ParsedLine): Promise<string> {
  if (options.has("long-options")) return longOptionsText();
  if (options.has("short-options")) return shortOptionsText();
  if (options.has("dump-config")) return dumpConfigText();
  const shell = options.last("completion");
  if (shell !== undefined)
    return (await import("./completion.js")).serverCompletionText(shell, operands);
  if (options.has("help")) return helpText();
  if (options.has("version")) return versionText();
  throw new UsageError(
    options.has("dump-plugin") ? "--dump-plugin needs a PLUGIN" : "no PLUGIN was given",
  );
}

/** --help, --version or --dump-plugin with a plugin. */
export async function answerAboutPlugin({ options }: ParsedLine, config: Config): Promise<void> {
  if (options.has("dump-plugin") && options.has("single"))
    throw new UsageError("--dump-plugin and --single cannot be used together");
  const chain = await openFlagged(config, () => Chain.open(config));
  const life = new Life(chain);
  await life.load();
  if (options.has("help")) {
    addon().print(helpText() + pluginHelpText(chain.about));
  } else if (options.has("version")) {
    addon().print(versionText() + pluginVersionText(chain.about));
  } else {
    life.config(parametersFor(chain.about, config.parameters));
    chain.settleThreadModel();
    await chain.dump((lines) => addon().print(lines));
  }
  await life.end();
}
