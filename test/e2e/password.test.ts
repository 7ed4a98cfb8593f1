// Passwords that are asked for on a terminal.

import { expect, test } from "vitest";
import { run } from "../support/command.js";
import { asyncnbd, sanitizer, serverEnvironment, testPlugin } from "../support/server.js";

/** Answers each prompt at once, and tells whether what is typed would be shown then. */
const TERMINAL = `
import os, pty, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
text = b""
def read():
    try:
        return os.read(terminal, 1024)
    except OSError:
        return b""
while data := read():
    text += data
    if data.endswith(b"password: "):
        print("shown" if termios.tcgetattr(terminal)[3] & termios.ECHO else "hidden")
        os.write(terminal, b"sesame\\n")
print(text.count(b"the password is sesame"), text.count(b"sesame"), os.waitpid(pid, 0)[1])
print("shown" if termios.tcgetattr(terminal)[3] & termios.ECHO else "hidden")
`;

test.skipIf(sanitizer !== undefined)(
  "typed characters are hidden before the prompt appears",
  async () => {
    const passwords = Array.from({ length: 25 }, () => "password=-");
    const server = [...asyncnbd, "-v", "-U", "-", testPlugin("children"), ...passwords];
    const argv = ["/usr/bin/python3", "-c", TERMINAL, ...server, "--run", "true"];
    const { stdout } = await run(argv, { env: serverEnvironment() });
    expect(stdout).toBe(`${"hidden\n".repeat(25)}25 25 0\nshown\n`);
  },
);
