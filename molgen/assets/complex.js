// Poses in a pocket on a canvas: no dependency, no network. Usage: molgenComplex(element, data) with
// data = [{name, trace: [[[x, y, z], ...], ...], pocket: {symbols, pos, bonds, near: [N]},
//          labels: [{text, pos}], reference: mol or null, poses: [{symbols, pos, bonds, facts}]}],
// positions in Angstrom about the pocket's centre.
function molgenComplex(root, data) {
  "use strict";
  const COLOURS = {
    H: "#f4f4f4", N: "#3b5bdb", O: "#e03131", F: "#37b24d", Cl: "#2b8a3e", Br: "#a0522d",
    I: "#7048a8", S: "#f0b400", P: "#f76707", B: "#ffa8a8",
  };
  const canvas = root.querySelector("canvas"), pen = canvas.getContext("2d");
  const list = root.querySelector("[data-role=poses]"), choice = root.querySelector("select");
  const boxes = {};
  for (const box of root.querySelectorAll("input")) {
    boxes[box.name] = box;
    box.addEventListener("change", draw);
  }
  let current = data[0], chosen = 0, zoom = 1, turn = [1, 0, 0, 0, 1, 0, 0, 0, 1];

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
    current = data[index];
    chosen = 0;
    list.replaceChildren(...current.poses.map((pose, k) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = pose.facts;
      button.addEventListener("click", () => pick(k));
      return button;
    }));
    boxes.reference.parentElement.hidden = !current.reference;
    pick(0);
  }

  function pick(k) {
    chosen = k;
    [...list.children].forEach((b, i) => b.setAttribute("aria-pressed", String(i === k)));
    draw();
  }

  // depth from 0 (far) to 1 (near) fades a colour into the background
  function faded(colour, depth, most) {
    const share = Math.min(1, Math.max(0.12, depth)) * (most || 1);
    const n = parseInt(colour.slice(1), 16), back = [238, 241, 245];
    const mix = [n >> 16, (n >> 8) & 255, n & 255].map((c, k) => Math.round(back[k] + (c - back[k]) * share));
    return "rgb(" + mix.join(",") + ")";
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [canvas.clientWidth || 600, canvas.clientHeight || 460];
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#eef1f5";
    pen.fillRect(0, 0, w, h);
    const scale = (zoom * Math.min(w, h)) / 26;
    const project = (p) => {
      const [x, y, z] = [0, 3, 6].map((r) => turn[r] * p[0] + turn[r + 1] * p[1] + turn[r + 2] * p[2]);
      const near = 1 / (1 - Math.min(z, 50) / 70);
      return [w / 2 + x * scale * near, h / 2 - y * scale * near, z, near];
    };
    const depth = (z) => 0.55 + z / 22;
    const things = [];
    const line = (a, b, width, colour, most, lift) => things.push({ z: (a[2] + b[2]) / 2, paint: () => {
      const near = scale * (a[3] + b[3]) / 2;
      pen.lineCap = "round";
      pen.lineWidth = Math.max(1, width * near);
      pen.strokeStyle = faded(colour, depth((a[2] + b[2]) / 2) + (lift || 0), most);
      pen.beginPath();
      pen.moveTo(a[0], a[1]);
      pen.lineTo(b[0], b[1]);
      pen.stroke();
    } });
    const ball = (p, radius, colour) => things.push({ z: p[2] + 0.01, paint: () => {
      pen.beginPath();
      pen.arc(p[0], p[1], radius * scale * p[3], 0, 2 * Math.PI);
      pen.fillStyle = faded(colour, depth(p[2]));
      pen.fill();
    } });
    function sticks(mol, carbon, width, lift) {
      const points = mol.pos.map(project);
      const colour = (i) => (mol.symbols[i] === "C" ? carbon : COLOURS[mol.symbols[i]] || "#9c36b5");
      const bonded = new Set();
      for (const [i, j] of mol.bonds) {
        bonded.add(i);
        bonded.add(j);
        const middle = points[i].map((x, k) => (x + points[j][k]) / 2);
        line(points[i], middle, width, colour(i), 1, lift);
        line(middle, points[j], width, colour(j), 1, lift);
      }
      points.forEach((p, i) => { // metals and single atoms
        if (!bonded.has(i)) ball(p, 0.6, colour(i));
      });
    }
    if (boxes.backbone.checked)
      for (const part of current.trace) {
        const points = part.map(project);
        for (let k = 1; k < points.length; k++) line(points[k - 1], points[k], 0.34, "#8a9ba8", 0.65);
      }
    const pose = current.poses[chosen];
    const close = (p, most) => pose.pos.some((q) => Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]) < most);
    if (boxes.residues.checked) sticks(current.pocket, "#98a3ad", 0.16);
    if (boxes.reference.checked && current.reference) sticks(current.reference, "#2f9e44", 0.16, 0.3);
    sticks(pose, "#e8590c", 0.3, 0.5);
    if (boxes.contacts.checked) {
      const polar = (s) => s === "N" || s === "O";
      pose.pos.forEach((p, i) => polar(pose.symbols[i]) && current.pocket.pos.forEach((q, j) => {
        if (!polar(current.pocket.symbols[j])) return;
        if (Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]) > 3.4) return;
        const [a, b] = [project(p), project(q)];
        for (let k = 0; k < 5; k++) {
          const at = (t) => a.map((x, c) => x + (b[c] - x) * t);
          line(at((k + 0.25) / 5), at((k + 0.75) / 5), 0.07, "#f59f00");
        }
      }));
    }
    things.sort((a, b) => a.z - b.z).forEach((thing) => thing.paint());
    if (boxes.labels.checked) {
      pen.font = "12px system-ui,sans-serif";
      pen.textAlign = "center";
      for (const { text, pos } of current.labels) {
        if (!close(pos, 9)) continue;
        const p = project(pos);
        pen.fillStyle = faded("#212529", depth(p[2]) + 0.15);
        pen.fillText(text, p[0], p[1]);
      }
    }
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
    held.set(event.pointerId, [event.clientX, event.clientY]);
    if (!others.length) return rotate((event.clientX - x) * 0.01, (event.clientY - y) * 0.01);
    const before = Math.hypot(x - others[0][0], y - others[0][1]);
    const after = Math.hypot(event.clientX - others[0][0], event.clientY - others[0][1]);
    if (before > 0) setZoom(after / before);
  });
  for (const kind of ["pointerup", "pointercancel"])
    canvas.addEventListener(kind, (event) => held.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    setZoom(Math.exp(-event.deltaY * 0.001));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (moves[event.key]) { event.preventDefault(); rotate(...moves[event.key]); }
    if (event.key === "+" || event.key === "-") setZoom(event.key === "+" ? 1.1 : 1 / 1.1);
  });
  function setZoom(factor) { zoom = Math.min(8, Math.max(0.2, zoom * factor)); draw(); }

  data.forEach((one, k) => choice.add(new Option(one.name || "complex " + (k + 1), k)));
  choice.hidden = data.length < 2;
  choice.addEventListener("change", () => show(Number(choice.value)));
  window.addEventListener("resize", draw);
  show(0);
}
