// The commands and options of asyncnbd-client: parsing, --help and completion come from these tables.

import { optionLines } from "../option-lines.js";
import type { OptionSpec } from "../options.js";

/** What stands behind a command, and what it does. */
export interface CommandSpec {
  readonly operands: readonly ("URI" | "OFFSET" | "LENGTH" | "SOURCE" | "DESTINATION")[];
  readonly help: string;
}

export const COMMAND_SPECS = {
  info: { operands: ["URI"], help: "size, flags and other facts of an export" },
  list: { operands: ["URI"], help: "the server's exports" },
  map: { operands: ["URI"], help: "which parts are allocated, holes, or zeroes" },
  read: {
    operands: ["URI", "OFFSET", "LENGTH"],
    help: "bytes of an export, to standard output",
  },
  copy: {
    operands: ["SOURCE", "DESTINATION"],
    help: "between URIs, files, and - for a pipe",
  },
} as const satisfies Readonly<Record<string, CommandSpec>>;

export type CommandName = keyof typeof COMMAND_SPECS;

export const isCommand = (name: string): name is CommandName => Object.hasOwn(COMMAND_SPECS, name);

/** `commands`: those that have it; absent: each has. */
export interface ClientOptionSpec extends OptionSpec {
  readonly commands?: readonly CommandName[];
}

const group = "information"; // there is one only

/** The help says which commands have them. */
function of(
  commands: readonly CommandName[],
  ...specs: readonly (Omit<OptionSpec, "group"> & { readonly help: string })[]
): ClientOptionSpec[] {
  const names = commands.join(", ").replace(/, (?=\w+$)/, " and ");
  return specs.map((spec) => ({ ...spec, group, commands, help: `${names}: ${spec.help}` }));
}

export const CLIENT_OPTIONS: readonly ClientOptionSpec[] = [
  ...of(["info", "list", "map"], { name: "json", help: "print JSON" }),
  ...of(
    ["map"],
    {
      name: "context",
      value: "NAME",
      completes: ["base:allocation", "qemu:allocation-depth"],
      help: "the meta context, by default base:allocation",
    },
    { name: "totals", help: "how many bytes each status has, instead of the extents" },
  ),
  ...of(
    ["copy"],
    {
      name: "progress",
      short: "p",
      help: "show a bar, which is otherwise shown on a terminal only",
    },
    { name: "quiet", short: "q", help: "show no bar" },
    {
      name: "connections",
      short: "C",
      value: "N",
      help: "to each server that allows several, by default 4",
    },
    { name: "requests", short: "R", value: "N", help: "pieces under way at once, by default 64" },
    { name: "request-size", value: "SIZE", help: "the size of a piece, by default 256K" },
    { name: "flush", help: "wait until all is on stable storage" },
    {
      name: "destination-is-zero",
      aliases: ["target-is-zero"],
      help: "the destination reads as zeroes, and holes need not be written",
    },
    { name: "allocated", help: "write zeroes that take space, and no holes" },
  ),
  {
    name: "completion",
    value: "SHELL",
    completes: ["bash", "fish", "zsh"],
    group,
    help: "Print a completion script for bash, fish or zsh",
  },
  { name: "help", group, help: "Print this text" },
  { name: "version", short: "V", group, help: "Print the version" },
];

const COMMAND_WIDTH = 30;

const commandLine = ([name, { operands, help }]: [string, CommandSpec]): string =>
  `  ${[name, ...operands].join(" ").padEnd(COMMAND_WIDTH - 2)}${help}`;

const usage = (): string => `Usage: asyncnbd-client COMMAND [OPTION]... [ARGUMENT]...

Asks and copies disks of NBD servers. URI is one of NBD: nbd://HOST[:PORT]/EXPORT,
nbd+unix:///EXPORT?socket=PATH, or nbds for TLS.

${Object.entries(COMMAND_SPECS).map(commandLine).join("\n")}

Options:
`;

export const clientHelpText = (): string =>
  `${usage()}${CLIENT_OPTIONS.map(optionLines).join("\n")}\n`;
