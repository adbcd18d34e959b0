// Ball-and-stick viewer on a canvas: no dependency, no network. Usage: molgenViewer(element, data)
// with data = [{name, symbols: [N], pos: [[x, y, z], ...] in Angstrom, bonds: [[i, j, order], ...]}].
function molgenViewer(root, data) {
  "use strict";
  const COLOURS = {
    H: "#f4f4f4", C: "#5b6270", N: "#3b5bdb", O: "#e03131", F: "#37b24d", Cl: "#2b8a3e",
    Br: "#a0522d", I: "#7048a8", S: "#f0b400", P: "#f76707", B: "#ffa8a8", Si: "#d9b382",
  };
  const RADII = { H: 0.24, C: 0.36, N: 0.35, O: 0.34, F: 0.32 };
  const canvas = root.querySelector("canvas");
  const label = root.querySelector("[data-role=name]");
  const pen = canvas.getContext("2d");
  let current = 0, zoom = 1, turn = identity(), mol = null, extent = 1;

  function identity() { return [1, 0, 0, 0, 1, 0, 0, 0, 1]; }

  function times(a, b) {
    const out = new Array(9).fill(0);
    for (let i = 0; i < 3; i++)
      for (let j = 0; j < 3; j++)
        for (let k = 0; k < 3; k++) out[3 * i + j] += a[3 * i + k] * b[3 * k + j];
    return out;
  }

  function rotate(dx, dy) {
    const [cy, sy, cx, sx] = [Math.cos(dx), Math.sin(dx), Math.cos(dy), Math.sin(dy)];
    turn = times(times([1, 0, 0, 0, cx, -sx, 0, sx, cx], [cy, 0, sy, 0, 1, 0, -sy, 0, cy]), turn);
    draw();
  }

  function show(index) {
    current = (index + data.length) % data.length;
    mol = data[current];
    const n = mol.pos.length;
    const centre = [0, 1, 2].map((k) => mol.pos.reduce((sum, p) => sum + p[k], 0) / n);
    mol.centred = mol.pos.map((p) => p.map((x, k) => x - centre[k]));
    extent = Math.max(1.5, ...mol.centred.map((p) => Math.hypot(...p))) + 0.5;
    label.textContent = (mol.name || "molecule " + (current + 1)) +
      (data.length > 1 ? "  (" + (current + 1) + " of " + data.length + ")" : "");
    turn = identity();
    rotate(0.35, 0.3);
  }

  function stick(a, b, width, colour) {
    pen.lineWidth = width + 2;
    pen.strokeStyle = "rgba(40,44,52,0.55)";
    line(a, b);
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    line(a, b);
  }

  function line(a, b) {
    pen.beginPath();
    pen.moveTo(a[0], a[1]);
    pen.lineTo(b[0], b[1]);
    pen.stroke();
  }

  function bond(a, b, order, scale, ends) {
    const dx = b[0] - a[0], dy = b[1] - a[1], length = Math.hypot(dx, dy) || 1;
    const lines = order >= 3 ? 3 : order > 1 ? 2 : 1;
    const width = scale * (lines === 1 ? 0.14 : 0.085), gap = scale * 0.17;
    for (let k = 0; k < lines; k++) {
      const shift = (k - (lines - 1) / 2) * gap;
      const [ox, oy] = [(-dy / length) * shift, (dx / length) * shift];
      const p = [a[0] + ox, a[1] + oy], q = [b[0] + ox, b[1] + oy];
      const middle = [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2];
      pen.setLineDash(order === 1.5 && k === 1 ? [width * 1.5, width * 1.5] : []);
      stick(p, middle, width, ends[0]);
      stick(middle, q, width, ends[1]);
      pen.setLineDash([]);
    }
  }

  function ball(p, radius, colour) {
    const [x, y] = [p[0] - radius * 0.35, p[1] - radius * 0.35];
    const shade = pen.createRadialGradient(x, y, radius * 0.05, p[0], p[1], radius);
    shade.addColorStop(0, "#ffffff");
    shade.addColorStop(0.35, colour);
    shade.addColorStop(1, colour);
    pen.beginPath();
    pen.arc(p[0], p[1], radius, 0, 2 * Math.PI);
    pen.fillStyle = shade;
    pen.fill();
    pen.lineWidth = 1;
    pen.strokeStyle = "rgba(40,44,52,0.55)";
    pen.stroke();
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [canvas.clientWidth || 400, canvas.clientHeight || 300];
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    const scale = (zoom * 0.46 * Math.min(w, h)) / extent;
    const points = mol.centred.map((p) => {
      const [x, y, z] = [0, 3, 6].map((r) => turn[r] * p[0] + turn[r + 1] * p[1] + turn[r + 2] * p[2]);
      const near = 1 / (1 - z / (extent * 5));
      return [w / 2 + x * scale * near, h / 2 - y * scale * near, z, near];
    });
    const radius = (i) => RADII[mol.symbols[i]] || 0.42;
    const toward = (a, b, part) => a.map((x, k) => x + Math.min(part, 0.45) * (b[k] - x));
    const colour = (i) => COLOURS[mol.symbols[i]] || "#d6336c";
    const things = points.map((p, i) => ({ z: p[2], paint: () =>
      ball(p, scale * p[3] * radius(i), colour(i)) }));
    for (const [i, j, order] of mol.bonds) {
      const length = Math.hypot(...mol.centred[i].map((x, k) => x - mol.centred[j][k])) || 1;
      const a = toward(points[i], points[j], (0.9 * radius(i)) / length);
      const b = toward(points[j], points[i], (0.9 * radius(j)) / length);
      things.push({ z: (a[2] + b[2]) / 2 - 0.05, paint: () =>
        bond(a, b, order, scale * (a[3] + b[3]) / 2, [colour(i), colour(j)]) });
    }
    things.sort((a, b) => a.z - b.z).forEach((thing) => thing.paint());
  }

  const held = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const [x, y] = held.get(event.pointerId);
    const others = [...held].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
    const before = others.length ? Math.hypot(x - others[0][0], y - others[0][1]) : 0;
    held.set(event.pointerId, [event.clientX, event.clientY]);
    if (!others.length) return rotate((event.clientX - x) * 0.01, (event.clientY - y) * 0.01);
    const after = Math.hypot(event.clientX - others[0][0], event.clientY - others[0][1]);
    if (before > 0) setZoom(after / before);
  });
  for (const kind of ["pointerup", "pointercancel"])
    canvas.addEventListener(kind, (event) => held.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    setZoom(Math.exp(-event.deltaY * 0.001));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => { zoom = 1; show(current); });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (moves[event.key]) { event.preventDefault(); rotate(...moves[event.key]); }
    if (event.key === "+" || event.key === "-") setZoom(event.key === "+" ? 1.1 : 1 / 1.1);
  });

  function setZoom(factor) { zoom = Math.min(8, Math.max(0.2, zoom * factor)); draw(); }

  for (const [role, step] of [["previous", -1], ["next", 1]]) {
    const button = root.querySelector("[data-role=" + role + "]");
    button.hidden = data.length < 2;
    button.addEventListener("click", () => show(current + step));
  }
  root.addEventListener("show", (event) => { zoom = 1; show(event.detail); });
  window.addEventListener("resize", draw);
  show(0);
}
