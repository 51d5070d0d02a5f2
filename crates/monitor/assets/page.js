// The page asks its own server once a second and draws what it says. All texts go in as text, never as markup.
"use strict";

const POLL_MS = 1000;
const HOUR_S = 3600;
const STALE_S = 20;
const SEVERITIES = ["critical", "error", "warning", "info"];
// Charts in their order: title, one or two metrics, how numbers are written.
const CHARTS = [
  ["Memory", ["raceproof_rss_bytes"], bytes],
  ["Objects", ["raceproof_objects"], count],
  ["Threads", ["raceproof_threads", "raceproof_os_threads"], count],
  ["Event-loop lag", ["raceproof_loop_lag_seconds"], seconds],
  ["Lock waits", ["raceproof_lock_wait_p50_seconds", "raceproof_lock_wait_p99_seconds"], seconds],
  ["Lock holds", ["raceproof_lock_hold_p50_seconds", "raceproof_lock_hold_p99_seconds"], seconds],
  ["Pool queue", ["raceproof_pool_queue"], count],
];
// Steps of an axis of bytes.
const POWERS = Array.from({ length: 50 }, (_, idx) => 2 ** idx);
const KEYS = {
  raceproof_threads: "Python", raceproof_os_threads: "all",
  raceproof_lock_wait_p50_seconds: "p50", raceproof_lock_wait_p99_seconds: "p99",
  raceproof_lock_hold_p50_seconds: "p50", raceproof_lock_hold_p99_seconds: "p99",
};

const find = (id) => document.getElementById(id);
const charts = new Map();
let token = takeToken();
let chosen = "";
let overview = null;

// The token comes in the fragment, which is sent nowhere; it stays in this tab only, and leaves the address.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return given || sessionStorage.getItem("token") || "";
}

async function ask(path, method = "GET") {
  const reply = await fetch(path, { method, headers: { Authorization: `Bearer ${token}` } });
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.error || `the server said ${reply.status}`);
  return said;
}

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (value >= 1024 && place < units.length - 1) { value /= 1024; place += 1; }
  return `${value.toFixed(place && value < 100 ? 1 : 0)} ${units[place]}`;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function count(value) {
  return Math.abs(value) >= 10000 ? compact.format(value) : short(value);
}

// Three digits that say something, never an exponent.
function short(value) {
  return String(Number(value.toPrecision(Math.abs(value) >= 100 ? 4 : 3)));
}

function seconds(value) {
  if (value < 1e-9) return "0 s";
  if (value < 1e-3) return `${short(value * 1e6)} µs`;
  if (value < 1) return `${short(value * 1e3)} ms`;
  return `${short(value)} s`;
}

function ago(now, then) {
  const s = Math.max(0, now - then);
  if (s < 60) return `${Math.round(s)} s ago`;
  if (s < HOUR_S) return `${Math.round(s / 60)} min ago`;
  if (s < 48 * HOUR_S) return `${Math.round(s / HOUR_S)} h ago`;
  return new Date(then * 1000).toISOString().slice(0, 10);
}

function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function table(into, columns, rows, nothing) {
  if (!rows.length) return into.replaceChildren(make("p", { class: "empty" }, nothing));
  const head = columns.map(([name, , kind]) => make("th", { scope: "col", class: kind || "" }, name));
  const cell = (row) => ([name, read, kind]) => make("td", { class: kind || "", "data-name": name }, read(row));
  const body = rows.map((row) => make("tr", {}, ...columns.map(cell(row))));
  into.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
}

function showStatus() {
  const status = find("status");
  const at = overview.live_at_s;
  const age = at === null ? Infinity : overview.now_s - at;
  status.className = `status ${age < STALE_S ? "live" : "stale"}`;
  status.textContent = at === null ? "no samples yet" : age < STALE_S ? "live" : `last seen ${ago(overview.now_s, at)}`;
}

function showProcesses() {
  const select = find("process");
  const names = overview.processes.map((process) => process.name);
  if (overview.process && !names.includes(overview.process)) names.unshift(overview.process);
  if (document.activeElement === select) return;
  select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  select.value = overview.process;
}

