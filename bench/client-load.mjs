// One trial of bench/client.mjs in a process of its own: client-load CLIENT PORT DEPTH BYTES SECONDS
// [DIRECTORY]. Prints {"requests", "seconds", "cpuSeconds"}.

const [name, port, depthText, bytesText, secondsText, directory] = process.argv.slice(2);
const depth = Number(depthText);
const bytes = Number(bytesText);

/** @type {Record<string, () => Promise<{ size: number, read: (slot: number) => Promise<unknown> }>>} */
const CLIENTS = {
  asyncnbd: async () => {
    const { connect } = await import("../dist/client/index.js");
    const client = await connect({ host: "127.0.0.1", port: Number(port) });
    return { size: client.size, read: (slot) => client.read(slot * bytes, bytes) };
  },
  "asyncnbd, simple": async () => {
    const { connect } = await import("../dist/client/index.js");
    const plain = { structuredReplies: false, extendedHeaders: false };
    const client = await connect({ host: "127.0.0.1", port: Number(port) }, plain);
    return { size: client.size, read: (slot) => client.read(slot * bytes, bytes) };
  },
  vates: async () => {
    const { default: NbdClient } = await import(
      `${directory}/node_modules/@vates/nbd-client/NbdTcpClient.mjs`
    );
    const client = new NbdClient({ address: "127.0.0.1", port: Number(port), exportname: "" }, {});
    await client.connect();
    return { size: 2 ** 28, read: (slot) => client.readBlock(slot, bytes) };
  },
};

const client = await /** @type {() => Promise<{ size: number, read: Function }>} */ (
  CLIENTS[/** @type {string} */ (name)]
)();
const slots = Math.floor(client.size / bytes);

/** @param {number} seconds */
async function load(seconds) {
  const start = performance.now();
  const cpu = process.cpuUsage();
  let requests = 0;
  const one = async () => {
    while (performance.now() - start < seconds * 1000) {
      await client.read(Math.floor(Math.random() * slots));
      requests++;
    }
  };
  await Promise.all(Array.from({ length: depth }, one));
  const { user, system } = process.cpuUsage(cpu);
  return {
    requests,
    seconds: (performance.now() - start) / 1000,
    cpuSeconds: (user + system) / 1e6,
  };
}

await load(0.3); // until it is compiled
console.log(JSON.stringify(await load(Number(secondsText))));
process.exit(0);
