"use strict";
// The viewers of a page, and how the page of a run that goes on keeps itself fresh. Plain JavaScript, no library.
const data = JSON.parse(document.getElementById("page-data").textContent);
const PALETTE = data.palette, VEIL = 0.5, HALF = 128, viewers = {};
const rgb = (n, a = 1) => `rgba(${PALETTE[n].join(",")},${a})`;
const make = (w, h) => Object.assign(document.createElement("canvas"), { width: Math.max(1, w), height: Math.max(1, h) });
const load = (source) => new Promise((done) => { const i = new Image(); i.onload = () => done(i); i.src = source; });

// One picture: its image, and the alpha of each instance as bytes.
async function open(picture) {
  if (picture.ready) return picture;
  const [image, atlas] = await Promise.all([load(picture.image), load(picture.atlas)]);
  const sheet = make(atlas.width, atlas.height).getContext("2d", { willReadFrequently: true });
  sheet.drawImage(atlas, 0, 0);
  const grey = sheet.getImageData(0, 0, atlas.width, atlas.height).data;
  const placed = ([left, top, w, h, ax, ay]) => {
    const alpha = new Uint8ClampedArray(w * h);
    for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) alpha[y * w + x] = grey[4 * ((ay + y) * atlas.width + ax + x)];
    return { left, top, w, h, alpha };
  };
  picture.instances = picture.found.map((row, n) => {
    const [score, hue, area] = row.slice(6);
    return { ...placed(row), n, score, hue, area, label: picture.labels[n] || "", shown: true };
  });
  picture.labelled = picture.truth.map((row) => ({ ...placed(row), hue: row[6] }));
  picture.pixels = image;
  picture.ready = true;
  return picture;
}

// An instance's alpha in a colour, as a small canvas; made when it is first needed.
function tinted(a, hard) {
  const kept = hard ? "hard" : "soft";
  if (!a[kept]) {
    const c = make(a.w, a.h), pen = c.getContext("2d"), out = pen.createImageData(c.width, c.height);
    const [r, g, b] = PALETTE[a.hue];
    a.alpha.forEach((v, i) => out.data.set([r, g, b, hard ? (v >= HALF ? 255 : 0) : v], 4 * i));
    pen.putImageData(out, 0, 0);
    a[kept] = c;
  }
  return a[kept];
}

// The edges of the pixels of its mask, as one path in pixels of the image.
function outline(a) {
  if (!a.path) {
    const inside = (x, y) => x >= 0 && y >= 0 && x < a.w && y < a.h && a.alpha[y * a.w + x] >= HALF;
    const path = new Path2D();
    const edge = (x0, y0, x1, y1) => { path.moveTo(a.left + x0, a.top + y0); path.lineTo(a.left + x1, a.top + y1); };
    for (let y = 0; y <= a.h; y++) for (let x = 0; x <= a.w; x++) {
      if (inside(x, y) !== inside(x, y - 1)) edge(x, y, x + 1, y);
      if (inside(x, y) !== inside(x - 1, y)) edge(x, y, x, y + 1);
    }
    a.path = path;
  }
  return a.path;
}