function showTiles(series) {
  const last = (name) => (series[name] ? series[name][1].at(-1) : null);
  const open = overview.incidents.filter((incident) => incident.state !== "resolved");
  const worst = open.some((incident) => ["critical", "error"].includes(incident.severity));
  const tile = (label, value, bad) => make("div", { class: bad ? "tile bad" : "tile" }, make("b", {}, value), make("span", {}, label));
  const shown = (name, write) => (last(name) === null ? "–" : write(last(name)));
  find("tiles").replaceChildren(
    tile("open incidents", String(open.length), worst),
    tile("threads", shown("raceproof_threads", count)),
    tile("memory", shown("raceproof_rss_bytes", bytes)),
    tile("event-loop lag", shown("raceproof_loop_lag_seconds", seconds)),
    tile("wait for locks, p99", shown("raceproof_lock_wait_p99_seconds", seconds)),
  );
}

function showStrip() {
  const recent = overview.incidents.filter((incident) => overview.now_s - incident.last_seen_s < HOUR_S);
  find("strip").hidden = !recent.length;
  if (!recent.length) return;
  const drawing = find("strip-drawing");
  const style = getComputedStyle(document.documentElement);
  const width = drawing.clientWidth || 600;
  const left = 64;
  const shape = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text) made.textContent = text;
    return made;
  };
  const place = (at) => left + (width - left - 8) * Math.min(1, Math.max(0, 1 - (overview.now_s - at) / HOUR_S));
  const parts = [];
  SEVERITIES.forEach((severity, row) => {
    const y = 10 + row * 18;
    parts.push(shape("text", { x: 0, y: y + 4 }, severity));
    parts.push(shape("line", { x1: left, x2: width - 8, y1: y, y2: y }));
    for (const incident of recent.filter((incident) => incident.severity === severity)) {
      const colour = style.getPropertyValue(`--${severity}`);
      const [from, to] = [place(incident.first_seen_s), place(incident.last_seen_s)];
      const bar = shape("rect", { x: from - 4, y: y - 4, width: to - from + 8, height: 8, rx: 4, fill: colour });
      if (incident.state === "resolved") bar.setAttribute("opacity", "0.4");
      bar.append(shape("title", {}, `${incident.title} (${incident.count}×, ${incident.state})`));
      parts.push(bar);
    }
  });
  for (const minutes of width < 480 ? [60, 30] : [60, 45, 30, 15]) {
    parts.push(shape("text", { x: place(overview.now_s - minutes * 60), y: 92 }, `${minutes} min ago`));
  }
  parts.push(shape("text", { x: width - 8, y: 92, "text-anchor": "end" }, "now"));
  drawing.setAttribute("viewBox", `0 0 ${width} 96`);
  drawing.replaceChildren(...parts);
}

function contextText(context) {
  const lines = Object.entries(context || {}).map(([name, value]) => {
    const written = typeof value === "string" ? value : JSON.stringify(value, null, 1);
    return written.includes("\n") ? `${name}:\n${written}` : `${name}: ${written}`;
  });
  return lines.join("\n");
}

function incidentCard(incident) {
  const facts = [
    incident.kind,
    `${incident.count}×`,
    incident.count > 1 ? `first ${ago(overview.now_s, incident.first_seen_s)}, last ${ago(overview.now_s, incident.last_seen_s)}` : ago(overview.now_s, incident.last_seen_s),
    incident.process,
    incident.state,
  ];
  const card = make("article", { class: `incident ${incident.severity} ${incident.state}`, "data-id": incident.id });
  const actions = make("div", { class: "actions" });
  for (const [verb, label, from] of [["acknowledge", "Acknowledge", ["open"]], ["resolve", "Resolve", ["open", "acknowledged"]]]) {
    if (!from.includes(incident.state)) continue;
    const button = make("button", { type: "button" }, label);
    button.addEventListener("click", () => change(incident.id, verb, button));
    actions.append(button);
  }
  const badge = make("span", { class: `badge ${incident.severity}` }, incident.severity);
  card.append(make("h3", {}, badge, incident.title), actions, make("p", { class: "facts" }, facts.join(" · ")));
  const more = contextText(incident.context);
  if (more) card.append(make("details", {}, make("summary", {}, "context"), make("pre", {}, more)));
  return card;
}

