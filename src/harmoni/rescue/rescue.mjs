#!/usr/bin/env node
// Open packs of a HARMONI archive without HARMONI.
const HELP = `Open packs of a HARMONI archive without HARMONI.

Needs Node.js 18 or newer and nothing else. rescue.py beside this file does the same with Python.

  With the recovery identity of the hospital, a text file with AGE-SECRET-KEY-PQ-1… in it:
    node rescue.mjs --identity FILE --keys keys/HOSPITAL --out DIR PACK.tar …

  With what one site has, its custody key of 32 bytes and custody/HOSPITAL.SITE.identity:
    node rescue.mjs --custody-key FILE --wrapped-identity FILE --keys keys/HOSPITAL --out DIR PACK.tar …

  To see first that this program still judges the examples as it should:
    node rescue.mjs --check vectors

--keys is the folder with epochs/ and the key blocks; if there are several copies of a file below
it, the first that can be used is. A PACK may be a folder: then it means every *.tar below it.

Every instance becomes DIR/<pack id>-<number>.dcm, every event DIR/<pack id>-<number>.json. A file
is there only if every byte of it was authenticated and, where the pack is sealed, has the hash that
the manifest says. One line is printed for each. Exit codes: 0 everything is whole; 1 something is
damaged or its key is gone, and all the rest was written; 2 nothing was tried.
`;

// (K1) and (P1) are sections of keys-format.md and pack-format.md, the two pages beside this file.
// Nothing is read but what is named, nothing is written but files in DIR (--check: in a temporary
// folder). Errors are of two kinds: damaged, and no key.

import {
  createDecipheriv, createHash, createHmac, createPrivateKey, createPublicKey, diffieHellman,
  hkdfSync, timingSafeEqual,
} from "node:crypto";
import {
  closeSync, fstatSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, readSync,
  renameSync, rmSync, statSync, writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { parseArgs } from "node:util";

/** Something is there, and is not what was written. */
class Damaged extends Error {}
/** Something is of a version or suite that came after this program, or before it. */
class Unknown extends Damaged {}
/** A key is not here: erased, missing, or not for this identity. */
class NotHeld extends Error {}

// ── Small things ────────────────────────────────────────────────────────────────────────────────

const bytes = (...values) => Buffer.from(values);
const mac = (key, ...parts) => createHmac("sha256", key).update(Buffer.concat(parts)).digest();
const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const hkdf = (key, salt, info) => Buffer.from(hkdfSync("sha256", key, salt, info, 32));
const shake = (name, size, ...parts) =>
  createHash(name, { outputLength: size }).update(Buffer.concat(parts)).digest();
const text = (value) => Buffer.from(value, "latin1");
const number = (value) => Number.isSafeInteger(value) && value >= 0;

/** Strings, each after its length in two bytes (K4, P4). */
const prefixed = (...words) =>
  Buffer.concat(words.flatMap((word) => [bytes(word.length >> 8, word.length & 255), text(word)]));

/** An error, unless something holds. */
function require(holds, what) {
  if (!holds) throw new Damaged(what);
}

/** What a cipher with a tag at the end opens, or undefined if the tag fails. */
function decrypt(cipher, key, nonce, sealed, associated) {
  if (sealed.length < 16) return undefined;
  const decipher = createDecipheriv(cipher, key, nonce, { authTagLength: 16 });
  if (associated) decipher.setAAD(associated);
  decipher.setAuthTag(sealed.subarray(-16));
  const plain = decipher.update(sealed.subarray(0, -16));
  try {
    return Buffer.concat([plain, decipher.final()]);
  } catch {
    return undefined;
  }
}
const openGcm = (key, nonce, sealed, bound) => decrypt("aes-256-gcm", key, nonce, sealed, bound);
const openChaCha = (key, nonce, sealed) => decrypt("chacha20-poly1305", key, nonce, sealed);

/** Base64, with padding (P9) or without (K2); of so many bytes. */
function unbase64(value, size) {
  if (typeof value !== "string" || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) throw new TypeError();
  const data = Buffer.from(value, "base64");
  if (data.length !== size) throw new TypeError();
  return data;
}

/** A SHA-256 in hexadecimal. */
function unhex(value) {
  if (!/^[0-9a-f]{64}$/.test(value)) throw new TypeError();
  return Buffer.from(value, "hex");
}

/** Whatever is missing, or of another kind than it must be, is damage. */
function reading(what, act) {
  try {
    return act();
  } catch (error) {
    if (error instanceof Damaged || error instanceof NotHeld) throw error;
    throw new Damaged(`${what} is damaged`);
  }
}

/** A JSON object of version 1 (P9) with these fields. */
const parse = (data, what, same = {}) =>
  reading(what, () => {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
    if (!number(value.version)) throw new TypeError();
    known(what, "version", value.version, 1);
    if ("suite" in same) known(what, "suite", value.suite, same.suite);
    if (Object.keys(same).some((name) => value[name] !== same[name])) throw new TypeError();
    return value;
  });

/** Refuse another version or suite than the one that is known here. */
function known(what, name, found, ours) {
  if (found !== ours) {
    throw new Unknown(`${what} has ${name} ${found}, and this program knows ${ours} alone`);
  }
}

/** A small file; one that its disk does not give is damaged, and there may be another copy. */
function content(path) {
  try {
    return readFileSync(path);
  } catch (error) {
    if (!error.syscall) throw error;
    throw new Damaged(`${path} cannot be read`);
  }
}

/** What the first copy gives that can be used; otherwise why the last one cannot. */
function first(copies, use, what) {
  let trouble = new NotHeld(`${what} is missing`);
  for (const copy of copies) {
    try {
      return use(copy);
    } catch (error) {
      if (!(error instanceof Damaged || error instanceof NotHeld)) throw error;
      trouble = error;
    }
  }
  throw trouble;
}

/** Every file below a folder, in one order on every machine. */
function filesBelow(folder, suffix) {
  let found = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found = found.concat(filesBelow(path, suffix));
    else if (path.endsWith(suffix) && statSync(path, { throwIfNoEntry: false })?.isFile()) {
      found.push(path);
    }
  }
  return found.sort();
}

