// Reads what lets somebody in from behind the #, and takes it out of the address. It is sent when they say so.
const form = document.querySelector("[data-link]");
const given = location.hash.slice(1);
if (form && /^mnt_[0-9a-f_]+$/.test(given)) {
  form.elements.token.value = given;
  form.querySelector("[data-typed]").hidden = true;
  form.querySelector("[data-ready]").hidden = false;
  history.replaceState(null, "", location.pathname + location.search);
  form.querySelector("button").focus();
}
// a whole link that was pasted is as good as what it holds
form?.addEventListener("submit", () => { form.elements.token.value = form.elements.token.value.trim().split("#").pop(); });
