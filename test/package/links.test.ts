// Where the documents in the tarball point to is in the tarball, too: files, and headings in them.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import MarkdownIt, { type Token } from "markdown-it";
import { expect, inject, test } from "vitest";
import { temporaryDirectory } from "../support/server.js";

const parser = new MarkdownIt({ html: true });

const inlineOf = (text: string): Token[] =>
  parser.parse(text, {}).flatMap((token) => token.children ?? []);

/** Of links and pictures, in the order of the text. */
const targetsOf = (text: string): string[] =>
  inlineOf(text).flatMap((token) => {
    const target = token.attrGet(token.type === "image" ? "src" : "href");
    return target === null ? [] : [target];
  });

/** The names that headings have in a browser, as GitHub and npm make them. */
function anchorsOf(text: string): Set<string> {
  const tokens = parser.parse(text, {});
  const anchors = new Set<string>();
  tokens.forEach((token, i) => {
    if (token.type !== "heading_open") return;
    const words = (tokens[i + 1]?.children ?? []).map(({ content }) => content).join("");
    const anchor = words
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-");
    let name = anchor;
    for (let same = 1; anchors.has(name); same++) name = `${anchor}-${same}`;
    anchors.add(name);
  });
  return anchors;
}

/** What is wrong with a link of a document of the package; undefined: nothing. */
function fault(packageFolder: string, document: string, target: string): string | undefined {
  if (/^[a-z]+:/.test(target)) return undefined; // elsewhere in the world
  const [path = "", anchor] = decodeURI(target).split("#");
  const file = path === "" ? document : join(dirname(document), path);
  const whole = join(packageFolder, file);
  if (file.startsWith("..") || !existsSync(whole))
    return `${document}: ${target} is not in the package`;
  if (anchor === undefined) return undefined;
  const has = statSync(whole).isFile() && anchorsOf(readFileSync(whole, "utf8")).has(anchor);
  return has ? undefined : `${document}: ${target} has no such heading`;
}

test("the anchors of headings are GitHub's", () => {
  const text = "# A `b`, [c](d) e_f!\n\n## x & y\n\n## x & y\n\n### It’s 1.5\n";
  expect([...anchorsOf(text)]).toEqual(["a-b-c-e_f", "x--y", "x--y-1", "its-15"]);
});

test("broken links are found", () => {
  const folder = temporaryDirectory();
  const text = "# One\n[a](x.md), ![b](y.svg) [c](#one) [d](#two) [e](https://example.com/)";
  writeFileSync(join(folder, "a.md"), text);
  expect(targetsOf(text).map((target) => fault(folder, "a.md", target))).toEqual([
    "a.md: x.md is not in the package",
    "a.md: y.svg is not in the package",
    undefined,
    "a.md: #two has no such heading",
    undefined,
  ]);
});

test("every link of every document resolves inside the tarball", () => {
  const folder = temporaryDirectory();
  execFileSync("tar", ["-xzf", inject("tarball"), "-C", folder]);
  const packageFolder = join(folder, "package");
  const documents = readdirSync(packageFolder, { recursive: true, encoding: "utf8" }).filter(
    (file) => file.endsWith(".md") && !file.includes("node_modules/"),
  );
  for (const expected of ["README.md", "CHANGELOG.md", "docs/command.md"])
    expect(documents).toContain(expected);
  const faults = documents.flatMap((document) =>
    targetsOf(readFileSync(join(packageFolder, document), "utf8")).map((target) =>
      fault(packageFolder, document, target),
    ),
  );
  expect(faults.filter((one) => one !== undefined)).toEqual([]);
});
