// Opens a pack with nothing but Node's own modules, from docs/reference/pack-format.md and
// keys-format.md: the proof that those pages are enough.
//
//   node reader.mjs PACK.tar BLOCK.json EPOCH-KEY-HEX
//
// Prints one JSON object: the README's fields, and for each encrypted member its name and the
// SHA-256 of its plaintext, and the manifest's own words.

import { createDecipheriv, createHash, hkdfSync } from "node:crypto";
import { readFileSync } from "node:fs";

const [packFile, blockFile, epochKey] = process.argv.slice(2);
const pack = readFileSync(packFile);
const block = JSON.parse(readFileSync(blockFile, "utf8"));
const sha256 = (data) => createHash("sha256").update(data).digest("hex");

const prefixed = (words) =>
  Buffer.concat(
    words.flatMap((word) => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(Buffer.byteLength(word));
      return [length, Buffer.from(word)];
    }),
  );

function gcm(key, nonce, sealed, associatedData) {
  const decipher = createDecipheriv("aes-256-gcm", key, nonce);
  decipher.setAAD(associatedData);
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

function dataKey(keyId) {
  const [blockId, row] = keyId.split(".");
  if (blockId !== block.block) throw Error("another key block is needed");
  const wrapped = Buffer.from(block.rows[row], "base64");
  const bound = prefixed([block.suite, block.hospital, keyId]);
  return gcm(Buffer.from(epochKey, "hex"), wrapped.subarray(0, 12), wrapped.subarray(12), bound);
}

function openMember(ciphertext, keyId, kind, sequence, readme) {
  const bound = prefixed(["1", readme.suite, kind, readme.hospital, readme.pack, String(sequence)]);
  const key = hkdfSync("sha256", dataKey(keyId), ciphertext.subarray(1, 33), bound, 32);
  const pieces = [];
  const segments = Math.max(1, Math.ceil(ciphertext.length / 65536));
  for (let segment = 0; segment < segments; segment++) {
    const nonce = Buffer.alloc(12);
    ciphertext.copy(nonce, 0, 33, 40);
    nonce.writeUInt32BE(segment, 7);
    nonce[11] = segment === segments - 1 ? 1 : 0;
    const start = segment === 0 ? 40 : segment * 65536;
    const sealed = ciphertext.subarray(start, (segment + 1) * 65536);
    pieces.push(gcm(key, nonce, sealed, Buffer.alloc(0)));
  }
  return Buffer.concat(pieces);
}

const footer = pack.subarray(-1536, -1024);
if (footer.toString("latin1", 0, 16) !== "HARMONI footer\0\0") throw Error("not a sealed pack");
if (sha256(footer.subarray(0, 480)) !== footer.toString("hex", 480)) throw Error("footer");
if (sha256(pack.subarray(0, -1536)) !== footer.toString("hex", 56, 88)) throw Error("pack");
const at = (offset) => Number(footer.readBigUInt64BE(offset));
const publicTable = JSON.parse(pack.subarray(at(40), at(40) + at(48)).toString());

const readmeSize = parseInt(pack.toString("latin1", 124, 135), 8);
const readme = Object.fromEntries(
  pack
    .toString("latin1", 512, 512 + readmeSize)
    .split("\n\n", 1)[0]
    .split("\n")
    .map((line) => line.split(": ")),
);

const members = {};
for (const { name, sequence, offset, size, sha256: expected } of publicTable.members) {
  const ciphertext = pack.subarray(offset, offset + size);
  if (sha256(ciphertext) !== expected) throw Error(name);
  const kind = { i: "instance", e: "event", m: "manifest" }[name[0]];
  const keyId = kind === "event" ? name.slice("e/00000000.".length) : readme.key;
  members[name] = openMember(ciphertext, keyId, kind, sequence, readme);
}
const manifest = JSON.parse(members.manifest.toString());
if (at(24) !== publicTable.members.at(-1).offset) throw Error("manifest");
const hashes = Object.fromEntries(Object.entries(members).map(([n, data]) => [n, sha256(data)]));
console.log(JSON.stringify({ readme, hashes, manifest }));
