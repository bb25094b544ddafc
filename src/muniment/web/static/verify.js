// Verifies a ticket's entries in this browser, against a key that whoever looks has pasted. Nothing here trusts what the
// server says of itself: the root is computed from the entries, and the checkpoint over it must be signed by that key.
//
//   entry → leaf hash → inclusion proof → root = the root in the checkpoint ← signature ← the pasted key
//
// RFC 6962 section 2.1 (hashes), RFC 9162 section 2.1.3.2 (inclusion), c2sp.org/signed-note and tlog-checkpoint.

const utf8 = new TextEncoder();
const from64 = (text) => {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4) throw new Error("it is not base64");
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
};
const joined = (...parts) => {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
};
const same = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const leafHash = (entry) => sha256(joined([0], entry));
const nodeHash = (left, right) => sha256(joined([1], left, right));

/** A verifier key, "name+hash+base64": Ed25519, and named by its own bytes. */
export async function readKey(text) {
  const [, name, id, rest] = text.trim().match(/^([^+\s]+)\+([0-9a-f]{8})\+(\S+)$/) ?? [];
  if (!name) throw new Error("This is not a verifier key: it looks like name+hash+key, on one line.");
  const raw = from64(rest);
  if (raw[0] !== 1 || raw.length !== 33) throw new Error("This key is not an Ed25519 key.");
  const hash = (await sha256(joined(utf8.encode(`${name}\n`), raw))).slice(0, 4);
  const said = Uint8Array.from(id.match(/../g), (byte) => parseInt(byte, 16));
  if (!same(hash, said)) throw new Error("The key and its hash do not belong together: it was copied wrongly, or changed.");
  const key = await crypto.subtle.importKey("raw", raw.slice(1), { name: "Ed25519" }, false, ["verify"]);
  return { name, hash, key };
}

/** What a checkpoint says, once the key has signed it. */
export async function openCheckpoint(note, key) {
  const split = note.lastIndexOf("\n\n");
  if (split < 0) throw new Error("The checkpoint is not a signed note.");
  const text = note.slice(0, split + 1);
  let signed = false;
  for (const line of note.slice(split + 2).split("\n").filter(Boolean)) {
    const [, name, value] = line.match(/^— (\S+) (\S+)$/) ?? [];
    if (!name) throw new Error("The checkpoint has a line that is no signature.");
    const raw = from64(value);
    if (name !== key.name || !same(raw.slice(0, 4), key.hash)) continue;
    signed = await crypto.subtle.verify({ name: "Ed25519" }, key.key, raw.slice(4), utf8.encode(text));
    if (!signed) throw new Error("The signature under the checkpoint is not by this key.");
  }
  if (!signed) throw new Error("This key has not signed the checkpoint.");
  const [origin, size, root, ...rest] = text.split("\n");
  if (rest.length !== 1 || rest[0] || !/^(0|[1-9]\d*)$/.test(size)) throw new Error("The checkpoint is not three lines.");
  if (origin !== key.name) throw new Error("The checkpoint is of another ledger.");
  return { origin, size: Number(size), root: from64(root) };
}

/** The root that an entry at this place and these hashes lead to. */
export async function rootOf(leaf, index, size, hashes) {
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) throw new Error("The entry lies outside the tree.");
  let node = index, last = size - 1, computed = leaf;
  for (const sibling of hashes) {
    if (last === 0) throw new Error("The proof is longer than the tree is high.");
    if (node % 2 === 1 || node === last) {
      computed = await nodeHash(sibling, computed);
      while (node % 2 === 0 && node !== 0) { node = Math.floor(node / 2); last = Math.floor(last / 2); }
    } else {
      computed = await nodeHash(computed, sibling);
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) throw new Error("The proof is shorter than the tree is high.");
  return computed;
}

/** Verify the document that proves a ticket; tell `each` of every entry. Throws for the first that does not hold. */
export async function verify(proof, keyText, each = () => {}) {
  const key = await readKey(keyText);
  const checkpoint = await openCheckpoint(proof.checkpoint, key);
  for (const [at, entry] of proof.entries.entries()) {
    const leaf = await leafHash(utf8.encode(entry.entry));
    const root = await rootOf(leaf, entry.index, checkpoint.size, entry.hashes.map(from64));
    if (!same(root, checkpoint.root)) throw Object.assign(new Error(`Entry ${entry.index} is not in the ledger as it is shown here.`), { seq: at });
    const said = JSON.parse(entry.entry);
    if (said.ticket !== proof.ticket || said.seq !== at) throw Object.assign(new Error(`Entry ${entry.index} is of another ticket, or out of order.`), { seq: at });
    each(said);
  }
  return checkpoint;
}

// ── the form on a ticket's page ──

globalThis.document?.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-verify]")) return;
  event.preventDefault();
  const result = form.querySelector("[data-result]");
  const unmark = () => document.querySelectorAll("[data-sealed]").forEach((mark) => mark.remove());
  unmark();
  result.className = "quiet";
  result.textContent = "Computing …";
  try {
    const answer = await fetch(form.action, { headers: { Accept: "application/json" } });
    const proof = await answer.json();
    if (!answer.ok) throw new Error(`${proof.detail}. ${proof.remedy}`);
    const shown = new Map([...document.querySelectorAll(".event")].map((line) => [Number(line.id.slice(6)), line]));
    let count = 0;
    const checkpoint = await verify(proof, form.elements.key.value, (said) => {
      const line = shown.get(said.seq);
      if (line && line.dataset.kind !== said.type) throw new Error(`The page shows entry ${said.seq} as something else than the ledger.`);
      const mark = document.createElement("span");
      mark.dataset.sealed = "";
      mark.className = "sealed";
      mark.textContent = "verified";
      line?.querySelector(".event-at").append(" ", mark);
      count += 1;
    });
    result.className = "verdict is-yes";
    result.textContent = `All ${count} sealed entries are in ${checkpoint.origin}, under a checkpoint over ${checkpoint.size} entries that your key signed.`;
  } catch (error) {
    unmark();
    result.className = "verdict is-no";
    result.textContent = `Does not verify. ${error.message}`;
  }
});