// ── ML-KEM-768 (FIPS 203) ───────────────────────────────────────────────────────────────────────
// Numbers of algorithms and sections are those of FIPS 203. A polynomial is an array of 256
// numbers below Q; "ntt" in a name says that it is in the other domain.

const Q = 3329;
const K = 3;
const modQ = (value) => ((value % Q) + Q) % Q;

/** 17 to the power of the 7-bit reversal of i, modulo Q (4.3). */
const ZETAS = Array.from({ length: 128 }, (_, i) => {
  let power = 1;
  for (let bit = 0; bit < 7; bit++) {
    power = (power * power) % Q;
    if ((i >> bit) & 1) power = (power * 17) % Q;
  }
  return power;
});

const add = (a, b) => a.map((value, i) => (value + b[i]) % Q);
const subtract = (a, b) => a.map((value, i) => modQ(value - b[i]));
const sum = (polynomials) => polynomials.reduce(add);

/** Algorithm 9. */
function ntt(polynomial) {
  const f = [...polynomial];
  for (let length = 128, i = 1; length >= 2; length /= 2) {
    for (let start = 0; start < 256; start += 2 * length) {
      const zeta = ZETAS[i++];
      for (let j = start; j < start + length; j++) {
        const t = (zeta * f[j + length]) % Q;
        f[j + length] = modQ(f[j] - t);
        f[j] = (f[j] + t) % Q;
      }
    }
  }
  return f;
}

/** Algorithm 10. */
function inverseNtt(polynomial) {
  const f = [...polynomial];
  for (let length = 2, i = 127; length <= 128; length *= 2) {
    for (let start = 0; start < 256; start += 2 * length) {
      const zeta = ZETAS[i--];
      for (let j = start; j < start + length; j++) {
        const t = f[j];
        f[j] = (t + f[j + length]) % Q;
        f[j + length] = (zeta * modQ(f[j + length] - t)) % Q;
      }
    }
  }
  return f.map((value) => (value * 3303) % Q);
}

/** Algorithms 11 and 12. */
function multiply(f, g) {
  const h = new Array(256);
  for (let i = 0; i < 128; i++) {
    const [a0, a1, b0, b1] = [f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]];
    const gamma = (ZETAS[i] * ((ZETAS[i] * 17) % Q)) % Q; // 17 to the 2 BitRev7(i) + 1
    h[2 * i] = (a0 * b0 + ((a1 * b1) % Q) * gamma) % Q;
    h[2 * i + 1] = (a0 * b1 + a1 * b0) % Q;
  }
  return h;
}
const dot = (a, b) => sum(a.map((f, i) => multiply(f, b[i])));

/** Algorithms 5 and 6: integers of so many bits, the lowest bit first. */
function encode(values, width) {
  const out = Buffer.alloc((values.length * width) / 8);
  for (let i = 0; i < values.length * width; i++) {
    out[i >> 3] |= ((values[Math.floor(i / width)] >> i % width) & 1) << (i & 7);
  }
  return out;
}
function decode(data, width) {
  const values = new Array((data.length * 8) / width).fill(0);
  for (let i = 0; i < data.length * 8; i++) {
    values[Math.floor(i / width)] |= ((data[i >> 3] >> (i & 7)) & 1) << i % width;
  }
  return values;
}

/** 4.2.1. */
const compress = (f, width) =>
  f.map((value) => Math.floor((value * 2 ** width + 1664) / Q) % 2 ** width);
const decompress = (f, width) =>
  f.map((value) => Math.floor((value * Q + 2 ** (width - 1)) / 2 ** width));

/** Algorithm 7: a polynomial in the other domain out of a seed and its place in the matrix. */
function sampleNtt(rho, column, row) {
  const stream = shake("shake128", 168 * 12, rho, bytes(column, row));
  const values = [];
  for (let i = 0; values.length < 256; i += 3) {
    const low = stream[i] | ((stream[i + 1] & 15) << 8);
    const high = (stream[i + 1] >> 4) | (stream[i + 2] << 4);
    values.push(...[low, high].filter((value) => value < Q));
  }
  return values.slice(0, 256);
}

/** Algorithm 8, with eta = 2: small numbers out of a seed and a counter. */
function sampleSmall(seed, counter) {
  const bits = decode(shake("shake256", 128, seed, bytes(counter)), 1);
  return Array.from({ length: 256 }, (_, i) =>
    modQ(bits[4 * i] + bits[4 * i + 1] - bits[4 * i + 2] - bits[4 * i + 3]),
  );
}

const range = [0, 1, 2]; // K of them
const rows = (data, size) => range.map((i) => data.subarray(i * size, (i + 1) * size));
const sha3_512 = (...parts) => createHash("sha3-512").update(Buffer.concat(parts)).digest();
const sha3_256 = (...parts) => createHash("sha3-256").update(Buffer.concat(parts)).digest();

