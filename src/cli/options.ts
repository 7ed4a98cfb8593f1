// The one table of the command line's options: parsing, --help and completion come from it.

import { CLIENT_LIMITS } from "../client-limits.js";
import { LISTENER_OPTIONS } from "../config/listeners/index.js";
import type { OptionSpec } from "../config/option-spec.js";

export type { OptionSpec };

export const GROUP_TITLES: Readonly<Record<OptionSpec["group"], string>> = {
  listen: "Where clients connect",
  serve: "What clients get",
  process: "The server as a process",
  information: "Print information and exit",
  later: "",
};

const VALUE_OF_UNIT = { calls: "N", us: "TIME", ms: "TIME", bytes: "SIZE" } as const;

const LIMITS: readonly OptionSpec[] = Object.values(CLIENT_LIMITS).map((limit) => ({
  name: limit.option,
  ...(limit.short !== undefined && { short: limit.short }),
  value: VALUE_OF_UNIT[limit.unit],
  ...(limit.isOfNbdkit !== true && { isAddition: true as const }),
  group: "serve" as const,
  help: limit.help,
}));

export const OPTIONS: readonly OptionSpec[] = [
  ...LISTENER_OPTIONS,
  {
    name: "selinux-label",
    value: "LABEL",
    group: "listen",
    help: "Give the socket this label of SELinux, such as system_u:object_r:svirt_socket_t:s0",
  },
  {
    name: "timeout",
    isAddition: true,
    aliases: ["time-out"],
    value: "TIME",
    group: "listen",
    help: "How long a handshake may take, 30s by default",
  },
  {
    name: "keepalive",
    isAddition: true,
    aliases: ["keep-alive"],
    group: "listen",
    help: "TCP keepalive, which is always on",
  },
  {
    name: "mask-handshake",
    value: "MASK",
    group: "listen",
    help: "Offer only these handshake flags, to test clients",
  },
  {
    name: "newstyle",
    aliases: ["new-style"],
    short: "n",
    group: "listen",
    help: "The newstyle protocol, which is the default",
  },
  {
    name: "oldstyle",
    aliases: ["old-style"],
    short: "o",
    group: "listen",
    help: "The oldstyle protocol, for clients that know no other",
  },
  {
    name: "read-only",
    aliases: ["readonly"],
    short: "r",
    group: "serve",
    help: "Serve the disk read-only",
  },
  {
    name: "exportname",
    aliases: ["export", "export-name"],
    short: "e",
    value: "NAME",
    group: "serve",
    help: "Export name for the printed URI and for --run's $uri",
  },
  {
    name: "filter",
    value: "FILTER",
    completes: "filter",
    group: "serve",
    help: "Put a filter in front of the plugin; may be repeated, clients meet the first one",
  },
  {
    name: "watch",
    isAddition: true,
    group: "serve",
    help: "Reload a TypeScript plugin when its file changes; clients stay connected",
  },
  {
    name: "workers",
    isAddition: true,
    value: "N",
    group: "serve",
    help: "Run a TypeScript plugin on N threads, each with an instance and a share of the clients",
  },
  ...LIMITS,
  {
    name: "max-in-flight",
    isAddition: true,
    value: "SIZE",
    group: "serve",
    help: "Memory limit for all requests in progress, 1G by default; each client has 128K more, and the one that has waited longest 64M",
  },
  {
    name: "max-connections",
    isAddition: true,
    value: "N",
    group: "serve",
    help: "Limit of clients at once; others wait until one disconnects",
  },
  {
    name: "no-sr",
    aliases: ["no-structured-replies"],
    group: "serve",
    help: "Refuse structured replies, and with them meta contexts and extended headers",
  },
  {
    name: "no-eh",
    isAddition: true,
    aliases: ["no-extended-headers"],
    group: "serve",
    help: "Refuse extended headers (64-bit lengths of requests and extents)",
  },
  {
    name: "no-mc",
    isAddition: true,
    aliases: ["no-meta-contexts"],
    group: "serve",
    help: "Refuse meta contexts, which report holes and zeroes",
  },
  {
    name: "tls",
    value: "MODE",
    completes: ["off", "on", "require"],
    group: "serve",
    help: "TLS: off, on (if the client asks for it) or require; on by default if there are certificates",
  },
  {
    name: "tls-certificates",
    value: "DIR",
    completes: "directory",
    group: "serve",
    help: "Directory with ca-cert.pem, server-cert.pem, server-key.pem and optionally ca-crl.pem",
  },
  {
    name: "tls-psk",
    value: "FILE",
    completes: "file",
    group: "serve",
    help: "Use pre-shared keys instead, in lines of USER:KEY",
  },
  {
    name: "tls-verify-peer",
    group: "serve",
    help: "Require client certificates that an authority in ca-cert.pem has signed",
  },
  {
    name: "tls-priority",
    isAddition: true,
    value: "WORDS",
    group: "serve",
    help: "OpenSSL cipher names, or GnuTLS's NORMAL with changes such as -VERS-TLS1.2",
  },
  {
    name: "foreground",
    aliases: ["no-fork"],
    short: "f",
    group: "process",
    help: "Stay in the foreground",
  },
  {
    name: "run",
    value: "COMMAND",
    group: "process",
    help: "Run a shell command with $uri, $nbd, $unixsocket, $port, $exportname; exit when it does",
  },
  {
    name: "pidfile",
    aliases: ["pid-file"],
    short: "P",
    value: "FILE",
    completes: "file",
    group: "process",
    help: "Write the process ID once clients can connect",
  },
  {
    name: "print-uri",
    isAddition: true,
    aliases: ["print-url", "show-uri", "show-url"],
    group: "process",
    help: "Print the URI once clients can connect",
  },
  { name: "exit-with-parent", group: "process", help: "Exit when the parent process does" },
  {
    name: "user",
    short: "u",
    value: "USER",
    completes: "user",
    group: "process",
    help: "Switch to this user after opening the sockets",
  },
  {
    name: "group",
    short: "g",
    value: "GROUP",
    completes: "group",
    group: "process",
    help: "Switch to this group after opening the sockets",
  },
  { name: "verbose", short: "v", group: "process", help: "Print debugging messages on stderr" },
  {
    name: "log",
    value: "WHERE",
    completes: ["stderr", "syslog", "null", "default"],
    group: "process",
    help: "Log to stderr, syslog, null, a file's path, or default (stderr; in the background, syslog)",
  },
  {
    name: "log-clients",
    isAddition: true,
    group: "process",
    help: "Log each connect and disconnect; refused clients and failed connections are always logged",
  },
  {
    name: "debug",
    short: "D",
    value: "PLUGIN.FLAG=N",
    group: "process",
    help: "Set a plugin's debug flag",
  },
  {
    name: "swap",
    group: "process",
    help: "Not supported; docs/nbdkit.md says how to keep a server out of swap",
  },
  { name: "help", group: "information", help: "Print this text; with PLUGIN, its parameters too" },
  {
    name: "version",
    short: "V",
    group: "information",
    help: "Print the server's version; with PLUGIN, its version too",
  },
  {
    name: "dump-config",
    group: "information",
    help: "Print how the server is built and installed, as KEY=VALUE lines",
  },
  {
    name: "dump-plugin",
    group: "information",
    help: "Print what PLUGIN can do, as KEY=VALUE lines",
  },
  {
    name: "completion",
    isAddition: true,
    value: "SHELL",
    completes: ["bash", "fish", "zsh"],
    group: "information",
    help: "Print a completion script for bash, fish or zsh",
  },
  { name: "long-options", group: "later" },
  { name: "short-options", group: "later" },
];

/** Those that --help and completion show. */
export const SHOWN_OPTIONS: readonly OptionSpec[] = OPTIONS.filter((o) => o.help !== undefined);
