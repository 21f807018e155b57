"use strict";
// Charts are drawn when they come near the screen, in the colours of the moment, and all of them before printing.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const charts = [...document.querySelectorAll("[data-chart]")];
  const drawn = new Set();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const LIGHT = {
    paper: "#ffffff", ink: "#1a2230", muted: "#64708a", grid: "#e9ecf1", veil: "rgba(255,255,255,.82)", from: "#ffffff",
    to: "#2f6fdb", complete: "#2f6fdb", pruned: "#d98e2b", failed: "#cf3f4a", best: "#12956f",
  };
  const named = (name) => (printing && LIGHT[name]) || color(name);

  // "@complete" is the colour of that name, "@sequential" the scale from nothing to much; a class may be called so too.
  const COLORED = new Set(["color", "bgcolor", "fillcolor", "colorscale"]);
  const painted = (value, key) => {
    if (typeof value === "string" && value[0] === "@" && COLORED.has(key)) {
      if (key === "fillcolor") return named(value.slice(1)) + "26"; // a band: 15 % of it, so that bands overlap
      return value === "@sequential" ? [[0, named("from")], [1, named("to")]] : named(value.slice(1));
    }
    if (Array.isArray(value)) return typeof value[0] === "object" && value[0] ? value.map((v) => painted(v)) : value;
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v, k)]));
    return value;
  };

  const axis = (given, narrow) => {
    const base = { gridcolor: named("grid"), zeroline: false, linecolor: named("grid"), tickcolor: named("grid"), ticks: "" };
    const made = { ...base, ...(given || {}) };
    if (typeof made.title === "string") made.title = { text: made.title, font: { size: 12, color: named("muted") }, standoff: 8 };
    if (narrow && made.title && made.automargin !== true) made.automargin = true;
    return made;
  };

  const layoutOf = (figure, element) => {
    const given = painted(figure.layout);
    const narrow = element.clientWidth < 480;
    const base = {
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12, color: named("ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, hovermode: "closest",
      margin: { l: 58, r: 14, t: 34, b: 48 },
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)", font: { size: 12 } },
      hoverlabel: { bgcolor: named("paper"), bordercolor: named("muted"), font: { color: named("ink"), size: 12 }, align: "left" },
      dragmode: narrow || matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
    const made = { ...base, ...given };
    made.margin = { ...base.margin, ...(given.margin || {}) };
    made.legend = { ...base.legend, ...(given.legend || {}) };
    made.width = element.clientWidth;
    if ((given.yaxis || {}).scaleanchor) made.height = Math.min(made.height, made.width + 60);
    element.style.height = made.height + "px";
    for (const key of ["xaxis", "yaxis"]) made[key] = axis(given[key], narrow);
    if (given.yaxis2) made.yaxis2 = axis(given.yaxis2, narrow);
    return made;
  };

  const draw = (element) => {
    const figure = figures[element.dataset.chart];
    drawn.add(element);
    const config = { displaylogo: false, responsive: false, displayModeBar: false, doubleClick: "reset" };
    const done = Plotly.react(element, painted(figure.data), layoutOf(figure, element), config);
    if (figure.details && !element.dataset.clicks) {
      element.dataset.clicks = "1";
      element.on("plotly_click", (event) => showDetails(element, figure.details[event.points[0].customdata]));
    }
    return done;
  };

  // What a clicked point stands for, below its chart.
  const showDetails = (element, rows) => {
    if (!rows) return;
    const list = document.querySelector(`[data-details="${CSS.escape(element.dataset.chart)}"]`);
    list.replaceChildren(...rows.map(([name, value]) => {
      const [row, term, text] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      [term.textContent, text.textContent] = [name, value];
      row.append(term, text);
      return row;
    }));
    list.hidden = false;
  };
  const drawAll = (elements) => Promise.all([...elements].map(draw));

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
  }, { rootMargin: "600px" });
  charts.forEach((element) => near.observe(element));

  dark.addEventListener("change", () => drawAll(drawn));
  let later;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's address bar comes and goes
    width = innerWidth;
    clearTimeout(later);
    later = setTimeout(() => drawAll(drawn), 150);
  });
  const print = (on) => { printing = on; drawAll(on ? charts : drawn); };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  window.podiumReport = { drawAll: () => drawAll(charts), charts: charts.length };
})();
