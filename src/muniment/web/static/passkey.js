// Approves with a passkey: the browser signs exactly what the page shows, and the server verifies it against the key
// that the directory has. The same button shows a passkey first where policy asks for a stronger login.

const text = (raw) => btoa(String.fromCharCode(...new Uint8Array(raw))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

async function asked(path, csrf, body) {
  const answer = await fetch(path, body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(body),
  });
  const document = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(`${document.detail}. ${document.remedy}`), { code: document.code });
  return document;
}

async function shown(options) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const { response } = await navigator.credentials.get({ publicKey });
  return {
    authenticator_data: text(response.authenticatorData),
    client_data: text(response.clientDataJSON),
    signature: text(response.signature),
  };
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-passkey]");
  if (!button) return;
  const said = document.getElementById("passkey-said");
  const { ticket, digest, csrf, way } = button.dataset;
  said.textContent = "Waiting for your passkey …";
  try {
    if (!globalThis.PublicKeyCredential) throw new Error("This browser has no passkeys.");
    if (way === "step-up") {
      const { state, options } = await asked("/auth/passkeys/step-up/begin", csrf, {});
      await asked("/auth/passkeys/step-up/finish", csrf, { state, passkey: await shown(options) });
      location.reload();
      return;
    }
    const assertion = await asked(`/v1/requests/${ticket}/assertion`);
    if (assertion.digest !== digest) {
      location.href = `/requests/${ticket}?seen=${encodeURIComponent(digest)}`;
      return;
    }
    const comment = document.getElementById("passkey-comment").value.trim();
    const body = { decision: "approve", digest, passkey: await shown(assertion.options) };
    await asked(`/v1/requests/${ticket}/decisions`, csrf, comment ? { ...body, comment } : body);
    location.href = `/requests/${ticket}?done=approve`;
  } catch (error) {
    said.textContent = error.name === "NotAllowedError" ? "No passkey was shown." : error.message;
  }
});