class Viewer {
  constructor(root) {
    const find = (name) => root.querySelector(name);
    Object.assign(this, {
      root, name: root.dataset.viewer, ...data[root.dataset.viewer], at: 0, near: null,
      stage: find(".stage"), canvas: find("canvas"), tip: find(".tip"), slider: find(".threshold"), chips: find(".chips"),
      truth: find(".truth input"), modes: [...root.querySelectorAll(".modes input")], strip: [...root.querySelectorAll(".strip button")],
    });
    this.pen = this.canvas.getContext("2d");
    this.threshold ??= 0;
    this.low ??= 0;
    if (this.slider) {
      this.slider.min = this.low;
      this.slider.value = this.threshold;
      this.slider.addEventListener("input", () => { this.threshold = Number(this.slider.value); this.list(); });
    }
    this.strip.forEach((b, n) => {
      b.addEventListener("click", () => this.show(n));
      b.addEventListener("keydown", (e) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
        if (step) { e.preventDefault(); const to = (n + step + this.strip.length) % this.strip.length; this.strip[to].focus(); this.show(to); }
      });
    });
    this.modes.forEach((m) => m.addEventListener("change", () => this.draw()));
    this.truth?.addEventListener("change", () => this.draw());
    find(".all").addEventListener("click", () => this.all(true));
    find(".none").addEventListener("click", () => this.all(false));
    this.canvas.addEventListener("pointermove", (e) => this.point(this.under(e), e));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", (e) => { const a = this.under(e); if (a) this.toggle(a); });
    new ResizeObserver(() => this.draw()).observe(this.stage);
    this.show(0);
  }
  get mode() { return this.modes.find((m) => m.checked).value; }
  get wanted() { return this.picture.instances.filter((a) => a.score >= this.threshold - 1e-9); }

  async show(n) {
    this.at = n;
    const picture = await open(this.pictures[n]);
    if (this.at !== n) return;
    this.picture = picture;
    this.strip.forEach((b, i) => b.setAttribute("aria-pressed", String(i === n)));
    const chosen = this.strip[n], row = chosen.parentElement;
    if (chosen.offsetLeft < row.scrollLeft || chosen.offsetLeft + 80 > row.scrollLeft + row.clientWidth) row.scrollLeft = chosen.offsetLeft - 80;
    this.root.querySelector(".name").textContent = this.root.querySelector(".name").title = picture.name;
    this.root.querySelector(".note").textContent = picture.note;
    this.list();
  }
  all(shown) {
    this.wanted.forEach((a) => { a.shown = shown; });
    this.list();
  }
  toggle(a) {
    a.shown = !a.shown;
    this.list();
    this.point(a);
  }

  // The chips, one for each instance that the threshold leaves.
  list() {
    const p = this.picture, wanted = this.wanted;
    this.near = null;
    this.tip.hidden = true;
    const focused = this.chips.contains(document.activeElement) ? document.activeElement.dataset.n : null;
    this.chips.replaceChildren(...wanted.map((a) => {
      const b = document.createElement("button"), swatch = document.createElement("i");
      b.type = "button";
      b.dataset.n = a.n;
      b.setAttribute("aria-pressed", String(a.shown));
      b.setAttribute("aria-label", this.words(a));
      swatch.style.background = rgb(a.hue);
      b.append(swatch, a.label ? `${a.label} ${this.slider ? a.score.toFixed(2) : ""}` : this.slider ? a.score.toFixed(2) : `layer ${a.n + 1}`);
      b.addEventListener("click", () => this.toggle(a));
      for (const on of ["pointerenter", "focus"]) b.addEventListener(on, () => this.point(a));
      for (const off of ["pointerleave", "blur"]) b.addEventListener(off, () => this.point(null));
      a.chip = b;
      return b;
    }));
    if (focused !== null) this.chips.querySelector(`[data-n="${focused}"]`)?.focus({ preventScroll: true });
    const shown = wanted.filter((a) => a.shown).length, every = p.instances.length, thing = this.slider ? "instance" : "layer";
    const said = `${shown} of ${every} ${thing}${every === 1 ? "" : "s"}`;
    this.root.querySelector(".count").textContent = said;
    if (this.slider) this.root.querySelector(".slide output").textContent = this.threshold.toFixed(2);
    this.canvas.setAttribute("aria-label", `${p.name}: ${said} shown`);
    this.draw();
  }
  words(a) {
    const name = a.label || (this.slider ? `instance ${a.n + 1}` : `layer ${a.n + 1}`);
    return `${name}${this.slider ? `, score ${a.score.toFixed(2)}` : ""}, ${a.area.toLocaleString("en")} px`;
  }

  draw() {
    const p = this.picture;
    if (!p?.ready) return;
    const room = this.stage.getBoundingClientRect(), fit = Math.min((room.width - 2) / p.width, (room.height - 2) / p.height);
    const dots = window.devicePixelRatio || 1, w = Math.round(p.width * fit), h = Math.round(p.height * fit);
    if (w < 1 || h < 1) return;
    this.fit = fit;
    Object.assign(this.canvas.style, { width: `${w}px`, height: `${h}px` });
    Object.assign(this.canvas, { width: Math.round(w * dots), height: Math.round(h * dots) });
    const pen = this.pen, scale = this.canvas.width / p.width, shown = this.wanted.filter((a) => a.shown);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.imageSmoothingQuality = "high";
    if (this.mode === "cut") this.cut(shown, p);
    else pen.drawImage(p.pixels, 0, 0, p.width, p.height);
    if (this.mode === "soft" || this.mode === "hard") {
      const hard = this.mode === "hard";
      pen.globalAlpha = VEIL;
      // the best one comes last, so that it lies on top; layers lie as they were pasted, from the back
      for (const a of this.slider ? [...shown].reverse() : shown) pen.drawImage(tinted(a, hard), a.left, a.top, a.w, a.h);
      pen.globalAlpha = 1;
      pen.lineWidth = 1.5 * dots / scale;
      for (const a of shown) { pen.strokeStyle = rgb(a.hue); pen.stroke(outline(a)); }
    }
    // what is labelled: white on black can be told on any image, and from any colour
    if (this.truth?.checked) for (const [width, ink] of [[4, "rgba(0,0,0,.6)"], [2, "#fff"]]) {
      pen.lineWidth = (p.labelled[0]?.hue === undefined ? width * 0.66 : width) * dots / scale;
      for (const a of p.labelled) {
        pen.strokeStyle = a.hue === undefined || width === 4 ? ink : rgb(a.hue);
        pen.stroke(outline(a));
      }
    }
    if (this.near) this.ring(this.near, dots / scale);
  }
  cut(shown, p) {
    const pen = this.pen, sheet = make(p.width, p.height), ink = sheet.getContext("2d"), size = 12 / this.fit;
    const style = getComputedStyle(document.documentElement);
    for (const a of shown) ink.drawImage(tinted(a, false), a.left, a.top, a.w, a.h);
    ink.globalCompositeOperation = "source-in";
    ink.drawImage(p.pixels, 0, 0, p.width, p.height);
    pen.fillStyle = style.getPropertyValue("--check-a");
    pen.fillRect(0, 0, p.width, p.height);
    pen.fillStyle = style.getPropertyValue("--check-b");
    for (let y = 0; y * size < p.height; y++) for (let x = y % 2; x * size < p.width; x += 2) pen.fillRect(x * size, y * size, size, size);
    pen.drawImage(sheet, 0, 0);
  }
  ring(a, unit) {
    const pen = this.pen;
    pen.setLineDash(a.shown ? [] : [5 * unit, 4 * unit]);
    for (const [width, ink] of [[4.5, "rgba(0,0,0,.75)"], [2.25, "#fff"]]) { pen.lineWidth = width * unit; pen.strokeStyle = ink; pen.stroke(outline(a)); }
    pen.setLineDash([]);
  }

  // The smallest instance whose mask lies under the pointer.
  under(e) {
    if (!this.picture?.ready) return null;
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor((e.clientX - box.left) / this.fit), y = Math.floor((e.clientY - box.top) / this.fit);
    const hit = this.wanted.filter((a) => x >= a.left && y >= a.top && x < a.left + a.w && y < a.top + a.h && a.alpha[(y - a.top) * a.w + x - a.left] >= HALF);
    return hit.length ? hit.reduce((s, a) => (a.area < s.area ? a : s)) : null;
  }
  point(a, e) {
    if (this.near !== a) {
      this.near?.chip?.classList.remove("near");
      a?.chip?.classList.add("near");
      if (a?.chip && e) this.chips.scrollTop = Math.max(0, a.chip.offsetTop - this.chips.offsetTop - 60);
      this.near = a;
      this.draw();
    }
    this.tip.hidden = !a;
    if (!a) return;
    this.tip.textContent = this.words(a) + (a.shown ? "" : ", hidden");
    const c = this.canvas.getBoundingClientRect(), s = this.stage.getBoundingClientRect();
    const x = e ? e.clientX - s.left + 14 : c.left - s.left + (a.left + a.w) * this.fit, y = e ? e.clientY - s.top + 14 : c.top - s.top + a.top * this.fit;
    this.tip.style.left = `${Math.max(4, Math.min(x, s.width - this.tip.offsetWidth - 6))}px`;
    this.tip.style.top = `${Math.max(4, Math.min(y, s.height - this.tip.offsetHeight - 6))}px`;
  }
}

