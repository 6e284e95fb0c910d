// An authenticator app, written from RFC 6238 and nothing of ours.

import { createHmac } from "node:crypto";

import jsQR from "jsqr";
import { PNG } from "pngjs";

import { note } from "./seen.ts";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

export function base32(text: string): Buffer {
  const bits = [...text].map((letter) => ALPHABET.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const bytes = bits.match(/.{8}/g) ?? [];
  return Buffer.from(bytes.map((byte) => Number.parseInt(byte, 2)));
}

export class Authenticator {
  constructor(readonly secret: string) {
    note({ kind: "secret", what: "authenticator's key", value: secret });
    note({ kind: "secret", what: "authenticator's key", value: base32(secret).toString("hex") });
  }

  /** What the app shows now. */
  code(): string {
    const step = Math.floor(Date.now() / 30_000);
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(step));
    const mac = createHmac("sha1", base32(this.secret)).update(counter).digest();
    const offset = (mac.at(-1) ?? 0) & 15;
    const code = String((mac.readUInt32BE(offset) & 0x7fff_ffff) % 1_000_000).padStart(6, "0");
    note({ kind: "code", what: "authenticator's code", value: code });
    return code;
  }

  /** Six digits that it shows neither now nor in the minutes around. */
  wrongCode(): string {
    return String((Number(this.code()) + 500_001) % 1_000_000).padStart(6, "0");
  }
}

/** What a phone's camera reads in a picture, if it reads anything. */
export function scan(picture: Buffer): URL | undefined {
  const { data, width, height } = PNG.sync.read(picture);
  const code = jsQR(new Uint8ClampedArray(data), width, height);
  return code ? new URL(code.data) : undefined;
}
