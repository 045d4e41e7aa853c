"use strict";
/* The maps of a report: points to look at, to choose from and to list. Text is only ever set as text. */
(() => {
  const OUTCOMES = ["right", "wrong", "not in the test set"];
  const OUTCOME_COLOURS = ["#59a14f", "#e15759", "#9aa2ac"];
  const SPLIT_COLOURS = ["#4e79a7", "#c9a227", "#b07aa1", "#9aa2ac"];
  const NO_CLASS = "#9aa2ac";
  const STRIP = 60;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text ?? "" }, more);
  const count = (number) => number.toLocaleString("en");

  function names(coded) {
    const found = new Array(coded.length / 2);
    for (let n = 0, before = ""; n < found.length; n++) {
      before = before.slice(0, coded[2 * n]) + coded[2 * n + 1];
      found[n] = before;
    }
    return found;
  }

  function read(data) {
    const found = {
      ...data,
      x: new Float32Array(bytes(data.x)),
      y: new Float32Array(bytes(data.y)),
      ids: names(data.ids),
      classes: new Uint16Array(bytes(data.classes)),
      splits: new Uint8Array(bytes(data.splits)),
      runs: data.runs.map((run) => ({ name: run.name, called: new Uint16Array(bytes(run.called)) })),
      tileOf: new Map(),
    };
    new Uint32Array(bytes(data.tiles)).forEach((point, tile) => found.tileOf.set(point, tile));
    return found;
  }

  function start(root) {
    const data = read(JSON.parse(document.getElementById("map-data-" + root.dataset.map).textContent));
    const find = (selector) => root.querySelector(selector);
    const canvas = find(".canvas"), hover = find(".hover"), area = find("textarea");
    const total = data.ids.length;
    let groups = [], chosen = [], shown = 0, drag = "lasso";

    const className = (label) => (label === data.unknown ? "no label" : data.classNames[label]);
    const outcome = (run, point) => {
      const called = data.runs[run].called[point];
      if (called === data.unknown || data.classes[point] === data.unknown) return 2;
      return called === data.classes[point] ? 0 : 1;
    };

    /* Ways to colour: name -> (group of a point, names of the groups, their colours). */
    const ways = new Map();
    if (data.classNames.length) {
      ways.set("class", {
        of: (point) => Math.min(data.classes[point], data.classNames.length),
        names: [...data.classNames, "no label"],
        colours: [...data.classColours, NO_CLASS],
      });
    }
    ways.set("split", { of: (point) => data.splits[point], names: data.splitNames, colours: SPLIT_COLOURS });
    data.runs.forEach((run, number) => {
      const title = data.runs.length > 1 ? "correctness: " + run.name : "correctness";
      ways.set(title, { of: (point) => outcome(number, point), names: OUTCOMES, colours: OUTCOME_COLOURS });
    });

    function details(point) {
      const lines = [data.ids[point], className(data.classes[point]) + ", " + data.splitNames[data.splits[point]]];
      data.runs.forEach((run, number) => {
        if (run.called[point] === data.unknown) return;
        const who = data.runs.length > 1 ? run.name + ": " : "";
        lines.push(who + "called " + className(run.called[point]) + " (" + OUTCOMES[outcome(number, point)] + ")");
      });
      return lines;
    }

    function tile(point) {
      const number = data.tileOf.get(point);
      if (number === undefined) return null;
      const across = data.across, whole = across * across, inside = number % whole;
      const picture = make("span", "", { className: "tile", role: "img", ariaLabel: data.ids[point] });
      picture.style.backgroundImage = "url(" + data.sheets[Math.floor(number / whole)] + ")";
      picture.style.backgroundPosition =
        -(inside % across) * data.tile + "px " + -Math.floor(inside / across) * data.tile + "px";
      return picture;
    }

    function traces() {
      const way = ways.get(find("[name=colour]").value);
      const lists = way.names.map(() => []);
      for (let point = 0; point < total; point++) lists[way.of(point)].push(point);
      groups = lists.map((points, number) => ({ points, name: way.names[number], colour: way.colours[number] }));
      groups = groups.filter((group) => group.points.length).map((group) => ({ ...group, on: true }));
      const size = Math.max(3, Math.min(8, 90 / Math.sqrt(total) + 3));
      return groups.map((group) => ({
        type: webgl() ? "scattergl" : "scatter",
        mode: "markers",
        x: Float32Array.from(group.points, (point) => data.x[point]),
        y: Float32Array.from(group.points, (point) => data.y[point]),
        marker: { size, color: group.colour, opacity: total > 20000 ? 0.55 : 0.8, line: { width: 0 } },
        selected: { marker: { opacity: 1 } },
        unselected: { marker: { opacity: 0.15 } },
        hoverinfo: "none",
        showlegend: false,
      }));
    }

    function webgl() {
      webgl.known ??= Boolean(document.createElement("canvas").getContext("webgl"));
      return webgl.known;
    }

    function axis(title) {
      return {
        title: { text: title, font: { size: 12 }, standoff: 8 },
        gridcolor: colour("--line"),
        zeroline: false,
        tickfont: { size: 11 },
        automargin: true,
      };
    }

    const layout = () => ({
      dragmode: drag,
      hovermode: "closest",
      margin: { l: 8, r: 8, t: 8, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--muted"), family: "system-ui, sans-serif" },
      xaxis: axis(data.axes[0]),
      yaxis: axis(data.axes[1]),
      showlegend: false,
      uirevision: "kept",
    });
    const settings = { displayModeBar: false, displaylogo: false, responsive: true, doubleClick: "reset" };
    const draw = () => Plotly.react(canvas, traces(), layout(), settings).then(legend);

    function legend() {
      const list = find(".legend ul");
      list.replaceChildren(
        ...groups.map((group, number) => {
          const box = make("input", "", { type: "checkbox", checked: group.on });
          box.addEventListener("change", () => toggle([number], box.checked));
          const label = make("label"), mark = make("i");
          mark.style.background = group.colour;
          label.append(box, mark, make("span", group.name), make("small", count(group.points.length)));
          const item = make("li");
          item.append(label);
          return item;
        }),
      );
    }

    function toggle(numbers, on) {
      numbers.forEach((number) => (groups[number].on = on));
      Plotly.restyle(canvas, { visible: on }, numbers);
    }

    function choose(points) {
      chosen = points;
      shown = 0;
      find(".chosen").hidden = !points.length;
      area.value = points.map((point) => data.ids[point]).join("\n");
      find(".about").textContent = count(points.length) + (points.length === 1 ? " image" : " images") + " chosen.";
      find(".picked").replaceChildren();
      find(".detail").textContent = "";
      more();
    }

    function more() {
      const next = chosen.slice(shown, shown + STRIP);
      find(".picked").append(
        ...next.map((point) => {
          const button = make("button", "", { type: "button", title: data.ids[point] });
          button.append(tile(point) ?? make("span", "no picture"), make("span", className(data.classes[point])));
          const tell = () => (find(".detail").textContent = details(point).join(" · "));
          button.addEventListener("focus", tell);
          button.addEventListener("click", tell);
          const item = make("li");
          item.append(button);
          return item;
        }),
      );
      shown += next.length;
      find("[data-more]").hidden = shown >= chosen.length;
    }

    function over(event) {
      const at = event.points[0];
      const point = groups[at.curveNumber].points[at.pointNumber];
      const [id, ...rest] = details(point);
      hover.replaceChildren(tile(point) ?? make("span", "", { hidden: true }), make("strong", id));
      rest.forEach((line) => hover.append(make("div", line)));
      hover.hidden = false;
      const place = canvas.getBoundingClientRect();
      const x = event.event.clientX - place.left, y = event.event.clientY - place.top;
      hover.style.left = (x > place.width / 2 ? Math.max(x - hover.offsetWidth - 16, 0) : x + 16) + "px";
      hover.style.top = Math.max(Math.min(y - 40, place.height - hover.offsetHeight - 8), 4) + "px";
    }

    function fill(name, entries) {
      find("[name=" + name + "]").replaceChildren(
        ...entries.map(([value, text]) => make("option", text, { value: String(value) })),
      );
    }

    function list(event) {
      event.preventDefault();
      const wanted = Object.fromEntries(["class", "split", "outcome"].map((name) => [name, find("[name=" + name + "]").value]));
      const part = find("[name=text]").value;
      const [run, result] = wanted.outcome.split(":").map(Number);
      const points = [];
      for (let point = 0; point < total; point++) {
        if (wanted.class !== "" && data.classes[point] !== Number(wanted.class)) continue;
        if (wanted.split !== "" && data.splits[point] !== Number(wanted.split)) continue;
        if (wanted.outcome !== "" && outcome(run, point) !== result) continue;
        if (part && !data.ids[point].includes(part)) continue;
        points.push(point);
      }
      choose(points);
    }

    function zoom(factor) {
      if (!factor) return Plotly.relayout(canvas, { "xaxis.autorange": true, "yaxis.autorange": true });
      const changed = {};
      for (const name of ["xaxis", "yaxis"]) {
        const [low, high] = canvas._fullLayout[name].range;
        const middle = (low + high) / 2, half = ((high - low) / 2) * factor;
        changed[name + ".range"] = [middle - half, middle + half];
      }
      return Plotly.relayout(canvas, changed);
    }

    async function copy() {
      area.select();
      try {
        await navigator.clipboard.writeText(area.value);
      } catch {
        document.execCommand("copy");
      }
      find("[data-copy]").textContent = "Copied";
      setTimeout(() => (find("[data-copy]").textContent = "Copy the ids"), 1500);
    }

    fill("colour", [...ways.keys()].map((name) => [name, name]));
    fill("class", [["", "any"], ...data.classNames.map((name, label) => [label, name]), [data.unknown, "no label"]]);
    const splits = [...new Set(data.splits)].sort();
    fill("split", [["", "any"], ...splits.map((split) => [split, data.splitNames[split]])]);
    const who = (run) => (data.runs.length > 1 ? ": " + run.name : "");
    fill("outcome", [
      ["", "any"],
      ...data.runs.flatMap((run, number) => [0, 1].map((result) => [number + ":" + result, OUTCOMES[result] + who(run)])),
    ]);

    find(".live").hidden = false;
    find(".still").hidden = true;
    draw().then(() => {
      canvas.on("plotly_hover", over);
      canvas.on("plotly_unhover", () => (hover.hidden = true));
      canvas.on("plotly_selected", (event) => {
        if (!event) return;
        choose(event.points.map((at) => groups[at.curveNumber].points[at.pointNumber]).sort((a, b) => a - b));
      });
      root.dataset.ready = "yes";
    });
    find("[name=colour]").addEventListener("change", draw);
    find(".filters").addEventListener("submit", list);
    find("[data-more]").addEventListener("click", more);
    find("[data-copy]").addEventListener("click", copy);
    for (const button of root.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
    }
    for (const button of root.querySelectorAll("[data-all]")) {
      button.addEventListener("click", () => {
        toggle(groups.map((_, number) => number), Boolean(button.dataset.all));
        legend();
      });
    }
    for (const button of root.querySelectorAll("[data-drag]")) {
      button.addEventListener("click", () => {
        drag = button.dataset.drag;
        root.querySelectorAll("[data-drag]").forEach((other) => other.setAttribute("aria-pressed", other === button));
        Plotly.relayout(canvas, { dragmode: drag });
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  document.querySelectorAll(".map").forEach(start);
})();
