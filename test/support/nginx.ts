// nginx, serving a folder for as long as the test.

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { eventually, temporaryDirectory } from "./server.js";

export const hasNginx = spawnSync("nginx", ["-v"]).status === 0;

/** Its folder, and a URL that listens on a socket there. */
export async function startNginx(): Promise<{ folder: string; socket: string }> {
  const directory = temporaryDirectory();
  const folder = join(directory, "www");
  const socket = join(directory, "nginx");
  mkdirSync(folder);
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  );
  const user = process.getuid?.() === 0 ? "user root;" : "";
  writeFileSync(
    join(directory, "nginx.conf"),
    `daemon off; ${user} pid ${directory}/pid; error_log stderr error;
     events { worker_connections 512; }
     http { access_log off; ${paths.join(" ")}
       server { listen unix:${socket}; root ${folder}; } }`,
  );
  const nginx = spawn("nginx", ["-p", directory, "-e", "stderr", "-c", "nginx.conf"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let words = "";
  nginx.stderr.setEncoding("utf8").on("data", (text: string) => {
    words += text;
  });
  onTestFinished(() => void nginx.kill());
  await eventually("nginx", () => {
    if (nginx.exitCode !== null) throw new Error(words);
    const asked = spawnSync("curl", ["-s", "--unix-socket", socket, "http://x/"]);
    return asked.status === 0 ? true : undefined;
  });
  return { folder, socket };
}
