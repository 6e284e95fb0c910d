// After everything else: no secret of the whole run stands in a database, a log, a metric or a trace, and no address but in the database.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { traces } from "../support/collector.ts";
import { type Seen, isWhole, noted } from "../support/seen.ts";
import { SERVERS, type Server, type ServerName, dump, fleet, latchkey } from "../support/servers.ts";
import { expect, test } from "../support/test.ts";

/** The base64 of `bytes` wherever it may begin in a longer run: without the characters that its neighbours share in. */
function base64(bytes: Buffer): string[] {
  return [0, 1, 2].map((shift) => {
    const shifted = Buffer.concat([Buffer.alloc(shift), bytes]);
    const begin = Math.ceil((shift * 8) / 6);
    const end = Math.floor((shifted.length * 8) / 6);
    return shifted.toString("base64").slice(begin, end);
  });
}

const urlSafe = (text: string) => text.replaceAll("+", "-").replaceAll("/", "_");

/** Every byte of it as `%xx`, the most anything could do to it in a URL. */
const percent = (text: string) => [...Buffer.from(text)].map((byte) => `%${byte.toString(16)}`).join("");

/** How a text could stand somewhere. */
function spellings(text: string): string[] {
  const bytes = Buffer.from(text);
  return [text, encodeURIComponent(text), percent(text), bytes.toString("hex"), ...base64(bytes), ...base64(bytes).map(urlSafe)];
}

/** How a random value could stand somewhere: by its text, or by the bytes that the text stands for. */
function spellingsOfRandom(text: string): string[] {
  const bytes = Buffer.from(text, "base64url");
  const listed = [...bytes].join(", ");
  // `tower-sessions` holds an id as a number, and prints it so.
  const number = bytes.length === 16 ? [(bytes.readBigInt64LE(8) << 64n) | bytes.readBigUInt64LE(0)].map(String) : [];
  return [...spellings(text), bytes.toString("hex"), ...base64(bytes), ...base64(bytes).map(urlSafe), listed, ...number];
}

const KEY = 8;

/** Which of `seen` stand in `text`. One walk through it: a log at `trace` is long, and so is the list. */
function found(text: string, seen: Seen[]): Seen[] {
  const byKey = new Map<string, { spelling: string; seen: Seen }[]>();
  const codes = new Map<string, Seen>();
  for (const one of seen) {
    if (one.kind === "code") codes.set(one.value, one);
    for (const spelling of spellingsOf(one)) {
      const key = spelling.slice(0, KEY);
      byKey.set(key, [...(byKey.get(key) ?? []), { spelling, seen: one }]);
    }
  }
  const hits = new Set<Seen>();
  const lower = text.toLowerCase();
  for (let at = 0; at + KEY <= lower.length; at++) {
    const candidates = byKey.get(lower.slice(at, at + KEY));
    for (const { spelling, seen: one } of candidates ?? []) if (lower.startsWith(spelling, at)) hits.add(one);
  }
  // Six digits occur by chance in longer numbers and in hashes, but hardly ever as a word of their own.
  for (const [word] of text.matchAll(/(?<![\w.\\+-])\d{3}(?: |-|\+|%20)?\d{3}(?![\w.])/g)) {
    const code = codes.get(word.replace("%20", "").replace(/\D/g, ""));
    if (code) hits.add(code);
  }
  return [...hits];
}

function spellingsOf({ kind, value }: Seen): string[] {
  const all =
    kind === "code"
      ? // The digits themselves are looked for as a word.
        [value, `${value.slice(0, 3)} ${value.slice(3)}`].flatMap((code) => spellings(code).filter((s) => !/^[\d %]{6,9}$/.test(s)))
      : kind === "address" || kind === "secret"
        ? spellings(value)
        : spellingsOfRandom(value);
  return all.map((spelling) => spelling.toLowerCase()).filter((spelling) => spelling.length >= KEY);
}

/** The whole log up to now: what was logged before an answer stands before that answer's own line. */
async function wholeLog({ url, log }: Server): Promise<string> {
  const id = (await fetch(`${url}/login`)).headers.get("x-request-id") ?? "no id";
  await expect.poll(() => readFileSync(log, "utf8").includes(id), { message: "the log has caught up" }).toBe(true);
  return readFileSync(log, "utf8");
}

/**
 * Who stands in a log at `trace`, and down to which level: so nothing on the way was held back. No line comes from hyper and lettre,
 * which are built without, and sqlx has none below its statements'.
 */
const CHATTY = [
  ["INFO", "server::http::middleware::access_log"],
  ["DEBUG", "sqlx::query"],
  ["TRACE", "tower_sessions"],
] as const;

const secrets = () => noted().filter(({ kind }) => kind !== "address");

/** Every secret that a person, their browser or an operator holds. Those of other programs: `server/tests/it/processes/secrets.rs`. */
const WHATS = [
  ...["/login/verify", "/invite", "/undo", "mailed code"],
  ...["__Host-latchkey", "__Host-latchkey-link", "__Host-latchkey-known", "__Host-latchkey-device"],
  ...["authenticator's key", "authenticator's code", "backup code", "API key"],
  ...["encryption key", "previous encryption key", "mail server's password"],
];

