// The options of asyncnbd-client, and its --help.

import { optionLines } from "../option-lines.js";
import type { OptionSpec } from "../options.js";

const group = "information"; // there is one only

export const CLIENT_OPTIONS: readonly OptionSpec[] = [
  { name: "json", group, help: "info, list and map: print JSON" },
  {
    name: "context",
    value: "NAME",
    group,
    help: "map: the meta context, by default base:allocation",
  },
  { name: "totals", group, help: "map: how many bytes each status has, instead of the extents" },
  {
    name: "progress",
    short: "p",
    group,
    help: "copy: show a bar, which is otherwise shown on a terminal only",
  },
  { name: "quiet", short: "q", group, help: "copy: show no bar" },
  {
    name: "connections",
    short: "C",
    value: "N",
    group,
    help: "copy: to each server that allows several, by default 4",
  },
  {
    name: "requests",
    short: "R",
    value: "N",
    group,
    help: "copy: pieces under way at once, by default 64",
  },
  {
    name: "request-size",
    value: "SIZE",
    group,
    help: "copy: the size of a piece, by default 256K",
  },
  { name: "flush", group, help: "copy: wait until all is on stable storage" },
  {
    name: "destination-is-zero",
    aliases: ["target-is-zero"],
    group,
    help: "copy: the destination reads as zeroes, and holes need not be written",
  },
  {
    name: "allocated",
    group,
    help: "copy: write zeroes that take space, and no holes",
  },
  { name: "help", group, help: "Print this text" },
  { name: "version", short: "V", group, help: "Print the version" },
];

const USAGE = `Usage: asyncnbd-client COMMAND [OPTION]... [ARGUMENT]...

Asks and copies disks of NBD servers. URI is one of NBD: nbd://HOST[:PORT]/EXPORT,
nbd+unix:///EXPORT?socket=PATH, or nbds for TLS.

  info URI                      what the server tells of an export
  list URI                      the server's exports
  map URI                       which parts are allocated, holes, or zeroes
  read URI OFFSET LENGTH        bytes of an export, to standard output
  copy SOURCE DESTINATION       between URIs, files, and - for a pipe

Options:
`;

export const clientHelpText = (): string =>
  `${USAGE}${CLIENT_OPTIONS.map(optionLines).join("\n")}\n`;
