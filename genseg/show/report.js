"use strict";
// The viewers of a page, and how the page of a run that goes on keeps itself fresh. Plain JavaScript, no library.
const data = JSON.parse(document.getElementById("page-data").textContent);
const PALETTE = data.palette, VEIL = 0.5, HALF = 128, viewers = {};
const MOST_ZOOM = 32, ZOOM_STEP = 1.5, PAN_STEP = 60, DRAGGED = 4, SCROLLING = 300;  // times, times, pixels, pixels, milliseconds
let scrolled = 0;  // when the page was scrolled last: the wheel that scrolls it does not begin to zoom under way
addEventListener("scroll", () => { scrolled = Date.now(); }, { passive: true });
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

// A box as a path: its window's edge.
function frame(a) {
  const path = new Path2D();
  path.rect(a.left, a.top, a.w, a.h);
  return path;
}
// A score with two digits that say something.
const said = (score) => score.toFixed(score < 0.0995 ? 3 : 2);
const light = (n) => PALETTE[n][0] * 0.3 + PALETTE[n][1] * 0.59 + PALETTE[n][2] * 0.11 > 120;

class Viewer {
  constructor(root) {
    const find = (name) => root.querySelector(name);
    Object.assign(this, {
      root, name: root.dataset.viewer, ...data[root.dataset.viewer], at: 0, near: null, zoom: 1, left: 0, top: 0, drag: null,
      stage: find(".stage"), canvas: find("canvas"), tip: find(".tip"), slider: find(".threshold"), chips: find(".chips"),
      truth: find(".truth input"), modes: [...root.querySelectorAll(".modes input")], strip: [...root.querySelectorAll(".strip button")],
    });
    this.pen = this.canvas.getContext("2d");
    this.threshold ??= 0;
    this.low ??= 0;
    if (this.slider) {
      this.slider.min = this.low;
      this.slider.step = this.threshold < 0.1 ? 0.001 : 0.01;
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
    this.canvas.addEventListener("pointermove", (e) => { if (!this.dragged(e)) this.point(this.under(e), e); });
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", (e) => {
      if (this.drag?.moved) return;  // it was a drag that ended
      const a = this.under(e);
      if (a) this.toggle(a);
    });
    this.listenForZoom(find(".zoom"));
    new ResizeObserver(() => this.draw()).observe(this.stage);
    this.show(0);
  }
  get mode() { return this.modes.find((m) => m.checked).value; }
  get wanted() { return this.picture.instances.filter((a) => a.score >= this.threshold - 1e-9); }

  async show(n) {
    this.at = n;
    const picture = await open(this.pictures[n]);
    if (this.at !== n) return;
    if (this.picture !== picture) Object.assign(this, { zoom: 1, left: 0, top: 0 });
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
      b.append(swatch, a.label ? `${a.label} ${this.slider ? said(a.score) : ""}` : this.slider ? said(a.score) : `layer ${a.n + 1}`);
      b.addEventListener("click", () => this.toggle(a));
      for (const on of ["pointerenter", "focus"]) b.addEventListener(on, () => this.point(a));
      for (const off of ["pointerleave", "blur"]) b.addEventListener(off, () => this.point(null));
      a.chip = b;
      return b;
    }));
    if (focused !== null) this.chips.querySelector(`[data-n="${focused}"]`)?.focus({ preventScroll: true });
    const shown = wanted.filter((a) => a.shown).length, every = p.instances.length + p.small, thing = this.slider ? "instance" : "layer";
    const number = (n) => n.toLocaleString("en"), told = `${number(shown)} of ${number(every)} ${thing}${every === 1 ? "" : "s"}`;
    this.root.querySelector(".count").textContent = told;
    this.root.querySelector(".why").textContent = [
      [p.small, "too small to draw here"], [p.instances.length - wanted.length, `score less than ${said(this.threshold)}`],
      [wanted.length - shown, "hidden by you"],
    ].filter(([n]) => n).map(([n, why]) => `${number(n)} ${why}`).join("; ");
    if (this.slider) this.root.querySelector(".slide output").textContent = said(this.threshold);
    this.canvas.setAttribute("aria-label", `${p.name}: ${told} shown`);
    this.draw();
  }
  words(a) {
    const name = a.label || (this.slider ? `instance ${a.n + 1}` : `layer ${a.n + 1}`);
    return `${name}${this.slider ? `, score ${said(a.score)}` : ""}, ${a.area.toLocaleString("en")} px`;
  }

  // Where the picture lies: `scale` pixels of the page for one of the image, whose pixel (left, top) is the canvas's first.
  place(p, room) {
    const fit = Math.min((room.width - 2) / p.width, (room.height - 2) / p.height);
    this.scale = fit * this.zoom;
    const w = Math.min(p.width * this.scale, room.width - 2), h = Math.min(p.height * this.scale, room.height - 2);
    this.left = Math.max(0, Math.min(this.left, p.width - w / this.scale));
    this.top = Math.max(0, Math.min(this.top, p.height - h / this.scale));
    return [Math.round(w), Math.round(h)];
  }
  draw() {
    const p = this.picture;
    if (!p?.ready) return;
    const dots = window.devicePixelRatio || 1, [w, h] = this.place(p, this.stage.getBoundingClientRect());
    if (w < 1 || h < 1) return;
    Object.assign(this.canvas.style, { width: `${w}px`, height: `${h}px` });
    Object.assign(this.canvas, { width: Math.round(w * dots), height: Math.round(h * dots) });
    this.stage.classList.toggle("zoomed", this.zoom > 1);
    const pen = this.pen, shown = this.wanted.filter((a) => a.shown);
    // at the whole picture's size the canvas is rounded to pixels, and the picture fills it
    const scale = this.zoom > 1 ? this.scale * dots : this.canvas.width / p.width;
    pen.setTransform(scale, 0, 0, scale, -this.left * scale, -this.top * scale);
    pen.imageSmoothingEnabled = scale < 6 * dots;  // from there on pixels are to be seen
    pen.imageSmoothingQuality = "high";
    if (this.mode === "cut") this.cut(shown, p);
    else pen.drawImage(p.pixels, 0, 0, p.width, p.height);
    if (this.mode === "soft" || this.mode === "hard") this.veil(shown, dots / scale);
    if (this.truth?.checked) this.lines(p, dots / scale);
    if (this.mode === "box") this.boxes(shown, dots, scale);
    if (this.near) this.ring(this.near, dots / scale);
  }
  veil(shown, unit) {
    const pen = this.pen, hard = this.mode === "hard";
    pen.globalAlpha = VEIL;
    // the best one comes last, so that it lies on top; layers lie as they were pasted, from the back
    for (const a of this.slider ? [...shown].reverse() : shown) pen.drawImage(tinted(a, hard), a.left, a.top, a.w, a.h);
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5 * unit;
    for (const a of shown) { pen.strokeStyle = rgb(a.hue); pen.stroke(outline(a)); }
  }
  // What is labelled: white on black can be told on any image, and from any colour. A box that is labelled is dashed.
  lines(p, unit) {
    const pen = this.pen, coloured = p.labelled[0]?.hue !== undefined;
    pen.setLineDash(p.boxes ? [6 * unit, 4 * unit] : []);
    for (const [width, ink] of [[4, "rgba(0,0,0,.6)"], [2, "#fff"]]) {
      pen.lineWidth = (coloured ? width : width * 0.66) * unit;
      for (const a of p.labelled) {
        pen.strokeStyle = a.hue === undefined || width === 4 ? ink : rgb(a.hue);
        pen.stroke(p.boxes ? frame(a) : outline(a));
      }
    }
    pen.setLineDash([]);
  }
  // Boxes as lines in the colours of their classes, the best on top, each under its class's name where there is room.
  boxes(shown, dots, scale) {
    const pen = this.pen, unit = dots / scale, tall = 16 * dots, taken = [];
    for (const [width, ink] of [[3.5, () => "rgba(0,0,0,.55)"], [2, (a) => rgb(a.hue)]]) {
      pen.lineWidth = width * unit;
      for (const a of [...shown].reverse()) { pen.strokeStyle = ink(a); pen.stroke(frame(a)); }
    }
    pen.save();
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.font = `600 ${12 * dots}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    const right = this.left + this.canvas.width / scale, bottom = this.top + this.canvas.height / scale;
    const seen = (a) => a.left < right && a.left + a.w > this.left && a.top < bottom && a.top + a.h > this.top;
    for (const a of shown.filter((one) => one.label && seen(one))) {
      const x = Math.max(0, (a.left - this.left) * scale - dots), y = Math.max(0, (a.top - this.top) * scale - tall), wide = pen.measureText(a.label).width + 8 * dots;
      if (taken.some(([u, v, w]) => x < u + w && u < x + wide && y < v + tall && v < y + tall)) continue;
      taken.push([x, y, wide]);
      pen.fillStyle = rgb(a.hue);
      pen.fillRect(x, y, wide, tall);
      pen.fillStyle = light(a.hue) ? "#000" : "#fff";
      pen.fillText(a.label, x + 4 * dots, y + tall / 2 + dots / 2);
    }
    pen.restore();
  }
  cut(shown, p) {
    const pen = this.pen, sheet = make(p.width, p.height), ink = sheet.getContext("2d"), size = 12 / this.scale;
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
    for (const [width, ink] of [[4.5, "rgba(0,0,0,.75)"], [2.25, "#fff"]]) { pen.lineWidth = width * unit; pen.strokeStyle = ink; pen.stroke(this.picture.boxes ? frame(a) : outline(a)); }
    pen.setLineDash([]);
  }

  // A place of the page in pixels of the image.
  inside(e) {
    const box = this.canvas.getBoundingClientRect();
    return [this.left + (e.clientX - box.left) / this.scale, this.top + (e.clientY - box.top) / this.scale];
  }
  // The smallest instance whose mask lies under the pointer.
  under(e) {
    if (!this.picture?.ready) return null;
    const [x, y] = this.inside(e).map(Math.floor);
    const hit = this.wanted.filter((a) => x >= a.left && y >= a.top && x < a.left + a.w && y < a.top + a.h && a.alpha[(y - a.top) * a.w + x - a.left] >= HALF);
    return hit.length ? hit.reduce((s, a) => (a.area < s.area ? a : s)) : null;
  }

  // Zoom and pan: by wheel and drag, and by buttons and arrow keys.
  listenForZoom(tools) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    this.canvas.addEventListener("wheel", (e) => {
      const out = e.deltaY > 0;
      if (!this.picture?.ready || !e.deltaY || (out && this.zoom === 1) || Date.now() - scrolled < SCROLLING) return;  // the page scrolls
      e.preventDefault();
      this.zoomTo(this.zoom * Math.exp(-Math.max(-100, Math.min(100, e.deltaY)) / 250), e);
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (e) => {
      this.drag = e.button === 0 ? { x: e.clientX, y: e.clientY, left: this.left, top: this.top, moved: false, on: true } : null;
    });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { if (this.drag) this.drag.on = false; });
    for (const b of tools.querySelectorAll("button")) b.addEventListener("click", () => {
      this.zoomTo({ in: this.zoom * ZOOM_STEP, out: this.zoom / ZOOM_STEP, fit: 1 }[b.dataset.zoom]);
    });
    tools.addEventListener("keydown", (e) => {
      const by = moves[e.key];
      if (!by || this.zoom === 1) return;
      e.preventDefault();
      this.left += by[0] * PAN_STEP / this.scale;
      this.top += by[1] * PAN_STEP / this.scale;
      this.draw();
    });
  }
  // Zoom so that what lies at a place stays there: under the pointer, or in the middle of what is seen.
  zoomTo(zoom, e) {
    const box = this.canvas.getBoundingClientRect(), at = e ?? { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
    const [x, y] = this.inside(at), stage = this.stage.getBoundingClientRect();
    this.zoom = Math.max(1, Math.min(MOST_ZOOM, zoom));
    if (this.zoom < 1.02) this.zoom = 1;
    const [w, h] = this.place(this.picture, stage), middle = [stage.left + stage.width / 2, stage.top + stage.height / 2];
    this.left = x - (at.clientX - middle[0] + w / 2) / this.scale;
    this.top = y - (at.clientY - middle[1] + h / 2) / this.scale;
    this.point(null);
    this.draw();
  }
  // Whether the pointer drags the picture, which then follows.
  dragged(e) {
    const d = this.drag;
    if (!d?.on || !(e.buttons & 1) || this.zoom === 1) return false;
    const by = [e.clientX - d.x, e.clientY - d.y];
    if (!d.moved && Math.hypot(...by) > DRAGGED) { d.moved = true; this.canvas.setPointerCapture(e.pointerId); this.point(null); }
    if (d.moved) { this.left = d.left - by[0] / this.scale; this.top = d.top - by[1] / this.scale; this.draw(); }
    return d.moved;
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
    const x = e ? e.clientX - s.left + 14 : c.left - s.left + (a.left + a.w - this.left) * this.scale;
    const y = e ? e.clientY - s.top + 14 : c.top - s.top + (a.top - this.top) * this.scale;
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
