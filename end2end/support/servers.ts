// The servers under test: real processes of the real binary, each with a private PostgreSQL of its own.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

import { note } from "./seen.ts";

/** What each server is there for. */
export const SERVERS = {
  /** Everything that no other needs. Without limits, because all tests share one network. */
  main: { LIMITS: "off" },
  /** Small limits. Tests take networks of their own by `X-Forwarded-For`. */
  limits: { TRUSTED_PROXIES: "127.0.0.0/8", LIMIT_LINK_NETWORK: "6/15m", LIMIT_CODE_NETWORK: "3/15m" },
  closed: { SIGNUP: "closed", LIMITS: "off" },
  /** As in production. Whoever needs its administrators to be theirs alone takes it by `alone`. */
  invite: { SIGNUP: "invite", LIMITS: "off" },
  off: { FEATURE_PASSWORDLESS_AUTH: "false", LEGACY_SIGN_IN_URL: "https://old.example.org/login" },
  /** Its flag is turned. Whoever does takes it by `alone`. */
  rollout: { LIMITS: "off", LEGACY_SIGN_IN_URL: "https://old.example.org/login" },
  /** The only one without a mail server: mail shows up at `/dev/inbox`. */
  inbox: { LIMITS: "off", EMAIL_SMTP: "" },
  /** Its pages are compared with pictures: what is seen there must be the same each time. */
  pictures: { LIMITS: "off", TRUSTED_PROXIES: "127.0.0.0/8", EMAIL_FROM: "Latchkey <sign-in@example.org>" },
} satisfies Record<string, Record<string, string>>;

export type ServerName = keyof typeof SERVERS;

export interface Server {
  url: string;
  /** Health and metrics, for operators. */
  ops: string;
  /** Its secrets, as an operator sets them. */
  secrets: Record<string, string>;
  dataDir: string;
  log: string;
}

export type Fleet = Record<ServerName, Server>;

const FLEET = "END2END_FLEET";

/** The running servers, as the global set-up left them for the workers. */
export function fleet(): Fleet {
  const fleet = process.env[FLEET];
  if (!fleet) throw new Error("the global set-up has not run");
  return JSON.parse(fleet) as Fleet;
}

const folder = import.meta.dirname;
/** Beside it lie the examples. */
export const binary =
  process.env["LATCHKEY_BIN"] ?? join(resolve(folder, "../..", process.env["CARGO_TARGET_DIR"] ?? "target"), "debug/latchkey");

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

class Running {
  constructor(
    readonly server: Server,
    private readonly process: ChildProcess,
    private readonly exited: Promise<unknown>,
  ) {}

  async ready(): Promise<void> {
    const deadline = Date.now() + 60_000;
    for (;;) {
      if (this.process.exitCode !== null) break;
      const answer = await fetch(`${this.server.url}/readyz`).catch(() => undefined);
      if (answer?.ok) return;
      if (Date.now() > deadline) break;
      await pause(50);
    }
    throw new Error(`${binary} did not become ready:\n${readFileSync(this.server.log, "utf8").slice(-4_000)}`);
  }

  async stop(): Promise<void> {
    if (this.process.exitCode === null) this.process.kill("SIGTERM");
    await this.exited;
    rmSync(this.server.dataDir, { recursive: true, force: true });
  }
}

/** 32 bytes in base64, written down. */
function secret(what: string): string {
  const value = randomBytes(32).toString("base64");
  note({ kind: "token", what, value });
  return value;
}

async function start(environment: Record<string, string>, smtpPort: number, collector: string): Promise<Running> {
  // Not below the checkout: started by root, PostgreSQL runs as another user, who must get through every folder above.
  const dataDir = mkdtempSync("/tmp/latchkey-e2e-");
  chmodSync(dataDir, 0o711);
  const [port, opsPort] = [await freePort(), await freePort()];
  const password = secret("mail server's password");
  const secrets = {
    WALLET_ENCRYPTION_KEY: secret("encryption key"),
    WALLET_ENCRYPTION_KEY_PREVIOUS: secret("previous encryption key"),
    EMAIL_SMTP: `smtp://latchkey:${encodeURIComponent(password)}@127.0.0.1:${smtpPort}`,
  };
  note({ kind: "secret", what: "mail server's password", value: password });
  const ops = `http://localhost:${opsPort}`;
  const server = { url: `http://localhost:${port}`, ops, secrets, dataDir, log: join(dataDir, "latchkey.log") };
  const log = openSync(server.log, "w");
  const child = spawn(binary, ["serve"], {
    cwd: dataDir,
    stdio: ["ignore", log, log],
    // Nothing of the tester's own settings may reach the server.
    env: {
      PATH: process.env["PATH"] ?? "",
      APP_ENV: "development",
      DATA_DIR: dataDir,
      LISTEN_ADDR: `127.0.0.1:${port}`,
      OPS_LISTEN_ADDR: `127.0.0.1:${opsPort}`,
      BASE_URL: server.url,
      ...secrets,
      SIGNUP: "open",
      LOG_FORMAT: "json",
      RUST_LOG: "trace",
      OTEL_EXPORTER_OTLP_ENDPOINT: collector,
      ...environment,
    },
  });
  closeSync(log);
  const exited = once(child, "exit");
  await once(child, "spawn");
  return new Running(server, child, exited);
}

