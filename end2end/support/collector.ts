// Where the servers send their traces: as they come over the wire, one file of all of them.

import { once } from "node:events";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const FILE = "END2END_TRACES";

export interface Collector {
  url: string;
  close(): Promise<void>;
}

export async function openCollector(): Promise<Collector> {
  const path = join(mkdtempSync(join(tmpdir(), "latchkey-traces-")), "traces");
  writeFileSync(path, "", { mode: 0o600 });
  process.env[FILE] = path;
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      appendFileSync(path, Buffer.concat(parts));
      response.end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
      rmSync(dirname(path), { recursive: true, force: true });
    },
  };
}

/** All that came so far. Text stands in it as it is. */
export function traces(): string {
  const path = process.env[FILE];
  if (!path) throw new Error("the global set-up has not run");
  return readFileSync(path, "latin1");
}
