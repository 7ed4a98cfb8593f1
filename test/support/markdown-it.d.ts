// As much of markdown-it as tests use; it comes without types.

declare module "markdown-it" {
  export interface Token {
    readonly type: string;
    readonly content: string;
    readonly children: Token[] | null;
    attrGet(name: string): string | null;
  }
  export default class MarkdownIt {
    constructor(options?: { readonly html?: boolean });
    parse(text: string, environment: object): Token[];
  }
}
