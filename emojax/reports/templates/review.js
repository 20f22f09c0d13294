// The page of `emojax verify`: marks aspects of annotations by keyboard.
"use strict";
const ORDER = [null, true, false, undefined], WORD = new Map([[true, "agrees"], [false, "does not"], [undefined, "cannot tell"], [null, ""]]);
const STYLE = new Map([[true, "yes"], [false, "no"], [undefined, "unsure"], [null, ""]]);
const $ = (id) => document.getElementById(id);
let data, at = 0, marks = {};
function isMarked(item) { return item.marks !== null; }
function show() {
  const item = data.items[at];
  marks = {};
  for (const a of data.aspects) marks[a] = isMarked(item) ? (item.marks[a] === null ? undefined : item.marks[a]) : null;
  // A span of a recording: a media fragment sets its start, and the player is stopped at its end.
  const span = item.start !== null || item.end !== null;
  $("clip").src = `/media/${at}` + (span ? `#t=${item.start || 0}${item.end === null ? "" : `,${item.end}`}` : "");
  $("label").textContent = item.label;
  $("name").textContent = item.clip + (span ? `, ${item.start || 0} s to ${item.end === null ? "the end" : `${item.end} s`}` : "");
  $("face").textContent = item.face ? `Measured at the peak: ${item.face}` : "";
  $("again").style.display = "none"; $("again").value = item.again || "";
  $("hint").textContent = item.again !== null ? `sent back: ${item.again || "(no remark)"}` : "";
  draw();
}
function draw() {
  const item = data.items[at], box = $("aspects");
  box.replaceChildren();
  data.aspects.forEach((aspect, i) => {
    const card = document.createElement("div");
    card.className = `aspect ${STYLE.get(marks[aspect])}`; card.dataset.aspect = aspect;
    const mark = document.createElement("span"); mark.className = "mark"; mark.textContent = WORD.get(marks[aspect]);
    const key = document.createElement("kbd"); key.textContent = i + 1;
    const name = document.createElement("b"); name.textContent = ` ${aspect} `;
    const text = document.createElement("div"); text.textContent = item[aspect] || "(nothing)";
    card.append(mark, key, name, text);
    if (aspect === "reasoning" && item.checks.length) {
      const list = document.createElement("div"); list.className = "small"; list.textContent = "Checked: ";
      item.checks.forEach((c) => { const s = document.createElement("span"); s.className = c.verdict; s.title = c.by;
        s.textContent = `${c.phrase} (${c.verdict}); `; list.append(s); });
      card.append(list);
    }
    card.onclick = () => cycle(aspect);
    box.append(card);
  });
  const done = data.items.filter(isMarked).length;
  $("who").textContent = data.annotator;
  $("where").textContent = `clip ${at + 1} of ${data.items.length}, ${done} marked`;
  $("bar").firstElementChild.style.width = `${100 * done / data.items.length}%`;
}
function begin() { return data.items[at].start || 0; }
function play() {
  const v = $("clip"), end = data.items[at].end;
  if (!v.paused) { v.pause(); return; }
  if (v.currentTime < begin() || v.ended || (end !== null && v.currentTime >= end - 0.05)) v.currentTime = begin();
  v.play();
}
$("clip").addEventListener("timeupdate", () => {
  const v = $("clip"), end = data ? data.items[at].end : null;
  if (end !== null && v.currentTime >= end) v.pause();
});
function cycle(aspect) { marks[aspect] = ORDER[(ORDER.indexOf(marks[aspect]) + 1) % ORDER.length]; $("hint").textContent = ""; draw(); }
async function save(again) {
  const open = data.aspects.filter((a) => marks[a] === null);
  if (open.length && again === null) { $("hint").textContent = `not marked yet: ${open.join(", ")}`; return; }
  const item = data.items[at], out = {};
  for (const a of data.aspects) out[a] = marks[a] === undefined ? null : marks[a];
  let reply;
  try {
    reply = await fetch("/marks", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({clip: item.clip, marks: out, again})});
  } catch (error) { reply = null; }
  if (!reply || !reply.ok) { $("hint").textContent = "not saved: is `emojax verify` still running?"; return; }
  item.marks = out; item.again = again;
  const next = data.items.findIndex((x, i) => i > at && !isMarked(x));
  if (next >= 0) { at = next; show(); }
  else if (data.items.every(isMarked)) { show(); $("hint").textContent = "All clips are marked. Thank you."; }
  else { at = data.items.findIndex((x) => !isMarked(x)); show(); }
}
document.addEventListener("keydown", (event) => {
  if (!data || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = $("again");
  if (document.activeElement === field) {
    if (event.key === "Enter") { field.blur(); save(field.value); event.preventDefault(); }
    if (event.key === "Escape") { field.blur(); field.style.display = "none"; }
    return;
  }
  const number = Number(event.key) - 1;
  if (event.key !== " " && number >= 0 && number < data.aspects.length) cycle(data.aspects[number]);
  else if (event.key === "a") { for (const a of data.aspects) marks[a] = true; draw(); }
  else if (event.key === "Enter") save(null);
  else if (event.key === "b") { field.style.display = "block"; field.focus(); }
  else if (event.key === "ArrowRight" && at + 1 < data.items.length) { at += 1; show(); }
  else if (event.key === "ArrowLeft" && at > 0) { at -= 1; show(); }
  else if (event.key === " ") play();
  else if (event.key === "p" && data.items[at].peak !== null) { $("clip").pause(); $("clip").currentTime = data.items[at].peak; }
  else return;
  event.preventDefault();
});
fetch("/items").then((r) => r.json()).then((reply) => {
  data = reply;
  at = Math.max(0, data.items.findIndex((x) => !isMarked(x)));
  show();
});