/** The keys of a seed d | z: algorithms 13 and 16. */
function mlkemKeys(seed) {
  const expanded = sha3_512(seed.subarray(0, 32), bytes(K));
  const [rho, sigma] = [expanded.subarray(0, 32), expanded.subarray(32)];
  const matrix = range.map((i) => range.map((j) => sampleNtt(rho, j, i)));
  const secretNtt = range.map((i) => ntt(sampleSmall(sigma, i)));
  const publicNtt = range.map((i) =>
    add(dot(matrix[i], secretNtt), ntt(sampleSmall(sigma, K + i))),
  );
  const encoded = Buffer.concat([...publicNtt.map((f) => encode(f, 12)), rho]);
  return { matrix, secretNtt, publicNtt, hash: sha3_256(encoded), z: seed.subarray(32) };
}

/** Algorithm 14. */
function mlkemEncrypt(keys, message, coins) {
  const y = range.map((i) => ntt(sampleSmall(coins, i)));
  const u = range.map((i) => {
    const column = keys.matrix.map((row) => row[i]);
    return add(inverseNtt(dot(column, y)), sampleSmall(coins, K + i));
  });
  const noisy = add(inverseNtt(dot(keys.publicNtt, y)), sampleSmall(coins, 2 * K));
  const v = add(noisy, decompress(decode(message, 1), 1));
  return Buffer.concat([...u.map((f) => encode(compress(f, 10), 10)), encode(compress(v, 4), 4)]);
}

/** Algorithms 15 and 18: the shared secret in a ciphertext of 1,088 bytes. */
function mlkemDecapsulate(keys, ciphertext) {
  const u = rows(ciphertext, 320).map((data) => ntt(decompress(decode(data, 10), 10)));
  const v = decompress(decode(ciphertext.subarray(960), 4), 4);
  const message = encode(compress(subtract(v, inverseNtt(dot(keys.secretNtt, u))), 1), 1);
  const shared = sha3_512(message, keys.hash);
  const again = mlkemEncrypt(keys, message, shared.subarray(32));
  if (again.equals(ciphertext)) return shared.subarray(0, 32);
  return shake("shake256", 32, keys.z, ciphertext);
}

// ── Identity (K1) ───────────────────────────────────────────────────────────────────────────────

const BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const X25519_PRIVATE = Buffer.from("302e020100300506032b656e04220420", "hex"); // PKCS #8, RFC 8410
const X25519_PUBLIC = Buffer.from("302a300506032b656e032100", "hex"); // SubjectPublicKeyInfo