/** Starts all servers and leaves word of them for the workers. What it returns stops them. */
export async function startFleet(smtpPort: number, collector: string): Promise<() => Promise<void>> {
  const names = Object.keys(SERVERS) as ServerName[];
  const running = await Promise.all(names.map((name) => start(SERVERS[name], smtpPort, collector)));
  const stop = async () => {
    await Promise.all(running.map((server) => server.stop()));
  };
  try {
    await Promise.all(running.map((server) => server.ready()));
  } catch (error) {
    await stop();
    throw error;
  }
  process.env[FLEET] = JSON.stringify(Object.fromEntries(running.map(({ server }, n) => [names[n], server])));
  return stop;
}

const run = promisify(execFile);

function connection({ dataDir }: Server): string[] {
  return ["-h", join(dataDir, "postgres/run"), "-p", "5432", "-U", "latchkey", "-d", "latchkey"];
}

/** What `sql` answers, unaligned. `variables` are quoted by psql: `:'name'`. */
export async function sql(server: Server, statement: string, variables: Record<string, string> = {}): Promise<string> {
  const set = Object.entries(variables).flatMap(([name, value]) => ["-v", `${name}=${value}`]);
  // psql replaces variables in what it reads from a file, and not in `-c`.
  const psql = run("psql", ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", ...set, ...connection(server), "-f", "-"]);
  psql.child.stdin?.end(statement);
  return (await psql).stdout.trim();
}

export async function dump(server: Server): Promise<string> {
  return (await run("pg_dump", connection(server), { maxBuffer: 1 << 30 })).stdout;
}

/** Runs a command of the binary beside a running server, as its operator does. */
export async function latchkey({ dataDir, url, secrets }: Server, ...args: string[]): Promise<string> {
  const env = { PATH: process.env["PATH"] ?? "", APP_ENV: "development", DATA_DIR: dataDir, BASE_URL: url, ...secrets };
  return (await run(binary, args, { cwd: dataDir, env, maxBuffer: 1 << 30 })).stdout.trim();
}

/** Minutes pass for an account's codes and for what it has proven: used steps are past, and sessions have to step up. */
export async function letFactorsAge(server: Server, address: string): Promise<void> {
  const user = "(select id from users where email_key = :'address')";
  await sql(
    server,
    `update totp_credentials set last_step = last_step - 100 where user_id = ${user};
     update sessions set verified_at = verified_at - interval '11 minutes' where user_id = ${user};`,
    { address },
  );
}

/** Three days pass for an account's apps: taking a change of address back asks for such ones. */
export async function letAppsAge(server: Server, address: string): Promise<void> {
  await sql(
    server,
    `update totp_credentials set confirmed_at = confirmed_at - interval '72 hours'
     where user_id = (select id from users where email_key = :'address')`,
    { address },
  );
}

/** Eleven minutes pass for the mails of one address: one more than link and code live. */
export async function letMailsExpire(server: Server, address: string): Promise<void> {
  const shift = "interval '11 minutes'";
  const changed = await sql(
    server,
    `with changed as (
       update magic_links set created_at = created_at - ${shift}, expires_at = expires_at - ${shift}
       where email_key = :'address' returning 1
     ) select count(*) from changed`,
    { address },
  );
  if (changed === "0") throw new Error(`no mail to ${address} to let expire`);
}

/** So much time passes for the links in an account's mails that take something back. */
export async function letUndoLinksAge(server: Server, address: string, age: "72 hours" | "7 days"): Promise<void> {
  const changed = await sql(
    server,
    `with changed as (
       update undo_links set created_at = created_at - :'age'::interval, expires_at = expires_at - :'age'::interval
       where email_key = :'address' returning 1
     ) select count(*) from changed`,
    { address, age },
  );
  if (changed === "0") throw new Error(`no link in a mail to ${address} to let age`);
}

/** Runs `work` while no other test, in whichever worker, does so on this server. For what there is only one of. */
export async function alone(server: Server, work: () => Promise<void>): Promise<void> {
  const lock = join(server.dataDir, "alone");
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch {
      await pause(100);
    }
  }
  try {
    await work();
  } finally {
    rmSync(lock, { recursive: true });
  }
}
