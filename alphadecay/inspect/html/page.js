// Draws the figures that the page holds as JSON, in the colours that the reader's system prefers,
// and moves the maps and trajectories over the refreshes, which it holds once.
"use strict";

const read = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "null");
const root = document.documentElement;
const finger = matchMedia("(pointer: coarse)").matches;
const dark = matchMedia("(prefers-color-scheme: dark)");
const darkColours = read("dark");
const NARROW = 400; // pixels of a chart in which buttons would stand on the name of its axis
const config = {
  responsive: true,
  displaylogo: false,
  // Named one by one: among plotly's own there is one that sends the chart to its maker's server.
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  showSendToCloud: false,
  plotlyServerURL: "",
};
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// A copy is drawn: plotly writes into what it is given.
function themed(value) {
  if (!dark.matches) return structuredClone(value);
  if (typeof value === "string") return darkColours[value] ?? value;
  if (Array.isArray(value)) return value.map(themed);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, themed(inner)]));
}

function draw({ id, data, layout }) {
  const own = themed(layout);
  if (finger) {
    // A finger scrolls the page; only a mouse zooms into a chart.
    own.dragmode = false;
    for (const name of Object.keys(own).filter((key) => /^[xy]axis/.test(key))) {
      own[name].fixedrange = true;
    }
  }
  const narrow = document.getElementById(id).clientWidth < NARROW;
  // A map has no axis below it, and nothing to zoom into.
  const displayModeBar = finger || narrow || id.startsWith("map-") ? false : "hover";
  return Plotly.newPlot(id, themed(data), own, { ...config, displayModeBar });
}

async function drawAll(figures) {
  for (const figure of figures) {
    await draw(figure);
    await pause(0);
  }
}

// --- the refreshes: values[quantity] is [refresh, layer, type], float32, in one row ---

function unpack(refreshes) {
  const floats = (text) =>
    new Float32Array(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);
  const values = Object.fromEntries(
    Object.entries(refreshes.values).map(([name, text]) => [name, floats(text)]),
  );
  const columns = refreshes.types.length;
  const at = (name, refresh, layer, type) => {
    const value = values[name][(refresh * refreshes.layers.length + layer) * columns + type];
    return Number.isNaN(value) ? null : value;
  };
  return { ...refreshes, names: Object.keys(values), at };
}

// Returns what shows the refresh of the slider again.
function movie(run, figures) {
  const [slider, button, label, own] = ["refresh", "play", "when", "own"].map((id) =>
    document.getElementById(id),
  );
  const last = run.steps.length - 1;
  let playing = false;
  let busy = false;
  let again = false;

  async function show() {
    label.textContent = `step ${run.steps[slider.value].toLocaleString("en")}`;
    again = true;
    if (busy) return;
    busy = true;
    while (again) {
      // What was asked for meanwhile comes next, and only the latest of it.
      again = false;
      await Promise.all(
        run.names.map((name) =>
          Plotly.restyle(`map-${name}`, cells(name, Number(slider.value)), [0]),
        ),
      );
    }
    busy = false;
  }

  function cells(name, refresh) {
    const z = run.layers.map((_, layer) =>
      run.types.map((_, type) => run.at(name, refresh, layer, type)),
    );
    const { zmin, zmax } = figures.find((figure) => figure.id === `map-${name}`).data[0];
    return own.checked ? { z: [z], zauto: true } : { z: [z], zauto: false, zmin, zmax };
  }

  async function play() {
    playing = !playing;
    button.textContent = playing ? "Pause" : "Play";
    if (playing && Number(slider.value) === last) slider.value = -1;
    while (playing && Number(slider.value) < last) {
      slider.value = Number(slider.value) + 1;
      await show();
      await pause(Math.max(60, Math.min(500, 12000 / last)));
    }
    playing = false;
    button.textContent = "Play";
  }

  slider.addEventListener("input", show);
  own.addEventListener("change", show);
  button.addEventListener("click", play);
  return show;
}

function layerLines(run, name, type) {
  const colours = run.colours[dark.matches ? "dark" : "light"];
  return run.layers.map((layer, row) => ({
    x: run.steps,
    y: run.steps.map((_, refresh) => run.at(name, refresh, row, type)),
    name: `layer ${layer}`,
    mode: "lines",
    line: { color: colours[row], width: 1.5 },
    hovertemplate: `step %{x}, layer ${layer}: %{y:.3~r}<extra></extra>`,
    showlegend: false,
  }));
}

// Draws nothing: it stands for the scale of colours.
function layerScale(run) {
  const colours = run.colours[dark.matches ? "dark" : "light"];
  const last = run.layers.length - 1;
  return {
    x: [null],
    y: [null],
    mode: "markers",
    showlegend: false,
    hoverinfo: "skip",
    marker: {
      color: [0],
      cmin: 0,
      cmax: last,
      colorscale: colours.map((colour, row) => [row / Math.max(1, last), colour]),
      showscale: last > 0,
      colorbar: {
        orientation: "h",
        thickness: 8,
        y: 1.02,
        yanchor: "bottom",
        tickfont: { size: 11 },
        dtick: Math.ceil(run.layers.length / 8),
        tickprefix: "layer ",
        showtickprefix: "first",
        outlinewidth: 0,
      },
    },
  };
}

// Returns what draws the choice again.
function chooser(run, figures) {
  const select = document.getElementById("type");

  async function show() {
    const type = Number(select.value);
    for (const name of run.names) {
      const whole = figures.find((figure) => figure.id === `lines-${name}`);
      const data = [...layerLines(run, name, type), layerScale(run)];
      const layout = { ...whole.layout, hovermode: "closest" };
      await draw(type < 0 ? whole : { ...whole, data, layout });
    }
  }

  select.addEventListener("change", show);
  return show;
}

async function main() {
  const figures = read("figures");
  const refreshes = read("refreshes");
  const again = [() => drawAll(figures)];
  await drawAll(figures);
  if (refreshes && refreshes.steps.length > 1) {
    const run = unpack(refreshes);
    again.push(movie(run, figures), chooser(run, figures));
  }
  dark.addEventListener("change", async () => {
    for (const show of again) await show();
  });
  root.dataset.drawn = figures.length;
}

main().catch((error) => {
  const place = document.getElementById("trouble");
  place.textContent = `The charts could not be drawn: ${error.message}`;
  place.hidden = false;
  throw error;
});
