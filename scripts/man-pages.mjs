#!/usr/bin/env node
// Makes the manual pages of docs/ and the table of options: man-pages [DIRECTORY], dist/man if it is
// not said. In the directory, pages lie as man(1) looks for them: man1/asyncnbd.1.

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createJiti } from "jiti";
import { literal, Roff, text } from "./roff.mjs";

const root = fileURLToPath(new URL("../", import.meta.url));

/** A page of each document; of plugins.md, one of each of its sections. */
const PAGES = [
  { name: "asyncnbd", section: 1, document: "command.md", about: "serve disks to NBD clients" },
  {
    ...{ name: "asyncnbd-client", section: 1, document: "client-command.md" },
    about: "ask servers of NBD, and copy disks",
  },
  { name: "asyncnbd-filters", section: 1, document: "filters.md", about: "filters of asyncnbd" },
  {
    ...{ name: "asyncnbd-remote", section: 1, document: "remote.md" },
    about: "disks on web servers and in clusters",
  },
  { name: "asyncnbd-service", section: 1, document: "service.md", about: "asyncnbd under systemd" },
  { name: "asyncnbd-tls", section: 1, document: "tls.md", about: "encryption of asyncnbd" },
  {
    ...{ name: "asyncnbd-plugin", section: 3, document: "c-plugins.md" },
    about: "write plugins for asyncnbd in C and C++",
  },
  {
    ...{ name: "asyncnbd-async-plugin", section: 3, document: "async-plugins.md" },
    about: "write asynchronous plugins for asyncnbd in C and C++",
  },
  {
    ...{ name: "asyncnbd-typescript-plugin", section: 3, document: "typescript-plugins.md" },
    about: "write plugins for asyncnbd in TypeScript",
  },
  {
    ...{ name: "asyncnbd-typescript-client", section: 3, document: "client.md" },
    about: "write clients of NBD in TypeScript",
  },
  {
    ...{ name: "asyncnbd-testing", section: 3, document: "testing.md" },
    about: "test plugins of asyncnbd against a model of a disk, and with faults",
  },
];

const read = (path) => readFileSync(join(root, path), "utf8");

const { version } = JSON.parse(read("package.json"));

const dayOf = (milliseconds) => new Date(milliseconds).toISOString().slice(0, 10);

/** Of the last commit, so that the same sources make the same pages. */
function dateOfSources() {
  if (process.env.SOURCE_DATE_EPOCH) return dayOf(Number(process.env.SOURCE_DATE_EPOCH) * 1000);
  const git = ["git", ["log", "-1", "--format=%ct"]];
  const { status, stdout } = spawnSync(...git, { cwd: root, encoding: "utf8" });
  return dayOf(status === 0 ? Number(stdout) * 1000 : statSync(join(root, "package.json")).mtimeMs);
}

/** Sections of plugins.md, by their titles: names of plugins. */
function shippedPlugins() {
  const [, ...sections] = read("docs/plugins.md").split(/^## /m);
  return sections.map((section) => {
    const [title, ...lines] = section.split("\n");
    const markdown = lines
      .join("\n")
      .trim()
      .replace(/^#(#+ )/gm, "$1");
    const [first] = markdown.split(/[.:]\s/);
    return { title, name: `asyncnbd-${title}-plugin`, section: 1, markdown, about: lowered(first) };
  });
}

/** The first sentence of a section says what the plugin is. */
const lowered = (sentence) =>
  sentence
    .replaceAll("\n", " ")
    .replaceAll("`", "")
    .replace(/^./, (c) => c.toLowerCase());

/** What a link to a document, or to a plugin's section, becomes. */
function references() {
  const pages = PAGES.map(({ name, section, document }) => [document, { name, section }]);
  const plugins = shippedPlugins().map(({ name, section, title }) => [
    `plugins.md#${title}`,
    { name, section },
  ]);
  return new Map([...pages, ...plugins, ["plugins.md", { name: "asyncnbd", section: 1 }]]);
}

async function optionTable() {
  const { OPTIONS, GROUP_TITLES } = await createJiti(import.meta.url).import(
    "../src/cli/options.ts",
  );
  return Object.entries(GROUP_TITLES).flatMap(([group, title]) => {
    const options = OPTIONS.filter((spec) => spec.group === group && spec.help !== undefined);
    return options.length === 0 ? [] : [{ title, options }];
  });
}

function namesOf({ short, name, aliases = [], value }) {
  const end = value === undefined ? "" : `=\\fI${literal(value)}\\fR`;
  const long = [name, ...aliases].map((each) => `\\fB${literal(`--${each}`)}\\fR${end}`);
  return [...(short === undefined ? [] : [`\\fB${literal(`-${short}`)}\\fR`]), ...long].join(", ");
}

async function clientOptionTable() {
  const { CLIENT_OPTIONS } = await createJiti(import.meta.url).import(
    "../src/cli/client/options.ts",
  );
  return CLIENT_OPTIONS;
}

async function writeClientOptions(roff) {
  roff.heading("SH", "Options");
  for (const spec of await clientOptionTable())
    roff.definition(namesOf(spec), [text(`${spec.help}.`)]);
}

async function writeOptions(roff) {
  roff.heading("SH", "Options");
  for (const { title, options } of await optionTable()) {
    roff.heading("SS", title);
    for (const spec of options) roff.definition(namesOf(spec), [text(`${spec.help}.`)]);
  }
}

/** Of the pages about commands: their synopsis, and what writes their options. */
const COMMANDS = {
  asyncnbd: {
    synopsis:
      "\\fBasyncnbd\\fR [\\fIOPTION\\fR]... \\fIPLUGIN\\fR [[\\fIKEY\\fR=]\\fIVALUE\\fR]...",
    writeOptions,
  },
  "asyncnbd-client": {
    synopsis: "\\fBasyncnbd-client\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...",
    writeOptions: writeClientOptions,
  },
};

function writeSeeAlso(roff, page, pages) {
  const others = pages.filter(({ name }) => name !== page.name);
  roff.heading("SH", "See also");
  roff.paragraph(
    others.map(({ name, section }) => `\\fB${literal(name)}\\fR(${section})`).join(",\n"),
  );
}

async function makePage(page, pages, date) {
  const roff = new Roff(references());
  roff.title(page, `asyncnbd ${version}`, date);
  const command = COMMANDS[page.name];
  if (command !== undefined) {
    roff.heading("SH", "Synopsis");
    roff.paragraph(command.synopsis);
  }
  roff.heading("SH", "Description");
  const markdown = page.markdown ?? read(`docs/${page.document}`).replace(/^# .*\n+/, "");
  const [introduction, ...sections] = markdown.split(/^(?=## )/m);
  roff.markdown(introduction);
  await command?.writeOptions(roff);
  roff.markdown(sections.join(""));
  writeSeeAlso(roff, page, pages);
  return roff.toString();
}

const directory = process.argv[2] ?? join(root, "dist", "man");
rmSync(directory, { recursive: true, force: true });
const pages = [...PAGES, ...shippedPlugins()];
const date = dateOfSources();
for (const page of pages) {
  const path = join(directory, `man${page.section}`, `${page.name}.${page.section}`);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, await makePage(page, pages, date));
}
