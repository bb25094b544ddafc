// What pages do beyond what they say. Every page works without it: forms are forms, and times are written out.

const every = (selector, act, within = document) => within.querySelectorAll(selector).forEach(act);

// ── times: counted down, relative to now, in one's own zone on demand ──

const UNITS = [[86400, "day", "days"], [3600, "h", "h"], [60, "min", "min"], [1, "s", "s"]];

function short(seconds, fine) {
  seconds = Math.max(0, Math.floor(seconds));
  for (const [place, [size, one, many]] of UNITS.entries()) {
    const whole = Math.floor(seconds / size);
    if (!whole) continue;
    let said = `${whole} ${whole === 1 ? one : many}`;
    const below = UNITS[place + 1];
    if (below && (below[0] > 1 || fine)) {
      const more = Math.floor((seconds % size) / below[0]);
      if (more) said += ` ${more} ${more === 1 ? below[1] : below[2]}`;
    }
    return said;
  }
  return "0 s";
}

function relative(at, now) {
  const away = (at - now) / 1000;
  if (Math.abs(away) < 45) return away <= 0 ? "just now" : "in a moment";
  return away > 0 ? `in ${short(away)}` : `${short(-away)} ago`;
}

let local = false;
try { local = localStorage.getItem("muniment-zone") === "local"; } catch {} // no storage: UTC

function exact(at) {
  const zone = local ? undefined : "UTC";
  return new Intl.DateTimeFormat("en-GB", {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
    timeZone: zone, timeZoneName: "short",
  }).format(at);
}

function tick() {
  const now = Date.now();
  every("time[data-when]", (time) => { time.textContent = relative(Date.parse(time.dateTime), now); });
  every("[data-until]", (clock) => {
    const left = (Date.parse(clock.dataset.until) - now) / 1000;
    const shown = clock.querySelector("[data-left]");
    if (shown) shown.textContent = left > 0 ? short(left, left < 600) : "0 s";
    clock.classList.toggle("is-soon", left < 600 && clock.textContent.includes("ends"));
  });
}

function zone() {
  every("time[data-when]", (time) => { time.title = exact(Date.parse(time.dateTime)); });
  every("time[data-exact]", (time) => { time.textContent = exact(Date.parse(time.dateTime)); });
  every("[data-zone]", (button) => {
    button.hidden = false;
    button.textContent = local ? Intl.DateTimeFormat().resolvedOptions().timeZone : "UTC";
  });
}

// ── light and dark ──

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// ── what happens meanwhile: the ledger's stream says so, and the page is read again ──

const typing = () => {
  const at = document.activeElement;
  const changed = [...document.querySelectorAll("main textarea, main input:not([type=hidden])")].some(
    (field) => (field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue),
  );
  return changed || (at && at.matches("main textarea, main input, main select")) || document.querySelector("main details[open]");
};

let waiting = false;

async function again(force) {
  if (typing() && !force) return offer();
  if (waiting) return;
  waiting = true;
  try {
    const url = new URL(location.href);
    url.searchParams.delete("done");
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    if (!answer.ok || new URL(answer.url).pathname !== url.pathname) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main");
    if (!fresh || (typing() && !force)) return;
    const focused = document.activeElement?.id;
    document.querySelector("main").replaceChildren(...fresh.childNodes);
    if (focused) document.getElementById(focused)?.focus();
    dress(document.querySelector("main"));
  } catch { // away for a moment: the next event tries again
  } finally {
    waiting = false;
  }
}

function offer() {
  if (document.getElementById("news")) return;
  const news = document.createElement("button");
  news.id = "news";
  news.className = "news is-main";
  news.textContent = "Something happened here: show it";
  news.addEventListener("click", () => { news.remove(); again(true); });
  document.body.append(news);
}

// One page of a browser holds the stream and tells the others: a browser has six connections to a server, and no more.
const others = new BroadcastChannel("muniment");
let soon = null;

function heard({ stream }) {
  const live = document.querySelector("main [data-ticket], main [data-live]");
  if (!live || (live.dataset.ticket && stream !== live.dataset.ticket)) return;
  soon ??= setTimeout(() => { soon = null; again(); }, live.dataset.ticket ? 150 : 1000); // once for many events
}

function follow() {
  const main = document.querySelector("main[data-kinds]");
  if (!main?.querySelector("[data-ticket], [data-live]")) return;
  others.addEventListener("message", (event) => heard(event.data));
  navigator.locks?.request("muniment-stream", () => new Promise(() => { // held until this page is gone
    const stream = new EventSource("/v1/stream");
    // between the page and its stream something may have happened; what was just done stays said
    const quiet = () => !typing() && !document.querySelector("main :focus") && !location.search.includes("done=");
    stream.addEventListener("open", () => { if (quiet()) again(); }, { once: true });
    const tell = (event) => {
      const said = JSON.parse(event.data);
      heard(said);
      others.postMessage(said);
    };
    main.dataset.kinds.split(" ").forEach((kind) => stream.addEventListener(kind, tell));
  }));
}

// ── small things ──

function dress(within) {
  every("[data-copy]", (button) => {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }, within);
  within.querySelector("[data-focus]")?.focus();
  zone();
  tick();
}

every("[data-theme-switch]", (button) => {
  button.hidden = false;
  button.addEventListener("click", () => {
    const chosen = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try { localStorage.setItem("muniment-theme", chosen); } catch {}
  });
});
document.addEventListener("click", (event) => {
  every("details.menu[open]", (menu) => { if (!menu.contains(event.target)) menu.open = false; });
  const button = event.target.closest("[data-zone]");
  if (button) {
    local = !local;
    try { localStorage.setItem("muniment-zone", local ? "local" : "utc"); } catch {}
    zone();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") every("details.menu[open]", (menu) => { menu.open = false; menu.querySelector("summary").focus(); });
  if (event.key === "/" && !event.target.closest("input, textarea, select")) {
    const find = document.querySelector("[data-find]");
    if (find) { event.preventDefault(); find.focus(); find.select(); }
  }
});
// a form that is on its way is not sent twice
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) return event.preventDefault();
  if (event.target.method === "post") event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => every("form[data-sent]", (form) => { delete form.dataset.sent; }));
document.addEventListener("visibilitychange", () => { if (!document.hidden && document.querySelector("main [data-ticket], main [data-live]")) again(); });

document.querySelector(".nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
dress(document);
addEventListener("load", () => setTimeout(follow)); // not before: browsers wait for streams that a page opens while it loads
setInterval(tick, 1000);