function showIncidents() {
  const all = find("with-resolved").checked;
  const rank = (incident) => [incident.state === "resolved", SEVERITIES.indexOf(incident.severity), -incident.last_seen_s];
  const byRank = (one, other) => {
    const [a, b] = [rank(one), rank(other)];
    const place = a.findIndex((value, idx) => value !== b[idx]);
    return place < 0 ? 0 : a[place] - b[place];
  };
  const shown = overview.incidents.filter((incident) => all || incident.state !== "resolved").sort(byRank);
  const into = find("incidents");
  const opened = new Set([...into.querySelectorAll("details[open]")].map((details) => details.parentElement.dataset.id));
  const key = JSON.stringify([shown, Math.floor(overview.now_s / 10)]);
  // Drawn again only when something changed: a button must not go while it is pressed.
  if (into.dataset.key === key) return;
  into.dataset.key = key;
  const cards = shown.map(incidentCard);
  for (const card of cards.filter((card) => opened.has(card.dataset.id))) card.querySelector("details")?.setAttribute("open", "");
  into.replaceChildren(...(cards.length ? cards : [make("p", { class: "empty" }, "Nothing is open.")]));
}

async function change(id, verb, button) {
  button.disabled = true;
  try {
    await ask(`/api/incidents/${encodeURIComponent(id)}/${verb}`, "POST");
    tellNotice("");
  } catch (error) {
    tellNotice(error.message);
  }
  await look();
}

function tellNotice(text) {
  find("notice").hidden = !text;
  find("notice").textContent = text;
}

function showLive() {
  const live = overview.live || {};
  const held = (lock) => (lock.held_s ? seconds(lock.held_s) : "–");
  const maybe = (value, write) => (value === undefined || value === null ? "–" : write(value));
  table(find("locks"), [
    ["name", (lock) => String(lock.name)],
    ["held by", (lock) => maybe(lock.holder, String)],
    ["for", held, "number"],
    ["waiting", (lock) => maybe(lock.waiters, count), "number"],
    ["wait p50", (lock) => maybe(lock.wait_p50_s, seconds), "number"],
    ["wait p99", (lock) => maybe(lock.wait_p99_s, seconds), "number"],
    ["hold p99", (lock) => maybe(lock.hold_p99_s, seconds), "number"],
  ], live.locks || [], "No lock tells of itself here.");
  find("pools-section").hidden = !(live.pools || []).length;
  table(find("pools"), [
    ["name", (pool) => String(pool.name)],
    ["queued", (pool) => `${pool.queued ?? "–"} of ${pool.limit ?? "–"}`, "number"],
    ["active", (pool) => `${pool.active ?? "–"} of ${pool.workers ?? "–"}`, "number"],
  ], live.pools || [], "");
  table(find("threads"), [
    ["name", (thread) => thread.name],
    ["system id", (thread) => maybe(thread.ident, String), "number"],
    ["kind", (thread) => (thread.daemon ? "daemon" : "ordinary")],
  ], live.threads || [], "No process has written what is alive in it.");
  table(find("audit"), [
    ["when", (entry) => clock(entry.at_s)],
    ["who", (entry) => entry.actor],
    ["what", (entry) => entry.action],
    ["to what", (entry) => entry.subject],
  ], overview.audit, "Nothing was written down yet.");
}

// Both lines of a chart on one axis of time.
function joined(lines) {
  return lines.length === 1 ? lines[0] : uPlot.join(lines.map(([times, values]) => [times, values]));
}

