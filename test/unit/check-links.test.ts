// Broken links of a static site are found: scripts/check-links.mjs.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { run } from "../support/command.js";
import { temporaryDirectory } from "../support/server.js";

const script = fileURLToPath(new URL("../../scripts/check-links.mjs", import.meta.url));

const PAGE = '<h1 id="a b">A</h1><img src="../picture.svg">';

/** A page in the site's folder, beside another one with an anchor. */
function check(html: string) {
  const site = temporaryDirectory();
  mkdirSync(join(site, "other"));
  writeFileSync(join(site, "picture.svg"), "<svg/>");
  writeFileSync(join(site, "other", "index.html"), PAGE);
  writeFileSync(join(site, "index.html"), html);
  return run([process.execPath, script, site]);
}

test.each([
  ['<a href="nosuch.html">', "nosuch.html: no such file"],
  ['<a href="other/index.html#b">', "other/index.html#b: no such anchor"],
  ['<a href="#b">', "#b: no such anchor"],
  ['<img src="nosuch.svg">', "nosuch.svg: no such file"],
  ['<link href="../style.css">', "../style.css: outside of the site"],
])("%s is broken", async (html, words) => {
  const { status, stdout, stderr } = await check(html);
  expect({ status, stderr }).toEqual({ status: 1, stderr: `index.html: ${words}\n` });
  expect(stdout).toBe("2 pages, 2 links, 1 of them broken\n");
});

test("links to existing files and to other sites are accepted", async () => {
  const targets = ["other/", "other/index.html#a%20b", "#", "#c", "picture.svg#x", "?q=1"];
  const outside = ["https://example.com/nosuch", "mailto:a@example.com"];
  const links = [...targets, ...outside].map((target) => `<a href="${target}">x</a>`).join("");
  const { status, stderr } = await check(`<p id="c">${links}</p>`);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});
