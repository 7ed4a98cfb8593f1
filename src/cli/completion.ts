// --completion bash: a script for the shell, from the table.

import { shippedPluginDirectory } from "../addon/addon.js";
import { distributionPluginDirectories } from "../plugins/resolve.js";
import { type OptionSpec, SHOWN_OPTIONS } from "./options.js";

function compgen(spec: OptionSpec): string {
  switch (spec.completes) {
    case undefined:
      return "";
    case "file":
      return '-f -- "$cur"';
    case "directory":
      return '-d -- "$cur"';
    case "user":
      return '-u -- "$cur"';
    case "group":
      return '-g -- "$cur"';
    default:
      return `-W '${spec.completes.join(" ")}' -- "$cur"`;
  }
}

function valueCase(spec: OptionSpec): string {
  const names = [spec.name, ...(spec.aliases ?? [])].map((name) => `--${name}`);
  if (spec.short !== undefined) names.push(`-${spec.short}`);
  return `    ${names.join("|")}) COMPREPLY=($(compgen ${compgen(spec)})); return ;;`;
}

export function bashCompletion(): string {
  const words = SHOWN_OPTIONS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])]);
  const directories = [shippedPluginDirectory, ...distributionPluginDirectories()];
  const cases = SHOWN_OPTIONS.filter((spec) => spec.completes !== undefined).map(valueCase);
  return `# bash completion for asyncnbd: source it, or save it in /etc/bash_completion.d
_asyncnbd() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} directory plugin plugins=
  if [[ $cur == = ]]; then cur=; fi
  if [[ $prev == = ]]; then prev=\${COMP_WORDS[COMP_CWORD - 2]}; fi
  case $prev in
${cases.join("\n")}
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W '${words.map((word) => `--${word}`).join(" ")}' -- "$cur"))
    return
  fi
  for directory in ${directories.map((d) => `'${d}'`).join(" ")}; do
    for plugin in "$directory"/nbdkit-*-plugin.so; do
      if [[ -e $plugin ]]; then
        plugin=\${plugin##*/nbdkit-}
        plugins+=" \${plugin%-plugin.so}"
      fi
    done
  done
  COMPREPLY=($(compgen -W "$plugins" -- "$cur" | sort -u) $(compgen -f -- "$cur"))
}
complete -F _asyncnbd asyncnbd
`;
}