function showCharts(series) {
  const known = new Set(CHARTS.flatMap(([, names]) => names));
  const own = Object.keys(series).filter((name) => !known.has(name) && !name.startsWith("raceproof_"));
  const wanted = CHARTS.concat(own.map((name) => [name, [name], count]));
  const present = wanted.filter(([, names]) => names.some((name) => series[name]));
  for (const [title, chart] of charts) {
    if (!present.some(([other]) => other === title)) { chart.plot.destroy(); chart.box.remove(); charts.delete(title); }
  }
  for (const [title, names, write] of present) {
    const held = names.filter((name) => series[name]);
    const data = joined(held.map((name) => series[name]));
    const chart = charts.get(title) || newChart(title, held, write, data);
    const latest = held.map((name) => write(series[name][1].at(-1))).join(" / ");
    chart.latest.textContent = latest;
    chart.plot.setData(data);
  }
  if (!present.length && !find("charts").children.length) {
    find("charts").append(make("p", { class: "empty" }, "No samples yet: HealthMonitor.instance().start() collects them."));
  }
}

function newChart(title, names, write, data) {
  find("charts").querySelector(".empty")?.remove();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const latest = make("span", {});
  const label = make("span", { class: "name" }, title);
  const keys = names.length < 2 ? [] : [
    make("span", {}, make("i", { class: "key first" }), KEYS[names[0]] || names[0], make("i", { class: "key second" }), KEYS[names[1]] || names[1]),
  ];
  const box = make("figure", { class: "card chart", role: "img", "aria-label": `${title} over the last hour` });
  box.style.margin = "0";
  box.append(make("h3", {}, label, ...keys, latest));
  find("charts").append(box);
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const lines = names.map((name, idx) => ({ label: KEYS[name] || name, stroke: colour(`--line-${idx + 1}`), width: 1.8, spanGaps: true, points: { show: false }, value: (_, value) => (value === null ? "–" : write(value)) }));
  const plot = new uPlot({
    width: box.clientWidth - 24,
    height: 150,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.15 : 1] } },
    axes: [
      { ...axis, space: 70, size: 26, values: (_, ticks) => ticks.map(shortClock) },
      { ...axis, size: 66, space: 34, incrs: write === bytes ? POWERS : undefined, values: (_, ticks) => ticks.map(write) },
    ],
    padding: [8, 10, 0, 0],
    series: [{}, ...lines],
  }, data, box);
  const chart = { plot, box, latest };
  charts.set(title, chart);
  return chart;
}

function shortClock(at) {
  const date = new Date(at * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const whole = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return date.getSeconds() ? `${whole}:${two(date.getSeconds())}` : whole;
}

function forgetCharts() {
  for (const chart of charts.values()) { chart.plot.destroy(); chart.box.remove(); }
  charts.clear();
}

async function look() {
  const query = chosen ? `?process=${encodeURIComponent(chosen)}` : "";
  try {
    const [said, series] = await Promise.all([ask(`/api/overview${query}`), ask(`/api/series${query}`)]);
    overview = said;
    showStatus();
    showProcesses();
    showTiles(series);
    showStrip();
    showIncidents();
    showLive();
    showCharts(series);
    document.body.dataset.ready = "yes";
    if (find("notice").dataset.from === "look") tellNotice("");
    delete find("notice").dataset.from;
  } catch (error) {
    find("status").className = "status lost";
    find("status").textContent = "no answer";
    find("notice").dataset.from = "look";
    tellNotice(token ? `${error.message}` : "Open the address that raceproof printed: it has the token.");
  }
}

async function poll() {
  if (!document.hidden) await look();
  setTimeout(poll, POLL_MS);
}

find("process").addEventListener("change", (event) => { chosen = event.target.value; event.target.blur(); forgetCharts(); look(); });
find("with-resolved").addEventListener("change", () => overview && showIncidents());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { forgetCharts(); look(); });
new ResizeObserver(() => {
  for (const { plot, box } of charts.values()) plot.setSize({ width: box.clientWidth - 24, height: 150 });
  if (overview) showStrip();
}).observe(find("charts"));
poll();
