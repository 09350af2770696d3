"use strict";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const readJson = (element) => (element ? JSON.parse(element.textContent) : null);

function startViewer(viewer) {
  const stage = viewer.querySelector(".stage");
  const wipe = viewer.querySelector(".wipe");
  const lens = viewer.querySelector(".lens");
  const figures = [...viewer.querySelectorAll(".zooms figure")];
  const scores = readJson(viewer.querySelector(".shot-scores"));
  const labels = Object.fromEntries(
    figures.map((figure) => [
      figure.dataset.layer,
      figure.querySelector("figcaption").childNodes[1].textContent.trim(),
    ])
  );
  const [x, y] = stage.dataset.focus.split(" ").map(Number);
  const look = { x, y, zoom: 4 }; // the point under the magnifier, in 0..1
  let shot = stage.querySelector(".shot");

  function showLayers() {
    const { left, right } = stage.dataset;
    for (const image of stage.querySelectorAll("img")) {
      image.classList.toggle("is-left", image.dataset.layer === left);
      image.classList.toggle("is-right", image.dataset.layer === right);
    }
    stage.querySelector(".tag.left").textContent = labels[left];
    stage.querySelector(".tag.right").textContent = labels[right];
    wipe.setAttribute(
      "aria-label",
      `Wipe: ${labels[left]} to the left, ${labels[right]} to the right`
    );
    moveWipe();
  }

  function moveWipe() {
    stage.style.setProperty("--wipe", `${wipe.value}%`);
    wipe.setAttribute("aria-valuetext", `${Math.round(wipe.value)} % from the left`);
  }

  function magnify() {
    for (const figure of figures) {
      const canvas = figure.querySelector("canvas");
      const image = shot.querySelector(`img[data-layer="${figure.dataset.layer}"]`);
      const density = window.devicePixelRatio || 1;
      const width = canvas.clientWidth, height = canvas.clientHeight;
      if (!image.naturalWidth || !width || !height) continue;
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
      // The zoom counts in pixels of the frame, which may be stored smaller.
      const stored = image.naturalWidth / image.width_;
      const w = Math.min(width / look.zoom, image.width_);
      const h = Math.min(height / look.zoom, image.height_);
      const x = clamp(look.x * image.width_ - w / 2, 0, image.width_ - w);
      const y = clamp(look.y * image.height_ - h / 2, 0, image.height_ - h);
      const context = canvas.getContext("2d");
      const scale = Math.min(width / w, height / h) * density;
      context.imageSmoothingEnabled = false;
      context.drawImage(
        image, x * stored, y * stored, w * stored, h * stored,
        (canvas.width - w * scale) / 2, (canvas.height - h * scale) / 2, w * scale, h * scale
      );
      canvas.dataset.x = x.toFixed(1);
      canvas.dataset.y = y.toFixed(1);
      Object.assign(lens.style, {
        left: `${(100 * x) / image.width_}%`, top: `${(100 * y) / image.height_}%`,
        width: `${(100 * w) / image.width_}%`, height: `${(100 * h) / image.height_}%`,
      });
    }
  }

  function follow(event) {
    const area = stage.getBoundingClientRect();
    look.x = clamp((event.clientX - area.left) / area.width, 0, 1);
    look.y = clamp((event.clientY - area.top) / area.height, 0, 1);
    magnify();
  }

  function showShot(number) {
    for (const other of stage.querySelectorAll(".shot")) {
      other.hidden = other.dataset.shot !== number;
      if (!other.hidden) shot = other;
    }
    for (const figure of figures) {
      const output = figure.querySelector("output");
      if (output) output.textContent = scores[figure.dataset.layer][shot.dataset.position];
    }
    Promise.all([...shot.querySelectorAll("img")].map((image) => image.decode()))
      .catch(() => {}).then(magnify);
  }

  for (const image of stage.querySelectorAll("img")) {
    image.width_ = Number(image.getAttribute("width"));
    image.height_ = Number(image.getAttribute("height"));
  }
  wipe.addEventListener("input", moveWipe);
  stage.addEventListener("pointermove", follow);
  stage.addEventListener("pointerdown", follow);
  wipe.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (!step || !event.shiftKey) return;
    event.preventDefault();
    look.x = clamp(look.x + step[0] / 40, 0, 1);
    look.y = clamp(look.y + step[1] / 40, 0, 1);
    magnify();
  });
  wipe.addEventListener("keyup", (event) => {
    if (event.shiftKey || !/^(Arrow|Home|End|Page)/.test(event.key)) return;
    look.x = wipe.value / 100; // the magnifier stays at the divider
    magnify();
  });
  wipe.addEventListener("focus", magnify);
  viewer.addEventListener("change", (event) => {
    const { name, value } = event.target;
    if (name.endsWith("-pair")) {
      [stage.dataset.left, stage.dataset.right] = value.split(" ");
      showLayers();
    } else if (name.endsWith("-shot")) {
      showShot(value);
    } else if (name.endsWith("-zoom")) {
      look.zoom = Number(value);
      magnify();
    }
  });
  new ResizeObserver(magnify).observe(viewer);
  showLayers();
  showShot("0");
}

function startPlot(plot) {
  const area = plot.querySelector(".area");
  const cursor = plot.querySelector(".cursor");
  const readout = plot.querySelector(".readout");
  const { labels, lines } = readJson(plot.querySelector("script"));
  const last = Object.values(lines)[0].length - 1;

  function show(event) {
    const box = area.getBoundingClientRect();
    const part = clamp((event.clientX - box.left) / box.width, 0, 1);
    const index = Math.round(part * last);
    const place = last ? (100 * index) / last : 50;
    const rows = Object.keys(lines).map((name) => `${labels[name]} ${lines[name][index]}`);
    readout.textContent = [`Frame ${index}`, ...rows].join("\n");
    cursor.style.left = `${place}%`;
    readout.style.left = `${clamp(place, 18, 82)}%`;
    cursor.hidden = readout.hidden = false;
  }

  area.addEventListener("pointermove", show);
  area.addEventListener("pointerdown", show);
  area.addEventListener("pointerleave", () => { cursor.hidden = readout.hidden = true; });
}

document.querySelectorAll("[data-viewer]").forEach(startViewer);
document.querySelectorAll("[data-plot]").forEach(startPlot);