/** The private keys of the identity that stands somewhere in a text. */
function readIdentity(file) {
  const found = /AGE-SECRET-KEY-PQ-1([02-9AC-HJ-NP-Z]{58})(?![0-9A-Z])/.exec(file);
  if (!found) {
    throw new NotHeld("there is no AGE-SECRET-KEY-PQ-1… of 77 characters in the identity file");
  }
  const prefix = [...text("age-secret-key-pq-")];
  const groups = [...found[1].toLowerCase()].map((character) => BECH32.indexOf(character));
  if (polymod([...prefix.map((c) => c >> 5), 0, ...prefix.map((c) => c & 31), ...groups]) !== 1) {
    throw new NotHeld("a character of AGE-SECRET-KEY-PQ-1… is wrong: its checksum differs");
  }
  // Of 58 groups of five bits the last six are the checksum; the others are 32 bytes, 0000.
  const bits = groups.slice(0, 52).map((group) => group.toString(2).padStart(5, "0")).join("");
  const seed = Buffer.from(bits.slice(0, 256).match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const keys = shake("shake256", 96, seed);
  const der = Buffer.concat([X25519_PRIVATE, keys.subarray(64)]);
  const x25519 = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const spki = createPublicKey(x25519).export({ format: "der", type: "spki" });
  return { mlkem: mlkemKeys(keys.subarray(0, 64)), x25519, x25519Public: spki.subarray(-32) };
}

/** The remainder of BIP 173; 1 for a text without a mistake. */
function polymod(groups) {
  const terms = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
  return groups.reduce((remainder, group) => {
    const top = remainder >>> 25;
    const next = ((remainder & 0x1ffffff) << 5) ^ group;
    return terms.reduce((value, term, bit) => ((top >> bit) & 1 ? value ^ term : value), next);
  }, 1);
}

/** The identity of a site: AES key wrap with padding (RFC 5649). */
function unwrapIdentity(custodyKey, wrapped) {
  try {
    const start = bytes(0xa6, 0x59, 0x59, 0xa6);
    const decipher = createDecipheriv("id-aes256-wrap-pad", custodyKey, start);
    const opened = Buffer.concat([decipher.update(wrapped), decipher.final()]);
    return readIdentity(opened.toString("latin1"));
  } catch {
    throw new NotHeld("the wrapped identity does not open with this custody key");
  }
}

// ── age files (K2) ──────────────────────────────────────────────────────────────────────────────

const AGE = /^(age-encryption\.org\/v1\n(?:-> .+\n(?:[\w+/]{64}\n)*[\w+/]{0,63}\n)+---) (.{43})\n/;
const STANZA = /-> mlkem768x25519 (.{1494})\n(.{43})\n/g;
const HPKE = Buffer.concat([text("HPKE-v1HPKE"), bytes(0x64, 0x7a, 0, 1, 0, 3)]);
const CHUNK = 65536 + 16;

/** The content of an age file. */
function openAge(data, identity) {
  const header = AGE.exec(data.toString("latin1"));
  require(header, "an age file is damaged: it has no header");
  const [stanzas, headerMac] = reading("an age file", () => [
    [...header[1].matchAll(STANZA)].map((stanza) => [
      unbase64(stanza[1], 1120),
      unbase64(stanza[2], 32),
    ]),
    unbase64(header[2], 32),
  ]);
  let fileKey;
  for (const [encapsulated, body] of stanzas) {
    fileKey ??= openStanza(encapsulated, body, identity);
  }
  if (!fileKey) throw new NotHeld("an age file is not addressed to this identity");
  const ours = mac(hkdf(fileKey, "", "header"), text(header[1]));
  require(timingSafeEqual(ours, headerMac), "the header of an age file fails authentication");
  const rest = data.subarray(header[0].length);
  const [nonce, payload] = [rest.subarray(0, 16), rest.subarray(16)];
  const key = hkdf(fileKey, nonce, "payload");
  const last = Math.floor(Math.max(0, payload.length - 1) / CHUNK);
  const chunks = [];
  for (let i = 0; i <= last; i++) {
    const place = Buffer.alloc(12);
    place.writeUInt32BE(i, 7);
    place[11] = i === last ? 1 : 0;
    const chunk = openChaCha(key, place, payload.subarray(i * CHUNK, (i + 1) * CHUNK));
    require(chunk, "the content of an age file fails authentication");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The file key, or undefined if the stanza is for somebody else: HPKE, mode base, with X-Wing. */
function openStanza(encapsulated, body, identity) {
  const theirs = encapsulated.subarray(1088);
  let shared;
  try {
    const der = Buffer.concat([X25519_PUBLIC, theirs]);
    const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
    shared = diffieHellman({ privateKey: identity.x25519, publicKey });
  } catch {
    return undefined; // a point of small order
  }
  const secret = sha3_256(
    mlkemDecapsulate(identity.mlkem, encapsulated.subarray(0, 1088)),
    shared,
    theirs,
    identity.x25519Public,
    bytes(0x5c, 0x2e, 0x2f, 0x2f, 0x5e, 0x5c),
  );
  // The key schedule of RFC 9180 5.1.
  const info = mac("", HPKE, text("info_hash"), text("age-encryption.org/mlkem768x25519"));
  const context = Buffer.concat([bytes(0), mac("", HPKE, text("psk_id_hash")), info]);
  const schedule = mac(secret, HPKE, text("secret"));
  const key = mac(schedule, bytes(0, 32), HPKE, text("key"), context, bytes(1));
  const nonce = mac(schedule, bytes(0, 12), HPKE, text("base_nonce"), context, bytes(1));
  return openChaCha(key, nonce.subarray(0, 12), body);
}

// ── Epoch keys (K3) and key blocks (K4) ─────────────────────────────────────────────────────────

/** An epoch key, out of its age file. */
const openEpoch = (data, identity) =>
  parse(openAge(data, identity), "an epoch key", { suite: "aes256-gcm" });

/** The data key in a row of a key block. */
function openRow(block, row, epochKey) {
  const keyId = `${block.block}.${row}`;
  if (!Object.hasOwn(block.rows, row)) throw new NotHeld(`key ${keyId} was erased`);
  const wrapped = reading(`key ${keyId}`, () => unbase64(block.rows[row], 60));
  const bound = prefixed("aes256-gcm", block.hospital, keyId);
  const key = openGcm(epochKey, wrapped.subarray(0, 12), wrapped.subarray(12), bound);
  require(key, `key ${keyId} fails authentication`);
  return key;
}

/** A key block with these fields. */
function parseBlock(data, same = {}) {
  const block = parse(data, "a key block", { suite: "aes256-gcm", ...same });
  const words = [block.hospital, block.site, block.month, block.block];
  const fine =
    words.every((word) => typeof word === "string" && /^[!-~]{1,99}$/.test(word)) &&
    number(block.generation) &&
    block.rows?.constructor === Object;
  require(fine, "a key block is damaged");
  return block;
}

/** Every key that an identity can reach, through files by their names up to the first dot. */
class Keys {
  constructor(identity, paths) {
    this.identity = identity;
    this.paths = paths;
    this.blocks = new Map();
    this.epochs = new Map();
  }

  /** Those of a folder keys/HOSPITAL, if the identity opens an epoch key of it at all. */
  static below(folder, identity) {
    const paths = new Map();
    for (const path of filesBelow(folder, "")) {
      const name = basename(path).split(".")[0];
      paths.set(name, [...(paths.get(name) ?? []), path]);
    }
    const epochs = filesBelow(folder, ".age").filter((p) => basename(dirname(p)) === "epochs");
    for (const path of epochs) {
      try {
        openEpoch(content(path), identity);
        return new Keys(identity, paths);
      } catch (error) {
        if (!(error instanceof Damaged || error instanceof NotHeld)) throw error;
      }
    }
    throw new NotHeld(
      `this identity opens none of the ${epochs.length} files epochs/*.age: it is of another` +
        " hospital or site, or --keys is not the folder of this hospital's keys",
    );
  }

  /** A data key by its id, <block>.<row>. */
  dataKey(keyId) {
    const [name, row] = keyId.split(".");
    if (!this.blocks.has(name)) this.blocks.set(name, this.newest(name));
    const use = (block) => openRow(block, row, this.epochKey(block));
    return first(this.blocks.get(name), use, name);
  }

  /** The copies of a block that can be read, of its highest generation: no other counts. */
  newest(name) {
    const blocks = [];
    let trouble = new NotHeld(`key block ${name} is missing`);
    for (const path of this.paths.get(name) ?? []) {
      try {
        blocks.push(parseBlock(content(path), { block: name }));
      } catch (error) {
        if (!(error instanceof Damaged)) throw error;
        trouble = error;
      }
    }
    if (!blocks.length) throw trouble;
    const highest = Math.max(...blocks.map((block) => block.generation));
    return blocks.filter((block) => block.generation === highest);
  }

  /** The epoch key that a block names. */
  epochKey(block) {
    const name = `${block.site}-${block.month}`;
    const keyOf = (path) => {
      const epoch = openEpoch(content(path), this.identity);
      const same = ["hospital", "site", "month"].every((field) => epoch[field] === block[field]);
      require(same, `epoch key ${name} is damaged`);
      return reading(`epoch key ${name}`, () => unbase64(epoch.key, 32));
    };
    if (!this.epochs.has(name)) {
      this.epochs.set(name, first(this.paths.get(name) ?? [], keyOf, `epoch key ${name}`));
    }
    return this.epochs.get(name);
  }
}

// ── The file of a pack: tar headers (P2), README (P3), footer (P8) ──────────────────────────────

const README = new RegExp(
  "^format: harmoni-pack 1\\nsuite: (?<suite>aes256-gcm-hkdf-sha256-64k)\\n" +
    "kind: (?<kind>instances|events)\\n" +
    "hospital: (?<hospital>[!-~]{1,99})\\nsite: (?<site>[!-~]{1,99})\\n" +
    "pack: (?<pack>[0-9A-HJKMNP-TV-Z]{26})\\nkey: (?<key>[0-9A-Z]{26}\\.[0-9]{1,3})\\n\\n",
);

const OTHER_README = new RegExp(
  "^format: harmoni-pack (?!1\\nsuite: aes256-gcm-hkdf-sha256-64k\\n)([0-9]{1,9})\\n" +
    "suite: ([!-~]{1,99})\\n",
);

/** Where one member lies: its tar header, its body, how long it is, and the next header. */
const place = (name, start, offset, size) => ({
  name, start, offset, size, end: offset + size + ((512 - (size % 512)) % 512),
});
const same = (a, b) =>
  a && a.name === b.name && a.start === b.start && a.offset === b.offset && a.size === b.size;

/** The one valid header of a member. */
function tarHeader(name, size, time, pax = false, kind = "0") {
  if (pax) {
    const record = ` size=${size}\n`;
    let length = record.length + 1;
    while (String(length).length + record.length !== length) length++;
    const body = Buffer.alloc(512);
    body.write(`${length}${record}`);
    const own = tarHeader(name, size < 8 * 2 ** 30 ? size : 0, time);
    return Buffer.concat([tarHeader(`PaxHeaders/${name}`, length, time, false, "x"), body, own]);
  }
  const header = Buffer.alloc(512);
  const octal = (value, digits) => value.toString(8).padStart(digits, "0");
  header.write(name, 0, "latin1");
  header.write("0000400\0" + "0000000\0".repeat(2), 100);
  header.write(`${octal(size, 11)}\0${octal(time, 11)}\0` + " ".repeat(8), 124);
  header.write(kind, 156);
  header.write("ustar\x0000", 257);
  header.write("0000000\0".repeat(2), 329);
  header.write(`${octal(header.reduce((a, b) => a + b), 6)}\0 `, 148);
  return header;
}

/** Reads a pack by offsets; the longest read is a mebibyte. */
class PackFile {
  constructor(descriptor) {
    this.descriptor = descriptor;
    this.size = fstatSync(descriptor).size;
  }

  /** Bytes of the file, fewer at its end. */
  at(offset, size) {
    const from = Math.max(0, offset);
    const room = Buffer.alloc(Math.max(0, Math.min(size, this.size - from)));
    let count = 0;
    while (count < room.length) {
      const more = readSync(this.descriptor, room, count, room.length - count, from + count);
      if (!more) break;
      count += more;
    }
    return room.subarray(0, count);
  }

  /** The SHA-256 of the first so many bytes. */
  sha256(size) {
    const running = createHash("sha256");
    for (let offset = 0; offset < size; offset += 2 ** 20) {
      running.update(this.at(offset, Math.min(2 ** 20, size - offset)));
    }
    return running.digest();
  }

  /** The member whose header begins there, if one does and all of it lies in the file. */
  member(start) {
    const block = this.at(start, 1536);
    if (block.toString("latin1", 257, 265) !== "ustar\x0000") return undefined;
    const pax = block[156] === 0x78;
    const own = pax ? block.subarray(1024) : block;
    const name = own.toString("latin1", 0, 100).replace(/\0+$/, "");
    let size = parseInt(own.toString("latin1", 124, 135), 8);
    const time = parseInt(own.toString("latin1", 136, 147), 8);
    if (pax) size = parseInt(/ size=(\d+)\n/.exec(block.toString("latin1", 512, 1024))?.[1], 10);
    if (!number(size) || !number(time)) return undefined;
    const header = tarHeader(name, size, time, pax);
    const found = place(name, start, start + header.length, size);
    const whole = block.subarray(0, header.length).equals(header) && found.end <= this.size;
    return whole ? found : undefined;
  }

  /** Every member by its header; blocks that are no header are passed over. */
  members() {
    const found = [];
    for (let start = 0; start + 512 <= this.size; ) {
      const member = this.member(start);
      if (member) found.push(member);
      start = member ? member.end : start + 512;
    }
    return found;
  }

  /** Manifest and public.json by the footer, and the SHA-256 of all before it. */
  footer() {
    const missing = "its end is missing or damaged";
    require(this.size >= 2048, missing);
    const body = this.at(this.size - 1536, 1536);
    const magic = body.toString("latin1", 0, 16) === "HARMONI footer\0\0";
    const own = sha256(body.subarray(0, 480)).equals(body.subarray(480, 512));
    if (magic && own) known("the footer", "version", body.readUInt32BE(16), 1);
    const long = (offset) => Number(body.readBigUInt64BE(offset));
    const manifest = place("manifest", long(24) - 512, long(24), long(32));
    const table = place("public.json", manifest.end, long(40), long(48));
    const fine =
      magic &&
      own &&
      body.readUInt32BE(16) === 1 &&
      body.readUInt32BE(20) === 0 &&
      [...body.subarray(88, 480), ...body.subarray(512)].every((byte) => byte === 0) &&
      same(this.member(this.size - 2048), place("footer", table.end, table.end + 512, 512)) &&
      same(this.member(manifest.start), manifest) &&
      same(this.member(table.start), table);
    require(fine, missing);
    return { manifest, table, digest: body.subarray(56, 88) };
  }
}

// ── Members (P4) and the manifest (P6) ──────────────────────────────────────────────────────────

const SEGMENT = 65536;

/** The plaintext of a member, segment by segment, each authenticated before it is given. */
function* openMember(pack, member, key, bound) {
  const count = Math.max(1, Math.ceil(member.size / SEGMENT));
  const head = pack.at(member.offset, 40);
  const last = member.size - (count - 1) * SEGMENT;
  require(last >= (count === 1 ? 56 : 17) && head[0] === 40, "it is no encrypted member");
  const memberKey = hkdf(key, head.subarray(1, 33), bound);
  for (let i = 0; i < count; i++) {
    const start = i ? i * SEGMENT : 40;
    const sealed = pack.at(member.offset + start, Math.min((i + 1) * SEGMENT, member.size) - start);
    const nonce = Buffer.alloc(12);
    head.copy(nonce, 0, 33);
    nonce.writeUInt32BE(i, 7);
    nonce[11] = i === count - 1 ? 1 : 0;
    const piece = openGcm(memberKey, nonce, sealed);
    require(piece, `segment ${i} fails authentication`);
    yield piece;
  }
}

/** The entries of a manifest by the names of their members. */
function readManifest(data, readme) {
  const manifest = parse(data, "the manifest", readme);
  return reading("the manifest", () => {
    const entries = new Map();
    const leaves = [];
    for (const each of manifest.instances) {
      const digest = unhex(each.dataset_sha256);
      const { offset, size, dataset_size: datasetSize } = each;
      if (![each.sequence, offset, size, datasetSize].every(number)) throw new TypeError();
      const name = `i/${String(each.sequence).padStart(8, "0")}`;
      entries.set(name, { offset, size, digest, datasetSize });
      leaves.push(sha256(unbase64(each.salt, 32), Buffer.from(each.sop_instance), digest));
    }
    for (const each of manifest.events) {
      const digest = unhex(each.sha256);
      if (![each.sequence, each.offset, each.size].every(number)) throw new TypeError();
      const name = `e/${String(each.sequence).padStart(8, "0")}.${each.key}`;
      entries.set(name, { offset: each.offset, size: each.size, digest });
      leaves.push(sha256(unbase64(each.salt, 32), Buffer.from(each.kind), digest));
    }
    if (!merkleRoot(leaves).equals(unhex(manifest.root))) throw new TypeError();
    return entries;
  });
}

/** The tree hash of RFC 9162 2.1.1. */
function merkleRoot(leaves) {
  let level = leaves.map((leaf) => sha256(bytes(0), leaf));
  while (level.length > 1) {
    const above = [];
    for (let i = 0; i + 1 < level.length; i += 2) {
      above.push(sha256(bytes(1), level[i], level[i + 1]));
    }
    level = level.length % 2 ? [...above, level.at(-1)] : above;
  }
  return level[0] ?? sha256();
}

// ── The rescue ──────────────────────────────────────────────────────────────────────────────────

const NAME = /^(?<kind>[ie])\/(?<number>[0-9]{8})(\.(?<key>[0-9A-Z]{26}\.[0-9]{1,3}))?$/;

/** Writes what can be opened of one pack after another, and counts what cannot. */
class Rescue {
  written = 0;
  troubles = 0;
  unknown = false;

  constructor(keys, out, say) {
    this.keys = keys;
    this.out = out;
    this.say = say;
  }

  /** Report what is not whole. */
  trouble(where, error) {
    this.troubles++;
    this.unknown ||= error instanceof Unknown;
    const word = error instanceof Damaged ? "DAMAGED" : "NO KEY";
    this.say(`${where} ${error instanceof Unknown ? "UNKNOWN" : word}: ${error.message}`);
  }

  /** Write the members of a pack; whether it is sealed. */
  openPack(path) {
    let descriptor;
    try {
      descriptor = openSync(path, "r");
      return this.#openPack(basename(path), new PackFile(descriptor));
    } catch (error) {
      if (!error.syscall) throw error;
      this.trouble(basename(path), new Damaged("it cannot be read or written to its end"));
      return false;
    } finally {
      if (descriptor !== undefined) closeSync(descriptor);
    }
  }

  #openPack(label, pack) {
    const found = pack.members();
    const byName = new Map(found.map((member) => [member.name, member]));
    let digest;
    try {
      const footer = pack.footer();
      byName.set("manifest", footer.manifest).set("public.json", footer.table);
      digest = footer.digest;
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      if (["manifest", "public.json", "footer"].some((name) => byName.has(name))) {
        this.trouble(label, error);
      }
    }
    const end = this.#gaps(label, found);
    const readme = this.#readme(label, pack, byName);
    if (!readme) return false;
    const entries = this.#manifest(label, pack, byName.get("manifest"), readme);
    const members = found.filter((member) => NAME.test(member.name));
    for (const [name, { offset, size }] of entries ?? []) {
      if (!byName.has(name) && NAME.test(name)) members.push(place(name, 0, offset, size));
    }
    members.sort((a, b) => a.offset - b.offset);
    for (const member of members) this.#rescue(label, pack, member, readme, entries);
    if (digest) {
      if (!pack.sha256(pack.size - 1536).equals(digest)) {
        this.trouble(label, new Damaged("the SHA-256 of the file is not that of its footer"));
      }
    } else if (!entries) {
      this.say(`${label} is not sealed: ${pack.size - end} bytes after its last member`);
    }
    return digest !== undefined;
  }

  /** Report what lies between two members, and give the end of the last. */
  #gaps(label, found) {
    let end = 0;
    for (const member of found) {
      if (member.start !== end) {
        const gap = `there is no member in bytes ${end} to ${member.start}`;
        this.trouble(label, new Damaged(gap));
      }
      end = member.end;
    }
    return end;
  }

  /** Which pack it is and which key opens it; public.json says the same (P7). */
  #readme(label, pack, byName) {
    const [member, table] = [byName.get("README"), byName.get("public.json")];
    const found = README.exec(member ? pack.at(member.offset, member.size).toString("latin1") : "");
    if (found) return { ...found.groups };
    const other = OTHER_README.exec(
      member ? pack.at(member.offset, member.size).toString("latin1") : "",
    );
    const words = other && `it has version ${other[1]} and suite ${other[2]}`;
    const error = other
      ? new Unknown(`${words}, which this program does not know`)
      : new Damaged("it does not say which pack this is");
    this.trouble(`${label} README`, error);
    if (!table) return undefined;
    try {
      const listed = parse(pack.at(table.offset, table.size), "public.json");
      const names = ["suite", "kind", "hospital", "site", "pack", "key"];
      const lines = names.map((name) => `${name}: ${listed[name]}\n`).join("");
      const groups = README.exec(`format: harmoni-pack 1\n${lines}\n`)?.groups;
      return groups && { ...groups };
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      return undefined;
    }
  }

  /** What the manifest says; undefined if there is none that can be read. */
  #manifest(label, pack, member, readme) {
    if (!member) return undefined;
    const { key, ...rest } = readme;
    try {
      const opened = [...this.#plaintext(pack, member, readme, "manifest", 0, key)];
      return readManifest(Buffer.concat(opened), rest);
    } catch (error) {
      if (!(error instanceof Damaged || error instanceof NotHeld)) throw error;
      this.trouble(`${label} manifest`, error);
      return undefined;
    }
  }

  /** The plaintext of a member, which is bound to its pack and its place in it. */
  #plaintext(pack, member, readme, kind, sequence, keyId) {
    const bound = prefixed("1", readme.suite, kind, readme.hospital, readme.pack, String(sequence));
    return openMember(pack, member, this.keys.dataKey(keyId), bound);
  }

  /** Write one member, whole or not at all. */
  #rescue(label, pack, member, readme, entries) {
    const name = NAME.exec(member.name).groups;
    const event = name.kind === "e";
    const keyId = (event && name.key) || readme.key;
    const stem = `${readme.pack}-${name.number}`;
    const target = `${stem}.${event ? "json" : "dcm"}`;
    const part = join(this.out, `${stem}.part`);
    try {
      const kind = event ? "event" : "instance";
      const pieces = this.#plaintext(pack, member, readme, kind, Number(name.number), keyId);
      const size = copy(pieces, part, member, entries);
      renameSync(part, join(this.out, target));
      this.written++;
      const how = entries ? "as in the manifest" : "not sealed";
      this.say(`${label} ${member.name} ok: ${target}, ${size} bytes, ${how}`);
    } catch (error) {
      if (!(error instanceof Damaged || error instanceof NotHeld)) throw error;
      this.trouble(`${label} ${member.name}`, error);
    } finally {
      rmSync(part, { force: true });
    }
  }
}

