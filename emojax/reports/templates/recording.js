// The page of a recording: player, emotion track, transcript; click to seek.
"use strict";
const D = JSON.parse(document.getElementById("data").textContent), P = document.getElementById("player");
const $ = id => document.getElementById(id), NS = "http://www.w3.org/2000/svg";
const persons = [...new Set(D.segments.map(s => s.person))];
const time = t => { t = Math.round(t * 10) / 10; const m = Math.floor(t / 60), s = (t % 60).toFixed(1).padStart(4, "0"); return m + ":" + s; };
function el(name, parent, attributes, text) {
  const e = document.createElement(name);
  for (const k in attributes || {}) e.setAttribute(k, attributes[k]);
  if (text !== undefined) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}
function draw(name, parent, attributes, text) {
  const e = document.createElementNS(NS, name);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
}
const labelText = s => s.error ? "not answered" : s.signs && !s.signs.length ? s.label + ": nobody seen or heard" : s.leading.length ? s.label + ": " + s.leading.join(" or ") : s.label;
let zoom = 1, head = null, current = -1;
function width() { return Math.max(300, ($("scroll").clientWidth || 1100) - 2) * zoom; }
const LEFT = 70;
function chart() {
  const box = $("scroll"), w = width(), scale = (w - LEFT - 10) / Math.max(D.seconds, 0.1), lane = 210;
  box.textContent = "";
  const svg = draw("svg", box, {width: w, height: persons.length * lane + 24, role: "img", "aria-label": "emotion track"});
  const x = t => LEFT + t * scale;
  persons.forEach((person, row) => {
    const y0 = row * lane, segs = D.segments.map((s, i) => [s, i]).filter(([s]) => s.person === person && !s.error);
    draw("text", svg, {x: 4, y: y0 + 16}, person || "all");
    const top = y0 + 22, high = 90;
    for (const v of [0, 0.5, 1]) {
      draw("line", svg, {x1: LEFT, x2: w - 10, y1: top + high * (1 - v), y2: top + high * (1 - v), stroke: "var(--line)"});
      draw("text", svg, {x: LEFT - 28, y: top + high * (1 - v) + 4}, v.toFixed(1));
    }
    for (const label of D.labels) {
      let path = "", last = -1;
      for (const [s] of segs) {
        if (!(label in s.smoothed)) continue;
        const y = (top + high * (1 - (s.smoothed[label] || 0))).toFixed(1);
        path += (Math.abs(s.start - last) < 0.05 ? "L" : "M") + x(s.start).toFixed(1) + " " + y + "L" + x(s.end).toFixed(1) + " " + y;
        last = s.end;
      }
      draw("path", svg, {d: path || "M0 0", fill: "none", stroke: D.colours[label], "stroke-width": 1.6});
    }
    const strip = top + high + 6;
    draw("text", svg, {x: 4, y: strip + 13}, "shown");
    ["picture", "sound", "words"].forEach((m, k) => draw("text", svg, {x: 4, y: strip + 34 + 18 * k}, m));
    for (const [s, i] of segs) {
      const a = x(s.start), b = Math.max(1, x(s.end) - x(s.start) - 0.5);
      const one = draw("rect", svg, {x: a, y: strip, width: b, height: 18, fill: D.colours[s.leading.length ? "" : s.label] || "var(--other)", class: "seg", "data-i": i});
      draw("title", one, {}, time(s.start) + " " + labelText(s) + (s.words ? " - " + s.words : ""));
      ["video", "audio", "text"].forEach((m, k) => {
        if (!s.modalities.includes(m)) return;
        const adds = s.contributions ? s.contributions[m] || 0 : null;
        const strong = adds === null ? 0.35 : Math.min(1, 0.12 + Math.abs(adds) / 2);
        const r = draw("rect", svg, {x: a, y: strip + 24 + 18 * k, width: b, height: 12, class: "seg", "data-i": i, opacity: strong,
          fill: adds === null ? "var(--soft)" : adds >= 0 ? "var(--good)" : "var(--bad)"});
        if (adds !== null) draw("title", r, {}, m + " adds " + adds.toFixed(2) + " nats");
      });
    }
    for (const c of D.changes.filter(c => c.person === person)) {
      draw("line", svg, {x1: x(c.time), x2: x(c.time), y1: top, y2: strip + 18, stroke: "var(--ink)", "stroke-dasharray": "3 3"});
    }
  });
  const bottom = persons.length * lane, step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find(s => s * scale > 60) || 7200;
  for (let t = 0; t <= D.seconds; t += step) draw("text", svg, {x: x(t), y: bottom + 12, class: "tick"}, time(t).replace(/\.0$/, ""));
  head = draw("line", svg, {x1: LEFT, x2: LEFT, y1: 0, y2: bottom, stroke: "var(--playhead)", "stroke-width": 2, id: "head"});
  svg.addEventListener("click", e => {
    const i = e.target.dataset && e.target.dataset.i;
    const at = (e.clientX - svg.getBoundingClientRect().left - LEFT) / scale;
    seek(i !== undefined ? D.segments[i].start : Math.max(0, Math.min(D.seconds, at)));
  });
  follow();
}
function seek(t) { P.currentTime = t; shown(t); }
function at(t) { return D.segments.findIndex(s => t >= s.start - 1e-3 && t < s.end - 1e-3); }
function follow() { shown(P.currentTime || 0); }
function shown(t) {
  const scale = (width() - LEFT - 10) / Math.max(D.seconds, 0.1), px = LEFT + t * scale;
  if (head) { head.setAttribute("x1", px); head.setAttribute("x2", px); }
  const box = $("scroll");
  if (zoom > 1 && (px < box.scrollLeft + 80 || px > box.scrollLeft + box.clientWidth - 40)) box.scrollLeft = px - 120;
  const i = at(t);
  if (i === current) return;
  current = i;
  document.querySelectorAll("tr.on").forEach(r => r.classList.remove("on"));
  const now = $("now");
  now.textContent = "";
  if (i < 0) { el("span", now, {class: "soft"}, "no segment here"); return; }
  for (const s of D.segments.filter(s => s.start === D.segments[i].start)) {
    el("div", now, {class: "soft num"}, (s.person ? s.person + ", " : "") + time(s.start) + " to " + time(s.end) + (s.speakers.length ? ", " + s.speakers.join(", ") + " speaking" : ""));
    el("b", now, {class: "label"}, labelText(s));
    for (const [label, p] of Object.entries(s.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 5)) {
      const bar = el("div", now, {class: "bar"});
      el("span", bar, {}, label);
      el("i", bar, {style: "width:" + (100 * p).toFixed(1) + "%;background:" + D.colours[label]});
      el("span", bar, {class: "num"}, (100 * p).toFixed(0) + " %");
    }
    if (s.words) el("p", now, {}, "\u201c" + s.words + "\u201d");
    if (s.reason) el("p", now, {class: "soft"}, s.reason);
  }
  const row = document.querySelector('tr[data-i="' + i + '"]');
  if (row) row.classList.add("on");
}
function table() {
  const body = document.querySelector("#table tbody");
  D.segments.forEach((s, i) => {
    const row = el("tr", body, {class: "row", "data-i": i, tabindex: 0});
    el("td", row, {class: "num"}, time(s.start));
    el("td", row, {}, s.person || s.speakers.join(", "));
    const label = el("td", row, {}, "");
    el("i", label, {style: "display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.4em;background:" + (D.colours[s.label] || "var(--other)")});
    label.append(labelText(s) + (s.error || s.leading.length ? "" : " " + Math.round(100 * s.probabilities[s.label]) + " %"));
    el("td", row, {}, s.words);
    const why = el("td", row, {}, s.error || s.reason);
    for (const n of s.notes) el("small", el("div", why), {class: "soft"}, n);
    if (s.evidence.length) {
      const list = el("div", why);
      for (const e of s.evidence) {
        const kind = {supported: ["ok", "\u2713 "], unsupported: ["no", "\u2717 "]}[e.verdict] || ["maybe", "? "];
        const c = el("small", list, {class: "claim " + kind[0], title: e.verdict + ": " + e.by, "data-t": e.start}, kind[1] + e.phrase);
        c.addEventListener("click", x => { x.stopPropagation(); seek(e.start); });
      }
    }
    const go = () => { seek(s.start); };
    row.addEventListener("click", go);
    row.addEventListener("keydown", e => { if (e.key === "Enter") go(); });
  });
}
for (const label of D.labels) { const k = el("span", $("key")); el("i", k, {style: "background:" + D.colours[label]}); k.append(label); }
const list = $("changes");
if (D.changes.length) {
  el("b", list, {}, D.changes.length + (D.changes.length === 1 ? " change: " : " changes: "));
  D.changes.slice(0, 40).forEach(c => { const a = el("button", list, {class: "soft num", style: "border:0;background:none;cursor:pointer;font:inherit"}, time(c.time) + " " + c.before + " \u2192 " + c.after); a.onclick = () => seek(c.time); });
}
P.addEventListener("timeupdate", follow);
P.addEventListener("seeking", follow);
const askForFile = () => { $("lost").style.display = "block"; };
P.addEventListener("error", askForFile);
if (!P.getAttribute("src")) askForFile();
$("pick").addEventListener("change", e => { if (e.target.files.length) { P.src = URL.createObjectURL(e.target.files[0]); $("lost").style.display = "none"; } });
$("in").onclick = () => { zoom = Math.min(64, zoom * 2); chart(); };
$("out").onclick = () => { zoom = Math.max(1, zoom / 2); chart(); };
function step(by) {
  const starts = [...new Set(D.segments.map(s => s.start))], t = P.currentTime || 0;
  const next = by > 0 ? starts.find(s => s > t + 0.05) : starts.filter(s => s < t - 0.05).pop();
  if (next !== undefined) seek(next);
}
$("forth").onclick = () => step(1);
$("back").onclick = () => step(-1);
document.addEventListener("keydown", e => {
  if (["INPUT", "VIDEO", "AUDIO", "BUTTON"].includes(e.target.tagName)) return;
  if (e.key === "ArrowRight") step(1); else if (e.key === "ArrowLeft") step(-1);
  else if (e.key === " ") { e.preventDefault(); P.paused ? P.play() : P.pause(); }
});
window.addEventListener("resize", chart);
table();
chart();
