// What belongs to the whole process, in native/: nothing but what docs/architecture.md gives a reason
// for. Anything else is owned by someone, and passed in.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Variables that live as long as the process or a thread, and are not constant. */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  "addon/own_process.cpp": ["once"],
  "addon/runtime.cpp": ["made"],
  "addon/script_loop.cpp": ["serving"],
  "addon/watchdog.cpp": [
    ...["handlers", "received", "seen", "last_signal", "last_stop_ms", "grace_ms", "last_line"],
    ...["deadline_ms", "forced_status", "made_files", "lines", "all"],
  ],
  "backend/c_plugin.cpp": ["opening", "mutex", "kept"],
  "base/lock_order.cpp": ["held"],
  "filters/registry.cpp": ["last"],
  "nbd/completions.cpp": ["led_"],
  "nbd/thread_cache.cpp": ["cache"],
  "host/async_calls.cpp": ["complaints"],
  "host/bindings.cpp": ["mutex", "scan"],
  "host/call_table.cpp": ["table"],
  "host/client_log.cpp": ["logs_clients", "mutex", "limit"],
  "host/context.cpp": ["list", "state", "pool"],
  "host/copies.cpp": ["all"],
  "host/library.cpp": ["promoted", "keeps_libraries", "shared", "names"],
  "host/log.cpp": ["writer", "verbose_lines", "control_lines", "data_lines"],
  "host/log_owner.cpp": ["owners"],
  "host/password.cpp": ["stdio_safe"],
  "host/reply_batch.cpp": ["batch"],
  "schedule/loop_poller.cpp": ["turn_of_this_thread"],
  "schedule/poll_worker.cpp": ["worker_of_this_thread"],
  "store/guarded_copy.cpp": ["escape", "previous"],
  "transport/sigpipe.cpp": ["is_handled"],
};

const STORED = /^\s*(?:constinit )?(?:static|thread_local)\b(.*)$/;
const AT_NAMESPACE_SCOPE =
  /^(?:inline )?(?:std::|base::|host::|bool |int |unsigned |size_t |u?int\d+_t |char |struct \w+ )[^()]*;/;
const IS_CONSTANT = /\b(?:constexpr|static_assert|static_cast)\b|^\s*(?:static )?const\b|\*const /;

/** The names of such variables in a source file. A function ends in a parameter list instead. */
function variables(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    const code = line.replace(/\s*\/\/.*$/, "").replace(/ ?\[\[.*?\]\]/, "");
    if (IS_CONSTANT.test(code) || !(STORED.test(code) || AT_NAMESPACE_SCOPE.test(code))) return [];
    const left = code.replace(/<[^=;]*>/g, "").replace(/ = .*$/, "");
    const made = /(\w+)(?:\{[^{}]*\}?|\([A-Z0-9_, ]+\))?;?$/.exec(left); // arguments are constants
    const isFunction =
      /\)(?: const)?(?: override)?(?:;| \{)?$/.test(code) || /\($|,$|\{$/.test(code);
    if (made === null || (isFunction && !/\([A-Z0-9_, ]+\);$/.test(code) && !/ = /.test(code)))
      return [];
    return [made[1] as string];
  });
}

test("variables of the process are recognized", () => {
  const text = `
std::atomic<size_t> count{0}; // of all
bool is_set = false;
constinit thread_local Held held{};
constexpr int LIMIT = 3;
const size_t page_bytes = sysconf(1);
static bool is_unix_socket(int fd) {
  static auto *table = new Table<int>;
  static LineLimit limit(BURST, EVERY_MS);
  static const std::string preloaded = find();
  static std::once_flag once;
  static Owner &made = Owner::make(1);
  int local = 0;
  return static_cast<bool>(local);
}
  static PagePipe *open();
  static int write(BIO *bio, const char *data, int count) {
  static BIO_METHOD *const made = [] {
`;
  const found = ["count", "is_set", "held", "table", "limit", "once", "made"];
  expect(variables(text)).toEqual(found);
});

test("all state of the process is known and explained in docs/architecture.md", () => {
  const found: Record<string, readonly string[]> = {};
  for (const file of readdirSync(join(root, "native"), { recursive: true, encoding: "utf8" })) {
    if (!/\.[ch]pp$/.test(file) || file.startsWith("plugins/")) continue;
    const source = file.replace(/hpp$/, "cpp"); // where a header's variables are defined
    const names = variables(readFileSync(join(root, "native", file), "utf8"));
    const all = [...new Set([...(found[source] ?? []), ...names])];
    if (all.length > 0) found[source] = all;
  }
  expect(found).toEqual(KNOWN);
  const text = readFileSync(join(root, "docs/architecture.md"), "utf8");
  const table = /\| what \| file \| why \|\n(.*?)\n\n/s.exec(text)?.[1] ?? "";
  const files = [...table.matchAll(/`(\w+\/\w+\.cpp)`/g)].map((m) => m[1]);
  expect(files.sort()).toEqual(Object.keys(KNOWN).sort());
});
