// The one table of the command line's options: parsing, --help and completion come from it.

export interface OptionSpec {
  /** Without dashes; the key under which parsing records it. */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly short?: string;
  /** What stands for the value in --help; an option without takes none. */
  readonly value?: string;
  /** What a shell can complete the value with. */
  readonly completes?: "file" | "directory" | "user" | "group" | readonly string[];
  /** Absent for options that are only recognised, to say that they are not supported yet. */
  readonly help?: string;
  /** nbdkit 1.32 has no such option. */
  readonly isAddition?: true;
  readonly group: "listen" | "serve" | "process" | "tell" | "later";
}

export const GROUP_TITLES: Readonly<Record<OptionSpec["group"], string>> = {
  listen: "Where clients connect",
  serve: "What they get",
  process: "The server as a process",
  tell: "Information instead of serving",
  later: "",
};

export const OPTIONS: readonly OptionSpec[] = [
  {
    name: "unix",
    short: "U",
    value: "PATH",
    completes: "file",
    group: "listen",
    help: "Listen on a unix socket; - makes a private one",
  },
  {
    name: "port",
    short: "p",
    value: "PORT",
    group: "listen",
    help: "TCP port or service, 10809 by default; 0 takes any free one and prints its URI",
  },
  {
    name: "ipaddr",
    aliases: ["ip-addr"],
    short: "i",
    value: "ADDRESS",
    group: "listen",
    help: "Listen on this address only",
  },
  { name: "ipv4-only", short: "4", group: "listen", help: "Listen on IPv4 only" },
  { name: "ipv6-only", short: "6", group: "listen", help: "Listen on IPv6 only" },
  {
    name: "vsock",
    group: "listen",
    help: "Listen on a vsock port, for virtual machines and their host, instead of TCP",
  },
  {
    name: "single",
    aliases: ["stdin"],
    short: "s",
    group: "listen",
    help: "Serve one client on standard input and output",
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
    help: "Let no client write",
  },
  {
    name: "exportname",
    aliases: ["export", "export-name"],
    short: "e",
    value: "NAME",
    group: "serve",
    help: "Export that the printed URI and --run's $uri name",
  },
  {
    name: "filter",
    value: "FILTER",
    completes: ["cache", "cow", "delay", "error", "log", "rate", "readonly", "retry", "stats"],
    group: "serve",
    help: "Put a filter in front of the plugin; several times for several, clients meet the first",
  },
  {
    name: "threads",
    short: "t",
    value: "N",
    group: "serve",
    help: "Requests in progress per connection, 16 by default, if the plugin can take more than one",
  },
  {
    name: "watch",
    isAddition: true,
    group: "serve",
    help: "Load a plugin in TypeScript again when its file changes; clients stay",
  },
  {
    name: "workers",
    isAddition: true,
    value: "N",
    group: "serve",
    help: "Threads for a plugin in TypeScript, each with an instance of it and a share of the clients",
  },
  {
    name: "spin",
    isAddition: true,
    value: "TIME",
    group: "serve",
    help: "How long an idle connection looks for requests before it sleeps, 50us by default; 0 never",
  },
  {
    name: "max-in-flight",
    isAddition: true,
    value: "SIZE",
    group: "serve",
    help: "Most memory of all clients' requests in progress, 1G by default; besides, each client has 128K and the one that has waited longest 64M",
  },
  {
    name: "max-connection-in-flight",
    isAddition: true,
    value: "SIZE",
    group: "serve",
    help: "Most memory of one client's requests in progress, 256M by default",
  },
  {
    name: "max-connections",
    isAddition: true,
    value: "N",
    group: "serve",
    help: "Clients at once; others wait until one has gone",
  },
  {
    name: "grace",
    isAddition: true,
    value: "TIME",
    group: "serve",
    help: "How long requests without an answer delay the end of a connection, 30s by default",
  },
  {
    name: "stall-timeout",
    isAddition: true,
    value: "TIME",
    group: "serve",
    help: "How long a client may leave a request half-sent, or its replies unread, 300s by default; 0 for ever",
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
    help: "Refuse extended headers, with which requests and extents have lengths of 64 bits",
  },
  {
    name: "no-mc",
    isAddition: true,
    aliases: ["no-meta-contexts"],
    group: "serve",
    help: "Refuse meta contexts, which tell clients of holes and zeroes",
  },
  {
    name: "tls",
    value: "MODE",
    completes: ["off", "on", "require"],
    group: "serve",
    help: "Encryption: off; on, where clients want it; require, for all. on if it can be had",
  },
  {
    name: "tls-certificates",
    value: "DIR",
    completes: "directory",
    group: "serve",
    help: "Where ca-cert.pem, server-cert.pem, server-key.pem and perhaps ca-crl.pem are",
  },
  {
    name: "tls-psk",
    value: "FILE",
    completes: "file",
    group: "serve",
    help: "Pre-shared keys instead, in lines of USER:KEY",
  },
  {
    name: "tls-verify-peer",
    group: "serve",
    help: "Refuse clients without a certificate of an authority in ca-cert.pem",
  },
  {
    name: "tls-priority",
    isAddition: true,
    value: "WORDS",
    group: "serve",
    help: "OpenSSL's names of ciphers; or GnuTLS's NORMAL, with changes as -VERS-TLS1.2",
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
    help: "Run a shell command with $uri, $nbd, $unixsocket, $port, $exportname; end with it",
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
  { name: "exit-with-parent", group: "process", help: "End when the parent process does" },
  {
    name: "user",
    short: "u",
    value: "USER",
    completes: "user",
    group: "process",
    help: "Become this user once the sockets are open",
  },
  {
    name: "group",
    short: "g",
    value: "GROUP",
    completes: "group",
    group: "process",
    help: "Become this group once the sockets are open",
  },
  { name: "verbose", short: "v", group: "process", help: "Print debugging messages on stderr" },
  {
    name: "log",
    value: "WHERE",
    completes: ["stderr", "syslog", "null", "default"],
    group: "process",
    help: "Where errors go: stderr, syslog, null, a file's path, or default (stderr, in the background syslog)",
  },
  {
    name: "log-clients",
    isAddition: true,
    group: "process",
    help: "Tell of each client that comes or goes; those refused or lost are told of anyway",
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
    help: "Refused: see docs/nbdkit.md for what keeps a server out of swap",
  },
  { name: "help", group: "tell", help: "This text; with PLUGIN, its parameters too" },
  {
    name: "version",
    short: "V",
    group: "tell",
    help: "The server's version; with PLUGIN, its version too",
  },
  { name: "dump-config", group: "tell", help: "What was built in, as KEY=VALUE lines" },
  { name: "dump-plugin", group: "tell", help: "What PLUGIN can do, as KEY=VALUE lines" },
  {
    name: "completion",
    isAddition: true,
    value: "SHELL",
    completes: ["bash"],
    group: "tell",
    help: "A completion script for bash",
  },
  { name: "long-options", group: "later" },
  { name: "short-options", group: "later" },
  { name: "selinux-label", value: "LABEL", group: "later" },
];

/** Those that --help and completion show. */
export const SHOWN_OPTIONS: readonly OptionSpec[] = OPTIONS.filter((o) => o.help !== undefined);
