// Markdown as pages for man(1): the macros of man(7), which both groff and mandoc know.

import MarkdownIt from "markdown-it";

const parser = new MarkdownIt({ html: false });

const SPECIAL = { "\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti" };

/** What is beyond ASCII, by number: whatever the page is read with finds the character. */
const named = (escaped) =>
  escaped.replace(
    /[^\x20-\x7e\n]/gu,
    (c) => `\\[u${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`,
  );

/** Nothing at the start of a line may be taken for a request. */
const guarded = (escaped) => escaped.replace(/^(?=[.'])/gm, "\\&");

/** Prose. */
export const text = (raw) => guarded(named(raw.replaceAll("\\", "\\e")));

/** What is typed: characters that roff makes typography of stay what they are. */
export const literal = (raw) => guarded(named(raw.replace(/[\\\-'`^~]/g, (c) => SPECIAL[c])));

export class Roff {
  #lines = [];
  /** Directly after a heading or a tag there must be no macro for a paragraph. */
  #isFresh = true;
  /** By a document's name, the page that it is. */
  #pages;

  constructor(pages) {
    this.#pages = pages;
  }

  title({ name, section, about }, source, date) {
    this.#lines.push(`.TH ${literal(name.toUpperCase())} ${section} ${date} "${source}"`);
    // Names and paths must not be divided, and gaps are not to be filled where they are not.
    this.#lines.push(".nh", ".ad l");
    this.heading("SH", "Name");
    this.#lines.push(`${literal(name)} \\- ${text(about)}`);
  }

  heading(macro, title) {
    const words = macro === "SH" ? title.toUpperCase() : title;
    this.#lines.push(`.${macro} ${text(words).replaceAll('"', "\\(dq")}`);
    this.#isFresh = true;
  }

  paragraph(roff) {
    if (!this.#isFresh) this.#lines.push(".PP");
    this.#lines.push(roff);
    this.#isFresh = false;
  }

  /** What is defined, and paragraphs about it. */
  definition(tag, paragraphs) {
    this.#lines.push(".TP", tag);
    this.#lines.push(paragraphs.filter((roff) => roff !== "").join("\n.br\n") || "\\&");
    this.#isFresh = false;
  }

  markdown(source) {
    this.#blocks(tree(parser.parse(source, {})));
  }

  toString() {
    return `${this.#lines.join("\n")}\n`;
  }

  #blocks(nodes) {
    for (const node of nodes) this.#block(node);
  }

  #block({ type, token, children }) {
    switch (type) {
      case "heading":
        return this.heading(token.tag === "h2" ? "SH" : "SS", plain(children[0].token.children));
      case "paragraph":
        return this.paragraph(this.#inline(children));
      case "fence":
        return this.#code(token.content);
      case "table":
        return this.#table(rowsOf(children));
      case "bullet_list":
        for (const item of children) this.#item(item.children, "\\(bu 2");
        return;
      case "ordered_list":
        for (const [i, item] of children.entries()) this.#item(item.children, `${i + 1}. 3`);
        return;
      default:
        throw new Error(`a page for man has no ${type}`);
    }
  }

  #code(content) {
    const lines = literal(content.trimEnd());
    this.#lines.push(...(this.#isFresh ? [] : [".PP"]), ".RS 4", ".nf", lines, ".fi", ".RE");
    this.#isFresh = false;
  }

  #item(blocks, mark) {
    this.#lines.push(`.IP ${mark}`);
    this.#isFresh = true;
    const isIndented = blocks.length > 1;
    this.#block(blocks[0]);
    if (isIndented) {
      this.#lines.push(".RS 2");
      this.#blocks(blocks.slice(1));
      this.#lines.push(".RE");
    }
  }

  /** Columns would be too narrow to read: the first is defined by the others. */
  #table([head, ...rows]) {
    const titles = head.map((cell) => this.#inline(cell));
    const isPlain = head.length <= 2;
    for (const [first, ...others] of rows) {
      const cells = others.map((cell, i) => {
        const roff = this.#inline(cell);
        return roff === "" || isPlain ? roff : `\\fI${titles[i + 1]}:\\fR ${roff}`;
      });
      this.definition(this.#inline(first).replaceAll("\n", " ") || "\\&", cells);
    }
  }

  #inline(nodes) {
    const tokens = nodes.flatMap(({ token }) => token.children ?? []);
    let roff = "";
    for (const [i, token] of tokens.entries()) roff += this.#span(token, i, tokens);
    return guarded(roff);
  }

  #span({ type, content, attrs }, index, tokens) {
    switch (type) {
      case "text":
        return text(content);
      case "code_inline":
        return `\\fB${literal(content)}\\fR`;
      case "softbreak":
        return "\n";
      case "strong_open":
        return "\\fB";
      case "em_open":
        return "\\fI";
      case "strong_close":
      case "em_close":
        return "\\fR";
      case "link_open":
        return "";
      case "link_close":
        return this.#reference(
          tokens.slice(0, index).findLast((t) => t.type === "link_open").attrs,
        );
      default:
        throw new Error(`a page for man has no ${type} (${attrs}) in a line`);
    }
  }

  /** What follows the words of a link. */
  #reference(attrs) {
    const [, href] = attrs.find(([name]) => name === "href");
    if (/^https?:/.test(href)) return ` <${literal(href)}>`;
    const [document] = href.split("#");
    const page = this.#pages.get(href) ?? this.#pages.get(document);
    if (page !== undefined) return ` (\\fB${literal(page.name)}\\fR(${page.section}))`;
    return document.endsWith(".md") ? ` (docs/${literal(document)})` : "";
  }
}

/** The words of a line, without marks. */
const plain = (tokens) =>
  tokens.map(({ type, content }) => (type === "softbreak" ? " " : content)).join("");

/** Of rows, cells, and of those what is in them. */
const rowsOf = (parts) =>
  parts.flatMap(({ children }) => children).map(({ children }) => children.map((c) => c.children));

/** Of the list that the parser makes, in which blocks are opened and closed. */
function tree(tokens) {
  const root = { children: [] };
  const open = [root];
  for (const token of tokens) {
    if (token.nesting === -1) {
      open.pop();
      continue;
    }
    const node = { type: token.type.replace(/_open$/, ""), token, children: [] };
    open.at(-1).children.push(node);
    if (token.nesting === 1) open.push(node);
  }
  return root.children;
}
