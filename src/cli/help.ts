// --help, --version, --dump-config and the hidden lists of options, from the table.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { includeDirectory, packageDirectory, shippedPluginDirectory } from "../addon/addon.js";
import type { PluginAbout } from "../addon/types.js";
import { distributionFilterDirectories } from "../filters/resolve.js";
import { distributionPluginDirectories, gnuMachine } from "../plugins/resolve.js";
import { SYSTEM_CERTIFICATES } from "../server/tls.js";
import { NBDKIT_VERSION, version } from "../version.js";
import { optionLines } from "./option-lines.js";
import { GROUP_TITLES, SHOWN_OPTIONS } from "./options.js";

const USAGE = `Usage: asyncnbd [OPTION]... PLUGIN [[KEY=]VALUE]...

Serves a disk to NBD clients. PLUGIN is the short name of a plugin, such as
memory or file, or the path of one. The command returns when clients can
connect, and the server goes on in the background (see --foreground).

  asyncnbd memory 1G                        a disk in memory, on TCP port 10809
  asyncnbd -U disk.sock file disk.img       an image, on a unix socket
  asyncnbd file disk.img --run 'qemu-img info $uri'
`;

/** The text of --help without a plugin. */
export function helpText(): string {
  const sections = Object.entries(GROUP_TITLES)
    .map(([group, title]) => {
      const specs = SHOWN_OPTIONS.filter((spec) => spec.group === group);
      return specs.length === 0 ? "" : `\n${title}:\n${specs.map(optionLines).join("\n")}\n`;
    })
    .join("");
  return USAGE + sections;
}

/** What --help PLUGIN adds. */
export function pluginHelpText(about: PluginAbout): string {
  const longname = about.longname === undefined ? "" : ` (${about.longname})`;
  const lines = [`plugin: ${about.name}${longname}`, `(${about.path})`];
  if (about.description !== undefined) lines.push(about.description.trimEnd());
  if (about.configHelp !== undefined) lines.push(about.configHelp.trimEnd());
  return `\n${lines.join("\n")}\n`;
}

export function versionText(): string {
  return `asyncnbd ${version}\n`;
}

/** As nbdkit: a line for each, in the order in which clients meet them. */
export function pluginVersionText(about: PluginAbout): string {
  const all = [...(about.filters ?? []), about];
  return all.map(({ name, version = "" }) => `${`${name} ${version}`.trimEnd()}\n`).join("");
}

/**
 * --dump-config: sorted, with all of nbdkit's keys. Programs compare the version with those of
 * nbdkit, and look in `plugindir` for nbdkit's plugins.
 */
export function dumpConfigText(): string {
  const [major, minor] = NBDKIT_VERSION.split(".") as [string, string];
  const binary = process.argv[1] as string;
  const ourPages = join(packageDirectory, "dist", "man");
  const values: Record<string, string> = {
    asyncnbd_datadir: join(packageDirectory, "packaging"),
    asyncnbd_plugindir: shippedPluginDirectory,
    asyncnbd_version: version,
    binary,
    bindir: dirname(binary),
    exit_with_parent: "yes",
    filterdir: distributionFilterDirectories().find(existsSync) ?? join(packageDirectory, "dist"),
    host_cpu: gnuMachine(),
    host_os: "linux-gnu",
    includedir: includeDirectory,
    libdir: join(packageDirectory, "dist"),
    mandir: existsSync(ourPages) ? ourPages : "/usr/share/man",
    max_api_version: "2",
    name: "asyncnbd",
    nodejs: process.version,
    plugindir: distributionPluginDirectories().find(existsSync) ?? shippedPluginDirectory,
    root_tls_certificates_dir: SYSTEM_CERTIFICATES,
    run_default_socket: "Unix",
    sbindir: dirname(binary),
    selinux: "yes",
    soext: "so",
    sysconfdir: "/etc",
    timeout_option: "yes",
    tls: "yes",
    version: NBDKIT_VERSION,
    version_major: major,
    version_minor: minor,
    vsock_option: "yes",
    zstd: "no",
  };
  return Object.keys(values)
    .sort()
    .map((key) => `${key}=${values[key]}\n`)
    .join("");
}

export function longOptionsText(): string {
  return SHOWN_OPTIONS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])])
    .map((name) => `--${name}\n`)
    .join("");
}

export function shortOptionsText(): string {
  return SHOWN_OPTIONS.flatMap(({ short }) => (short === undefined ? [] : [`-${short}\n`])).join(
    "",
  );
}
