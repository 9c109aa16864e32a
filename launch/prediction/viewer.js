"use strict";
// What the page shows is in the JSON element "data" (launch/prediction/viewer.py writes it): instants, each with a picture, joints in
// it and poses for every camera. SVG elements are made once and moved with the slider, so colours stay the style's.

const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const slider = get("time"), said = get("said"), play = get("play"), shown = get("shown"), solid = document.querySelector(".solid");
const pictures = [...document.querySelectorAll(".view")];
const HALF = 100; // of the cube that the skeleton turns in, in the drawing's units
const turn = { yaw: 0, pitch: 0 };

function draw(parent, name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent.appendChild(element);
}

function bones(parent, kind) {
  return data.bones.map(([, , side]) => draw(parent, "line", { class: `${kind} ${side}` }));
}

function move(lines, points) {
  lines.forEach((line, i) => {
    const [a, b] = data.bones[i].slice(0, 2).map((joint) => points[joint]);
    for (const [key, value] of [["x1", a[0]], ["y1", a[1]], ["x2", b[0]], ["y2", b[1]]]) {
      line.setAttribute(key, value.toFixed(1));
    }
  });
}

function triples(flat, size) {
  return Array.from({ length: flat.length / size }, (_, i) => flat.slice(size * i, size * (i + 1)));
}

// -------- pictures

const overlays = pictures.map((view) => bones(view.querySelector("svg"), "bone"));

function showPictures(instant) {
  pictures.forEach((figure, camera) => {
    const view = instant.views[camera];
    const image = figure.querySelector("img"), svg = figure.querySelector("svg");
    figure.classList.toggle("absent", !view.picture);
    figure.querySelector("figcaption span").textContent = view.label;
    if (!view.picture) return;
    image.src = "data:image/jpeg;base64," + view.picture;
    image.alt = `${data.cameras[camera]}, ${view.label}`;
    svg.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
    // Bones are as thick on every screen and in every picture.
    svg.style.setProperty("--thick", Math.max(view.width, view.height) / 130);
    move(overlays[camera], triples(view.joints, 2));
  });
}

// -------- the skeleton that is turned

const CORNERS = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [i & 1, (i >> 1) & 1, i >> 2].map((bit) => (bit ? HALF : -HALF)));
const EDGES = [[0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [1, 3], [4, 6], [5, 7], [0, 4], [1, 5], [2, 6], [3, 7]];
const cube = EDGES.map(() => draw(solid, "line", { class: "cube" }));
const others = data.cameras.map(() => bones(draw(solid, "g", { class: "other" }), "bone"));
const main = draw(solid, "g", {});
const mainBones = bones(main, "bone");
const head = draw(main, "circle", { class: "head", r: 7 });

function turned([x, y, z]) {
  const [sin, cos, up, along] = [Math.sin(turn.yaw), Math.cos(turn.yaw), Math.sin(turn.pitch), Math.cos(turn.pitch)];
  const [across, away] = [cos * x + sin * z, cos * z - sin * x];
  return [across, along * y + up * away, along * away - up * y];
}

// Poses in millimetres to the drawing: x right, y down, z away. In the body's own frame y points up and z at the viewer.
function inDrawing(pose, isBody) {
  const scale = HALF / data.reach;
  return triples(pose, 3).map(([x, y, z]) => (isBody ? [x, -y, -z] : [x, y, z]).map((v) => v * scale));
}

function showSolid(instant) {
  EDGES.forEach(([a, b], i) => {
    const [p, q] = [turned(CORNERS[a]), turned(CORNERS[b])];
    for (const [key, value] of [["x1", p[0]], ["y1", p[1]], ["x2", q[0]], ["y2", q[1]]]) cube[i].setAttribute(key, value);
  });
  const isBody = shown.value === "body";
  const pose = isBody ? instant.canonical : instant.views[Number(shown.value)].inCamera;
  main.style.display = pose ? "" : "none";
  others.forEach((lines, camera) => {
    const other = isBody && data.cameras.length > 1 ? instant.views[camera].canonical : undefined;
    lines[0].parentNode.style.display = other ? "" : "none";
    if (other) move(lines, inDrawing(other, true).map(turned));
  });
  if (!pose) return;
  const points = inDrawing(pose, isBody).map(turned);
  // Nearer bones are drawn over those behind them.
  const depth = data.bones.map(([a, b]) => points[a][2] + points[b][2]);
  [...depth.keys()].sort((i, j) => depth[j] - depth[i]).forEach((i) => main.appendChild(mainBones[i]));
  move(mainBones, points);
  const top = points[data.head];
  head.setAttribute("cx", top[0]);
  head.setAttribute("cy", top[1]);
}

// -------- time

const instant = () => data.instants[Number(slider.value)];

function show() {
  const now = instant();
  showPictures(now);
  showSolid(now);
  const spread = now.spread === null ? "" : `, spread between the views ${now.spread} mm`;
  said.textContent = now.label + spread;
  slider.setAttribute("aria-valuetext", said.textContent);
  const mark = document.querySelector(".mark");
  if (mark) {
    const place = data.instants.length > 1 ? Number(slider.value) / (data.instants.length - 1) : 0;
    mark.setAttribute("x1", 1000 * place);
    mark.setAttribute("x2", 1000 * place);
  }
}

let playing = null;

function stop() {
  clearInterval(playing);
  playing = null;
  play.textContent = "Play";
}

play.addEventListener("click", () => {
  if (playing !== null) return stop();
  play.textContent = "Pause";
  playing = setInterval(() => {
    slider.value = (Number(slider.value) + 1) % data.instants.length;
    show();
  }, data.milliseconds);
});
slider.addEventListener("input", () => {
  stop();
  show();
});
shown.addEventListener("change", face);

// -------- turning, by mouse, finger or arrow keys

// A camera's view begins as the camera sees it; the body's own frame from a little above and to the side.
function face() {
  Object.assign(turn, shown.value === "body" ? { yaw: 0.5, pitch: 0.25 } : { yaw: 0, pitch: 0 });
  showSolid(instant());
}

function turnBy(across, down) {
  turn.yaw += across;
  turn.pitch = Math.max(-1.5, Math.min(1.5, turn.pitch + down));
  showSolid(instant());
}

let last = null;
solid.addEventListener("pointerdown", (event) => {
  solid.setPointerCapture(event.pointerId);
  last = [event.clientX, event.clientY];
});
solid.addEventListener("pointermove", (event) => {
  if (!last) return;
  turnBy((last[0] - event.clientX) / 120, (last[1] - event.clientY) / 120);
  last = [event.clientX, event.clientY];
});
for (const end of ["pointerup", "pointercancel"]) solid.addEventListener(end, () => (last = null));
solid.addEventListener("dblclick", face);
solid.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0.15, 0], ArrowRight: [-0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] }[event.key];
  if (!step) return;
  event.preventDefault();
  turnBy(...step);
});

face();
show();