for (const root of document.querySelectorAll(".viewer")) viewers[root.dataset.viewer] = new Viewer(root);
for (const b of document.querySelectorAll(".jump")) b.addEventListener("click", () => {
  const v = viewers[b.dataset.viewer];
  v.show(Number(b.dataset.image));
  v.root.scrollIntoView({ block: "start" });
  v.strip[Number(b.dataset.image)].focus({ preventScroll: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.values(viewers).forEach((v) => v.draw()));

// The page of a run that goes on reads itself again, and comes back to where it was. Nobody is disturbed while they look.
const seconds = Number(document.body.dataset.refresh), key = `genseg ${location.pathname}`;
if (seconds) {
  const hold = document.getElementById("hold");
  let touched = 0;
  hold.hidden = false;
  const held = () => hold.getAttribute("aria-pressed") === "true";
  const put = (on) => { hold.setAttribute("aria-pressed", String(on)); hold.textContent = on ? "Held: follow again" : "Hold still"; };
  hold.addEventListener("click", () => put(!held()));
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel"]) addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  try {
    const kept = JSON.parse(sessionStorage.getItem(key) || "null");
    if (kept) {
      for (const [name, v] of Object.entries(viewers)) if (kept.at?.[name] < v.pictures.length) v.show(kept.at[name]);
      scrollTo({ top: kept.top, behavior: "instant" });
    }
  } catch { /* storage may be forbidden: then the page begins at its top */ }
  setInterval(() => {
    if (held() || document.hidden || Date.now() - touched < 8000) return;
    const at = Object.fromEntries(Object.entries(viewers).map(([name, v]) => [name, v.at]));
    try { sessionStorage.setItem(key, JSON.stringify({ top: scrollY, at })); } catch { /* as above */ }
    location.reload();
  }, seconds * 1000);
}
