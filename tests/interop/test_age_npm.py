"""The npm package age-encryption opens our age files, and we open its files."""

import base64
import json
import os
import shutil
import subprocess

import pytest

from harmoni.sealing import age
from unit.sealing import samples

PACKAGE = "age-encryption@0.3.1"
IDENTITIES = [age.generate_identity(random=samples.randomness(name, 32)) for name in "ab"]
RANDOM = samples.randomness("file", age.RANDOM_BYTES)
SIZES = [0, 1, 65_535, 65_536, 65_537, 131_072]

# Reads lines of JSON, answers each with one line.
SCRIPT = """
import * as age from "age-encryption";
import { createInterface } from "node:readline";
for await (const line of createInterface({ input: process.stdin })) {
  const { act, identity, recipients, data } = JSON.parse(line);
  let answer;
  if (act === "encrypt") {
    const encrypter = new age.Encrypter();
    for (const recipient of recipients) encrypter.addRecipient(recipient);
    answer = await encrypter.encrypt(Buffer.from(data, "base64"));
  } else if (act === "decrypt") {
    const decrypter = new age.Decrypter();
    decrypter.addIdentity(identity);
    answer = await decrypter.decrypt(Buffer.from(data, "base64"));
  } else {
    answer = Buffer.from(await age.identityToRecipient(identity));
  }
  console.log(Buffer.from(answer).toString("base64"));
}
"""


@pytest.fixture(scope="module")
def typage(tmp_path_factory):
    """A running node that answers one request after the other."""
    folder = tmp_path_factory.mktemp("npm")
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("npm is missing: install Node.js 20 or newer")
        pytest.skip("npm is missing: interoperability with age-encryption is not checked")
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE],
        check=True,
        cwd=folder,
        capture_output=True,
        timeout=100,
    )
    (folder / "answer.mjs").write_text(SCRIPT)
    with subprocess.Popen(
        ["node", "answer.mjs"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(**request):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return base64.b64decode(process.stdout.readline())

        yield ask
        process.stdin.close()


def test_typage_derives_the_same_recipient(typage):
    for identity in IDENTITIES:
        answer = typage(act="recipient", identity=identity.to_string())
        assert answer.decode() == identity.recipient().to_string()


@pytest.mark.parametrize("size", SIZES)
def test_typage_opens_what_we_encrypt(typage, size):
    plaintext = samples.randomness("plaintext", size)
    recipients = [identity.recipient() for identity in IDENTITIES]
    sealed = age.encrypt(plaintext, recipients, random=RANDOM)
    for identity in IDENTITIES:
        answer = typage(
            act="decrypt",
            identity=identity.to_string(),
            data=base64.b64encode(sealed).decode(),
        )
        assert answer == plaintext


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_typage_encrypts(typage, size):
    plaintext = samples.randomness("plaintext", size)
    sealed = typage(
        act="encrypt",
        recipients=[identity.recipient().to_string() for identity in IDENTITIES],
        data=base64.b64encode(plaintext).decode(),
    )
    for identity in IDENTITIES:
        assert age.decrypt(sealed, identity) == plaintext