/** Write a plaintext as it is opened, compare it with the manifest, and give its length. */
function copy(pieces, part, member, entries) {
  const size = member.size - 40 - 16 * Math.max(1, Math.ceil(member.size / SEGMENT));
  const entry = entries?.get(member.name);
  const before = entry?.datasetSize === undefined ? 0 : size - entry.datasetSize;
  const running = createHash("sha256");
  let written = 0;
  const descriptor = openSync(part, "w", 0o600);
  try {
    for (const piece of pieces) {
      for (let at = 0; at < piece.length; ) at += writeSync(descriptor, piece, at);
      running.update(piece.subarray(Math.max(0, before - written)));
      written += piece.length;
    }
  } finally {
    closeSync(descriptor);
  }
  if (entries) {
    require(entry, "it is not in the manifest");
    const there = entry.offset === member.offset && entry.size === member.size && before >= 0;
    require(there, "it lies in another place than the manifest says");
    require(running.digest().equals(entry.digest), "its SHA-256 is not the one in the manifest");
  }
  return size;
}

// ── The examples, good and bad, that are handed out with these programs ─────────────────────────

/** What becomes of one file of the vectors: opens, damaged, unknown or not held. */
function judge(folder, facts) {
  const path = join(folder, facts.file);
  const data = readFileSync(path);
  const hex = (value) => Buffer.from(value ?? "", "hex");
  const verdict = (opened, wanted) => (opened.equals(wanted) ? "opens" : "opens as something else");
  if (facts.kind === "member") {
    const descriptor = openSync(path, "r");
    try {
      const member = place("", 0, 0, data.length);
      const [key, bound] = [hex(facts.data_key), text(facts.associated_data)];
      const pieces = [...openMember(new PackFile(descriptor), member, key, bound)];
      return verdict(sha256(...pieces), hex(facts.plaintext_sha256));
    } finally {
      closeSync(descriptor);
    }
  }
  if (facts.kind === "age") {
    const epoch = openEpoch(data, readIdentity(facts.identity));
    return verdict(unbase64(epoch.key, 32), hex(facts.key));
  }
  if (facts.kind === "wrap") {
    const site = unwrapIdentity(hex(facts.custody_key), data);
    const epoch = openEpoch(readFileSync(join(folder, facts.epoch)), site);
    return verdict(unbase64(epoch.key, 32), hex(facts.key));
  }
  if (facts.kind === "log") {
    const before = facts.after && readFileSync(join(folder, facts.after));
    return verdict(readRecord(data, before, facts), hex(facts.pack_sha256));
  }
  if (facts.kind === "block") {
    const key = openRow(parseBlock(data), String(facts.row), hex(facts.epoch_key));
    return verdict(key, hex(facts.key));
  }
  const block = parseBlock(readFileSync(join(folder, facts.block)));
  const paths = new Map([
    [block.block, [join(folder, facts.block)]],
    [`${block.site}-${block.month}`, [join(folder, facts.epoch)]],
  ]);
  const out = mkdtempSync(join(tmpdir(), "rescue-"));
  try {
    const rescue = new Rescue(new Keys(readIdentity(facts.identity), paths), out, () => {});
    const whole = rescue.openPack(path) && rescue.troubles === 0;
    if (rescue.unknown) throw new Unknown("it is of another version or suite");
    require(whole && rescue.written === facts.members, "it is not whole");
    return "opens";
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** The SHA-256 of the pack that a log record names, nothing if it names none (P12). */
function readRecord(data, before, { hospital, site }) {
  const record = parse(data, "a log record", { hospital, site });
  return reading("a log record", () => {
    const expected = before ? JSON.parse(before.toString()).sequence + 1 : 0;
    if (!number(record.sequence) || record.sequence !== expected) throw new TypeError();
    if (record.kind !== "instances" && record.kind !== "events") return Buffer.alloc(0);
    unhex(record.root);
    if (!number(record.size)) throw new TypeError();
    return unhex(record.sha256);
  });
}

/** Compare this program's judgement of every vector with that of index.json. */
function check(folder) {
  let wrong = 0;
  const vectors = JSON.parse(readFileSync(join(folder, "index.json"), "utf8"));
  for (const facts of vectors) {
    let found;
    try {
      found = judge(folder, facts);
    } catch (error) {
      if (!(error instanceof Damaged || error instanceof NotHeld)) throw error;
      const word = error instanceof Unknown ? "unknown" : "damaged";
      found = error instanceof Damaged ? word : "not held";
    }
    const right = found === facts.outcome;
    if (!right) wrong++;
    console.log(`${facts.file} ${found}: ${right ? "ok" : `WRONG, it must be: ${facts.outcome}`}`);
  }
  console.log(`${vectors.length} examples: ${wrong} judged wrong`);
  return wrong ? 1 : 0;
}

// ── The command ─────────────────────────────────────────────────────────────────────────────────

function complain(message) {
  console.error(`rescue: ${message}`);
  return 2;
}

function main() {
  const names = ["identity", "custody-key", "wrapped-identity", "keys", "out", "check"];
  const options = Object.fromEntries(names.map((name) => [name, { type: "string" }]));
  options.help = { type: "boolean", short: "h" };
  let given;
  try {
    given = parseArgs({ options, allowPositionals: true });
  } catch (error) {
    return complain(`${error.message} See --help.`);
  }
  const { values, positionals } = given;
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.check !== undefined) return check(values.check);
  const bySite = values["custody-key"] !== undefined && values["wrapped-identity"] !== undefined;
  const either = bySite !== (values.identity !== undefined);
  if (!positionals.length || !values.keys || !values.out || !either) {
    const wanted = "--keys, --out, a PACK, and either --identity or both files of a site";
    return complain(`give ${wanted}; see --help`);
  }
  let keys;
  let packs = [];
  try {
    const identity = bySite
      ? unwrapIdentity(readFileSync(values["custody-key"]), readFileSync(values["wrapped-identity"]))
      : readIdentity(readFileSync(values.identity, "latin1"));
    keys = Keys.below(values.keys, identity);
    for (const path of positionals) {
      const folder = statSync(path, { throwIfNoEntry: false })?.isDirectory();
      packs = packs.concat(folder ? filesBelow(path, ".tar") : [path]);
    }
    mkdirSync(values.out, { recursive: true, mode: 0o700 });
  } catch (error) {
    if (!(error instanceof NotHeld || error.syscall)) throw error;
    return complain(error.message);
  }
  const rescue = new Rescue(keys, values.out, (line) => console.log(line));
  for (const path of packs) rescue.openPack(path);
  const { written, troubles } = rescue;
  console.log(`${packs.length} packs: ${written} members written, ${troubles} troubles`);
  return troubles ? 1 : 0;
}

process.exitCode = main();
