"use strict";
// Draws the figures of the page. All data are in the page, compressed with gzip and written as base64.

const ROWS = 20; // of the table of trials

async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// Plotly's arrays of numbers: {dtype: "f4", bdata: base64}.
const ARRAYS = {
  f4: Float32Array, f8: Float64Array, i1: Int8Array, i2: Int16Array, i4: Int32Array,
  u1: Uint8Array, u2: Uint16Array, u4: Uint32Array,
};

function numbers(array) {
  if (!array || array.bdata === undefined) return array || [];
  const bytes = Uint8Array.from(atob(array.bdata), (c) => c.charCodeAt(0));
  return new ARRAYS[array.dtype](bytes.buffer);
}

// Colours: as the system has them, until the button chooses.

const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";

const isNarrow = () => innerWidth < 640;

function nextTheme() {
  const root = document.documentElement;
  root.dataset.theme = isDark() ? "light" : "dark";
}

// Figures are drawn when they come near the window, because a browser draws a few WebGL figures at a time only.

class Figures {
  constructor(data) {
    this.data = data;
    this.near = new IntersectionObserver((seen) => this.look(seen), { rootMargin: "600px" });
    document.querySelectorAll("[data-figure]").forEach((place) => this.near.observe(place));
  }

  look(seen) {
    seen.filter((entry) => entry.isIntersecting).forEach((entry) => this.draw(entry.target));
  }

  template() {
    return this.data.templates[isDark() ? "dark" : "light"];
  }

  arrange(place) {
    const changes = place.layout.meta && place.layout.meta[isNarrow() ? "narrow" : "wide"];
    if (changes && place.arranged !== isNarrow()) {
      place.arranged = isNarrow();
      return Plotly.relayout(place, changes);
    }
  }

  async draw(place) {
    this.near.unobserve(place);
    if (place.drawn) return place.drawn;
    const { data, layout } = this.data.figures[place.dataset.figure];
    const config = { responsive: true, displaylogo: false, showTips: false };
    place.drawn = Plotly.newPlot(place, data, { ...layout, template: this.template() }, config);
    await place.drawn;
    await this.arrange(place);
    if (place.dataset.figure === "parallel" && data.length) new Trials(place, this.data.trials);
    return place.drawn;
  }

  drawAll() {
    return Promise.all([...document.querySelectorAll("[data-figure]")].map((place) => this.draw(place)));
  }

  arrangeAll() {
    document.querySelectorAll(".js-plotly-plot").forEach((place) => this.arrange(place));
  }

  recolour() {
    document.querySelectorAll(".js-plotly-plot").forEach((place) => {
      Plotly.relayout(place, { template: this.template() });
    });
  }
}

// The table of trials shows the best of those whose lines pass all brushes. The last lines are the best trials.

class Trials {
  constructor(place, trials) {
    this.place = place;
    this.trials = trials;
    this.lanes = place.data[0].dimensions.map((lane) => numbers(lane.values));
    document.getElementById("clear").onclick = () => this.clear();
    place.on("plotly_restyle", () => this.show());
    this.show();
  }

  clear() {
    const brushes = Object.fromEntries(this.lanes.map((_, i) => [`dimensions[${i}].constraintrange`, null]));
    Plotly.restyle(this.place, brushes, [0]);
  }

  selected() {
    const brushes = this.place.data[0].dimensions
      .map((lane, i) => [i, lane.constraintrange])
      .filter(([, range]) => range && range.length)
      .map(([i, range]) => [i, Array.isArray(range[0]) ? range : [range]]);
    const passes = (row) =>
      brushes.every(([i, ranges]) => ranges.some(([low, high]) => low <= this.lanes[i][row] && this.lanes[i][row] <= high));
    return [...this.trials.rows.keys()].filter(passes).reverse();
  }

  show() {
    const rows = this.selected();
    const count = (n) => n.toLocaleString("en");
    document.getElementById("selected").textContent =
      `${count(rows.length)} of ${count(this.trials.rows.length)} trials pass; the best of them:`;
    const table = document.getElementById("best-trials");
    table.replaceChildren();
    const head = table.createTHead().insertRow();
    this.trials.columns.forEach((name) => {
      const cell = document.createElement("th");
      cell.textContent = name;
      head.append(cell);
    });
    const body = table.createTBody();
    rows.slice(0, ROWS).forEach((row) => {
      const line = body.insertRow();
      this.trials.rows[row].forEach((text) => (line.insertCell().textContent = text));
    });
  }
}

// A page of a study at work is loaded again from time to time, unless somebody is using it.

function reloadSometimes() {
  const everyS = Number(document.body.dataset.reloadS);
  if (!everyS) return;
  let used = -Infinity;
  for (const kind of ["pointerdown", "keydown", "wheel", "touchstart"]) {
    addEventListener(kind, () => (used = performance.now()), { passive: true });
  }
  setInterval(() => {
    if (performance.now() - used > 60_000) location.reload();
  }, everyS * 1000);
}

// Paper is white, so a page that is printed is light.

function printLight(figures) {
  const root = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    figures.recolour();
    figures.drawAll();
  });
  addEventListener("afterprint", () => {
    if (theme === undefined) delete root.dataset.theme;
    else root.dataset.theme = theme;
    figures.recolour();
  });
}

async function main() {
  if (typeof DecompressionStream === "undefined") {
    document.querySelectorAll(".plot").forEach((place) => (place.textContent = "The figures need a browser of 2024 or later."));
    return;
  }
  const library = document.createElement("script");
  library.textContent = await unpack("plotly");
  document.head.append(library);
  const figures = new Figures(JSON.parse(await unpack("data")));
  document.getElementById("theme").onclick = () => {
    nextTheme();
    figures.recolour();
  };
  system.addEventListener("change", () => figures.recolour());
  addEventListener("resize", () => figures.arrangeAll());
  printLight(figures);
  window.caviar = figures; // for tests
  reloadSometimes();
}

main();