test("the run has written down what to look for", () => {
  test.skip(!isWhole(), "some of the tests bring up some of the secrets");
  expect([...new Set(secrets().map(({ what }) => what))]).toEqual(expect.arrayContaining(WHATS));
});

test("a secret that is there would be found, however it is spelled", () => {
  const token = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";
  const bytes = Buffer.from(token, "base64url");
  for (const text of [token, bytes.toString("hex"), bytes.toString("base64"), Buffer.from(`x${token}`).toString("base64"), percent(token), [...bytes].join(", ")]) {
    expect(found(`before ${text} after`, [{ kind: "token", what: "a token", value: token }]), text).toHaveLength(1);
  }
  for (const text of ["482931", "482 931", "code=482931&", "482%20931", Buffer.from("482931").toString("base64"), percent("482931")]) {
    expect(found(`before ${text} after`, [{ kind: "code", what: "a code", value: "482931" }]), text).toHaveLength(1);
  }
  for (const text of ["05:47:31.482931Z", "1482931", "a482931f"]) {
    expect(found(text, [{ kind: "code", what: "a code", value: "482931" }]), text).toHaveLength(0);
  }
  expect(found("to=Mara%40example.org", [{ kind: "address", what: "an address", value: "mara@example.org" }])).toHaveLength(1);
});

test("no secret of the run is an argument of a process", () => {
  const lines = readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch {
        // It ended meanwhile.
        return "";
      }
    });
  expect(lines.some((line) => line.includes("latchkey serve"))).toBe(true);
  expect(found(lines.join("\n"), secrets())).toEqual([]);
});

test("a secret in the address of a page that fails is not in the answer", async () => {
  const { url } = fleet().main;
  for (const { value } of noted().filter(({ kind }) => kind === "token").slice(0, 20)) {
    const secret = encodeURIComponent(value);
    for (const [path, method] of [
      [`/no-such-page/${secret}?token=${secret}`, "GET"],
      [`/login/verify?token=${secret}x`, "GET"],
      [`/admin/users/${secret}`, "GET"],
      [`/login?next=${secret}`, "PATCH"],
      [`/help/${secret}`, "GET"],
    ] as const) {
      const answer = await fetch(url + path, { method, redirect: "manual" });
      // Where a page is that asks for a sign-in first, the way back to it goes along; a link's token goes into a cookie.
      const headers = [...answer.headers].filter(([name]) => name !== "set-cookie" && name !== "location");
      const text = (await answer.text()) + JSON.stringify(headers);
      expect(found(text, [{ kind: "token", what: "a token", value }]), `${method} ${path.replace(secret, "…")}`).toEqual([]);
    }
  }
});

test("no secret and no address of the run stands in the traces", async () => {
  // They are sent every five seconds, in the order in which they end.
  for (const { url } of Object.values(fleet())) {
    const id = (await fetch(`${url}/login`)).headers.get("x-request-id") ?? "no id";
    await expect.poll(() => traces().includes(id), { message: "the last span has come", timeout: 30_000 }).toBe(true);
  }
  expect(found(traces(), noted())).toEqual([]);
});

for (const name of Object.keys(SERVERS) as ServerName[]) {
  test(`no secret of the run stands in the database of the server "${name}"`, async () => {
    const text = await dump(fleet()[name]);
    expect(text).toContain("COPY public.magic_links");
    expect(found(text, secrets())).toEqual([]);
  });

  test(`no secret and no address of the run stands in the metrics of the server "${name}"`, async () => {
    const text = await (await fetch(`${fleet()[name].ops}/metrics`)).text();
    expect(text).toContain("auth_magiclink_requests_total{");
    expect(found(text, noted())).toEqual([]);
  });

  test(`no secret and no address of the run stands in the exports of the audit of the server "${name}"`, async () => {
    for (const format of ["jsonl", "csv"]) {
      const text = await latchkey(fleet()[name], "audit", "export", "--format", format);
      // By the second: that the first was taken.
      if (format === "csv") expect(text).toContain(",audit.exported,");
      expect(found(text, noted())).toEqual([]);
    }
  });

  test(`no secret and no address of the run stands in the logs of the server "${name}"`, async () => {
    const server = fleet()[name];
    const log = await wholeLog(server);
    const lines = log.split("\n").filter((line) => line.startsWith("{"));
    const parsed = lines.map((line) => JSON.parse(line) as { level: string; target: string });
    for (const [level, target] of CHATTY) {
      expect(parsed.some((line) => line.level === level && line.target.startsWith(target)), `${level} of ${target}`).toBe(true);
    }
    expect(log, "the log is whole").not.toContain("log lines were dropped");
    expect(found(log, noted())).toEqual([]);
    expect(found(readFileSync(join(server.dataDir, "postgres/postgres.log"), "utf8"), noted())).toEqual([]);
  });
}
