// Draws the figures that the page holds as JSON, and moves the maps and trajectories over the refreshes, which it holds once.
"use strict";

const read = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "null");
const root = document.documentElement;
const finger = matchMedia("(pointer: coarse)").matches;
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
function draw({ id, data, layout }) {
  const own = structuredClone(layout);
  if (finger) {
    // A finger scrolls the page; only a mouse zooms into a chart.
    own.dragmode = false;
    for (const name of Object.keys(own).filter((key) => /^[xy]axis/.test(key))) own[name].fixedrange = true;
  }
  // Over a map the buttons would hide the names of its columns.
  const displayModeBar = finger || id.startsWith("map-") ? false : "hover";
  return Plotly.newPlot(id, structuredClone(data), own, { ...config, displayModeBar });
}

async function drawAll(figures) {
  for (const figure of figures) {
    await draw(figure);
    await pause(0);
  }
}

// --- the refreshes: values[quantity] is [refresh, layer, type], float32, in one row ---

function unpack(refreshes) {
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const values = Object.fromEntries(Object.entries(refreshes.values).map(([name, text]) => [name, floats(text)]));
  const columns = refreshes.types.length;
  const at = (name, refresh, layer, type) => {
    const value = values[name][(refresh * refreshes.layers.length + layer) * columns + type];
    return Number.isNaN(value) ? null : value;
  };
  return { ...refreshes, names: Object.keys(values), at };
}

function movie(found, figures) {
  const [slider, button, label, own] = ["refresh", "play", "when", "own"].map((id) => document.getElementById(id));
  const last = found.steps.length - 1;
  let playing = false;
  let busy = false;
  let again = false;

  async function show() {
    label.textContent = `step ${found.steps[slider.value].toLocaleString("en")}`;
    again = true;
    if (busy) return;
    busy = true;
    while (again) {
      // What was asked for meanwhile comes next, and only the latest of it.
      again = false;
      await Promise.all(found.names.map((name) => Plotly.restyle(`map-${name}`, cells(name, Number(slider.value)), [0])));
    }
    busy = false;
  }

  function cells(name, refresh) {
    const z = found.layers.map((_, layer) => found.types.map((_, type) => found.at(name, refresh, layer, type)));
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
}

function chooser(found, figures) {
  const select = document.getElementById("type");
  const lines = (name, type) => [
    ...found.layers.map((layer, row) => ({
      x: found.steps,
      y: found.steps.map((_, refresh) => found.at(name, refresh, row, type)),
      name: `layer ${layer}`,
      mode: "lines",
      line: { color: found.colours[row], width: 1.5 },
      hovertemplate: `step %{x}, layer ${layer}: %{y:.3~r}<extra></extra>`,
      showlegend: false,
    })),
    // Draws nothing: it stands for the scale of colours.
    {
      x: [null],
      y: [null],
      mode: "markers",
      showlegend: false,
      hoverinfo: "skip",
      marker: {
        color: [0],
        cmin: 0,
        cmax: found.layers.length - 1,
        colorscale: found.colours.map((colour, row) => [row / (found.layers.length - 1), colour]),
        showscale: found.layers.length > 1,
        colorbar: {
          orientation: "h",
          thickness: 8,
          y: 1.02,
          yanchor: "bottom",
          tickfont: { size: 11 },
          dtick: Math.ceil(found.layers.length / 8),
          tickprefix: "layer ",
          showtickprefix: "first",
          outlinewidth: 0,
        },
      },
    },
  ];
  select.addEventListener("change", () => {
    const type = Number(select.value);
    for (const name of found.names) {
      const whole = figures.find((figure) => figure.id === `lines-${name}`);
      draw(type < 0 ? whole : { ...whole, data: lines(name, type), layout: { ...whole.layout, hovermode: "closest" } });
    }
  });
}

async function main() {
  const figures = read("figures");
  const refreshes = read("refreshes");
  await drawAll(figures);
  if (refreshes && refreshes.steps.length > 1) {
    const found = unpack(refreshes);
    movie(found, figures);
    chooser(found, figures);
  }
  root.dataset.drawn = figures.length;
}

main().catch((error) => {
  const place = document.getElementById("trouble");
  place.textContent = `The charts could not be drawn: ${error.message}`;
  place.hidden = false;
  throw error;
});
