#!/usr/bin/env node
// Checks the pages of a static site, without a network: that each link inside of it leads to a file, and
// to an anchor that is there. check-links DIRECTORY

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Parser } from "htmlparser2";

const ATTRIBUTES = ["href", "src"];

/** What a page links to, and the anchors that it has. */
function contentsOf(path) {
  const targets = [];
  const anchors = new Set(["", "top"]); // which every page has
  const parser = new Parser({
    onopentag(tag, attributes) {
      for (const name of ATTRIBUTES)
        if (attributes[name] !== undefined) targets.push(attributes[name]);
      if (attributes.id !== undefined) anchors.add(attributes.id);
      if (tag === "a" && attributes.name !== undefined) anchors.add(attributes.name);
    },
  });
  parser.end(readFileSync(path, "utf8"));
  return { targets, anchors };
}

const isPage = (path) => path.endsWith(".html");

/** Where a browser goes that opens the folder's path. */
const fileAt = (path) =>
  existsSync(path) && statSync(path).isDirectory() ? join(path, "index.html") : path;

/** What is wrong with a link of a page; undefined: nothing, or it leads out of the site. */
function faultOf(root, page, target, pages) {
  if (!URL.canParse(target, pathToFileURL(page))) return "no URL";
  const url = new URL(target, pathToFileURL(page));
  if (url.protocol !== "file:") return undefined;
  const hash = decodeURIComponent(url.hash.slice(1));
  url.hash = url.search = "";
  const path = fileAt(fileURLToPath(url));
  if (relative(root, path).startsWith("..")) return "outside of the site";
  if (!existsSync(path)) return "no such file";
  if (hash === "" || !isPage(path)) return undefined;
  return pages.get(path)?.anchors.has(hash) ? undefined : "no such anchor";
}

function main(directory) {
  const root = resolve(directory);
  const files = readdirSync(root, { recursive: true }).map((file) => join(root, file));
  const pages = new Map(files.filter(isPage).map((path) => [path, contentsOf(path)]));
  if (pages.size === 0) throw new Error(`${directory} has no pages`);
  let links = 0;
  let faults = 0;
  for (const [page, { targets }] of pages)
    for (const target of targets) {
      links++;
      const fault = faultOf(root, page, target, pages);
      if (fault === undefined) continue;
      faults++;
      console.error(`${relative(root, page)}: ${target}: ${fault}`);
    }
  console.log(`${pages.size} pages, ${links} links, ${faults} of them broken`);
  if (faults > 0) process.exitCode = 1;
}

main(process.argv[2] ?? "build-docs");
