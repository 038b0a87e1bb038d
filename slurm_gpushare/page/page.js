// Draws the page's figures from its data, as far as the filters let it through. Texts of data are only ever set as
// text, never as markup; a chart is a specification of Vega-Lite (figures.py) and the rows that a function here makes.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const NONE = "(none)", OTHERS = "(others)";
  const MOST_TABLE = 2000, MOST_NAMED = 5, NARROW = 150;
  const PARTS = ["Used", "Idle", "Not measured"];
  const AMOUNTS = ["reserved", "used", "idle", "over", "unmeasured", "energy"];
  const byId = (id) => document.getElementById(id);
  const wanted = {};  // name of a filter: the value that is let through

  // ---- the sums

  const named = (value) => (value === null || value === undefined ? NONE : String(value));
  const passes = (row, names) => names.every((name) => !(name in wanted) || named(row[name]) === wanted[name]);
  // A day is compared with a month by its own.
  const within = (unit) =>
    !(wanted.from && unit.slice(0, wanted.from.length) < wanted.from) &&
    !(wanted.to && unit.slice(0, wanted.to.length) > wanted.to);

  function filtered() {
    return (page.sums ? page.sums.rows : [])
      .filter((row) => passes(row, ["account", "user", "backend"]) && within(row.unit));
  }

  function add(sums, row) {
    for (const name of AMOUNTS) sums[name] = (sums[name] || 0) + (row[name] || 0);
    return sums;
  }

  function finish(sums) {
    const measured = sums.reserved - sums.unmeasured;
    sums.share = measured > 1e-9 ? sums.used / measured : null;
    return sums;
  }

  function grouped(rows, key) {
    const groups = new Map();
    for (const row of rows) {
      const name = key(row);
      groups.set(name, add(groups.get(name) || { name }, row));
    }
    return [...groups.values()].map(finish).sort((a, b) => b.reserved - a.reserved || (a.name < b.name ? -1 : 1));
  }

  function withOthers(groups, most) {
    if (groups.length <= most + 1) return groups;
    const others = groups.slice(most).reduce(add, { name: `${groups.length - most} others` });
    return [...groups.slice(0, most), finish(others)];
  }

  // What was used beyond the share is no part of what was reserved.
  const partsOf = (sums) => [Math.max(0, sums.used - sums.over), sums.idle, sums.unmeasured];

  function inParts(groups, more) {
    return groups.flatMap((sums) => partsOf(sums).map((hours, order) => ({ ...more(sums), part: PARTS[order], order, hours })));
  }

  // ---- each figure's rows: { chart: rows of the chart, table: rows of its table, says: what is in them }

  const ROWS = {
    parts(options) {
      const groups = withOthers(grouped(filtered(), (row) => named(row[options.by])), options.most);
      return { chart: inParts(groups, (sums) => ({ name: sums.name })), table: groups };
    },

    facets(options) {
      const rows = filtered();
      const top = new Set(grouped(rows, (row) => named(row.account)).slice(0, options.most).map((one) => one.name));
      const whose = (row) => (top.has(named(row.account)) ? named(row.account) : OTHERS);
      const names = [...grouped(rows, whose).map((one) => one.name)].sort((a, b) => (a === OTHERS) - (b === OTHERS));
      const units = page.sums.units.filter(within);
      const chart = [], table = [];
      for (const [place, name] of names.entries()) {
        const cells = grouped(rows.filter((row) => whose(row) === name), (row) => row.unit);
        const of = new Map(cells.map((cell) => [cell.name, cell]));
        for (const unit of units) {
          const sums = of.get(unit) || finish(add({ name: unit }, {}));
          chart.push(...inParts([sums], () => ({ name, unit, place })));
          if (of.has(unit)) table.push({ ...sums, name, unit });
        }
      }
      return { chart, table };
    },

    scatter() {
      const users = grouped(filtered(), (row) => named(row.user));
      const drawn = users.filter((one) => one.share !== null && one.reserved > 0);
      const wasters = [];
      for (const one of [...drawn].sort((a, b) => b.idle - a.idle)) {
        // Names that would lie on each other cannot be read.
        const near = (other) =>
          Math.abs(Math.log10(one.reserved / other.reserved)) < 0.12 && Math.abs(one.share - other.share) < 0.06;
        if (wasters.length < MOST_NAMED && !wasters.some(near)) wasters.push(one);
      }
      return { chart: drawn.map((one) => ({ ...one, named: wasters.includes(one) })), table: users };
    },

    histogram() {
      const rows = filtered();
      const bins = rows.length ? rows[0].histogram.map(() => 0) : [];
      for (const row of rows) row.histogram.forEach((hours, bin) => { bins[bin] += hours; });
      const chart = bins.map((hours, bin) => {
        const last = bin === bins.length - 1;
        const range = last ? "100 % and more" : `${bin * 5} to ${bin * 5 + 5} %`;
        return { from: bin / 20, to: bin / 20 + 0.05, range, hours };
      });
      return { chart: chart.some((one) => one.hours > 0) ? chart : [], table: chart };
    },

    heat() {
      const rows = page.heat.rows.filter((row) => within(row.unit) || within(row.unit_end));
      return { chart: rows, table: rows };
    },

    timeline() {
      const gpu = page.timeline.gpus[Number(byId("choose-gpu").value)];
      const what = byId("choose-what").value;
      const jobs = gpu.jobs.filter((job) => passes(job, ["account", "user", "backend"]));
      return { chart: stacked(gpu, jobs, what), table: jobs.map(summed), axis: what };
    },

    course(options) {
      return { chart: page.courses[options.number], table: page.courses[options.number] };
    },
  };

  function stacked(gpu, jobs, what) {
    const { start, wide, bins } = page.timeline;
    const size = what === "memory" ? 1 / 2 ** 30 : 1;
    const reached = new Array(bins).fill(0), gaps = new Map(), chart = [], places = [];
    let top = 0;
    for (const job of jobs) {
      let best = null;
      for (const [bin, use, memory, known] of job.points) {
        const amount = (what === "memory" ? memory : use) * size;
        const low = reached[bin];
        reached[bin] += amount;
        top = Math.max(top, reached[bin]);
        const t0 = start + bin * wide, t1 = t0 + wide;
        const text = what === "memory" ? `${amount.toFixed(2)} GiB` : `${(100 * amount).toFixed(0)} %`;
        const when = clock(t0);
        if (amount > 0) {
          chart.push({ kind: "job", job: job.job, user: job.user, when, text, t0, t1, low, high: low + amount, colour: job.colour });
        }
        if (known < 0.5 && job.from_ms <= t0 && job.to_ms >= t1) {
          gaps.set(bin, { kind: "gap", t0, t1, text: `not measured: ${job.job}`, low: 0, high: 0 });
        }
        if (!best || amount > best.amount) best = { amount, bin, low };
      }
      if (best && (job.own || job.points.length >= bins / 12)) {
        const middle = job.points[Math.floor(job.points.length / 2)][0];
        places.push({ job, middle });
      }
    }
    // A name stands in the middle of its job's time, where the job is high enough to be read.
    for (const { job, middle } of places) {
      const cell = chart.find((one) => one.job === job.job && one.t0 === start + middle * wide);
      if (cell && (job.own || cell.high - cell.low > top * 0.08)) {
        chart.push({ kind: "name", text: job.own ? `${job.job}, this job` : job.job, t0: cell.t0 + wide / 2, low: (cell.low + cell.high) / 2 });
      }
    }
    chart.push(...gaps.values());
    if (!chart.length) return chart;
    if (what === "use") chart.push({ kind: "limit", high: 1 });
    // The chart is as wide as the time is long, whether or not there is a job in all of it.
    chart.push({ kind: "job", t0: start, t1: start + bins * wide, low: 0, high: 0, colour: 0 });
    return chart;
  }

  function summed(job) {
    const known = job.points.reduce((sum, point) => sum + point[3], 0);
    const used = job.points.reduce((sum, point) => sum + point[1], 0);
    const memory = job.points.length ? Math.max(...job.points.map((point) => point[2])) : null;
    return { ...job, mean: known > 0 ? used / known : null, memory };
  }

  // ---- how values are written

  const clock = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

  const FORMS = {
    text: named,
    hours: (value) => (value > 0 && value < 0.1 ? value.toPrecision(2) : value.toFixed(2)),
    percent: (value) => `${(100 * value).toFixed(0)} %`,
    memory: (value) => `${(value / 2 ** 30).toFixed(1)} GiB`,
  };
  const written = (value, form) => (value === null || value === undefined ? "-" : FORMS[form](value));

  function make(tag, text, parent, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== null) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.appendChild(element);
    return element;
  }

  function fillTable(figure, rows) {
    const room = document.querySelector(`details[data-of="${figure.id}"] .scroll`);
    room.replaceChildren();
    const table = make("table", null, room);
    const head = make("tr", null, make("thead", null, table));
    const number = (form) => (form === "text" ? {} : { class: "number" });
    for (const [, heading, form] of figure.table) make("th", heading, head, { scope: "col", ...number(form) });
    const body = make("tbody", null, table);
    for (const row of rows.slice(0, MOST_TABLE)) {
      const line = make("tr", null, body);
      figure.table.forEach(([key, , form], at) => {
        make(at ? "td" : "th", written(row[key], form), line, at ? number(form) : { scope: "row" });
      });
    }
    if (rows.length > MOST_TABLE) make("p", `The first ${MOST_TABLE} of ${rows.length} rows.`, room);
  }

  function described(figure, rows) {
    const first = rows.slice(0, 5).map((row) =>
      figure.table.map(([key, heading, form]) => `${heading} ${written(row[key], form)}`).join(", "));
    const rest = rows.length > 5 ? ` And ${rows.length - 5} more, in the table.` : "";
    return `${figure.title}. ${figure.says} ${first.join("; ")}.${rest}`;
  }

  // ---- charts

  const CONFIG = {
    background: null,
    font: "system-ui, 'DejaVu Sans', sans-serif",
    view: { stroke: null },
    axis: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal" },
    legend: { labelFontSize: 12, titleFontSize: 11, titleFontWeight: "normal" },
  };
  const views = new Map();

  function sized(figure, found, width) {
    const spec = structuredClone(figure.spec);
    spec.data = { name: "rows", values: found.chart };
    spec.config = CONFIG;
    if (spec.facet) {
      const count = new Set(found.chart.map((row) => row.name)).size;
      spec.columns = Math.max(1, Math.min(count, 3, Math.floor(width / NARROW)));
      spec.spec.width = Math.max(80, Math.floor((width - 48) / spec.columns) - 18);
      // Names of days that reach into the next chart are left out.
      const units = [...new Set(found.chart.map((row) => row.unit))];
      const every = Math.ceil(units.length / Math.max(1, Math.floor(spec.spec.width / 48)));
      const last = units.length > every ? units.length * 0.9 : units.length;
      spec.spec.encoding.x.axis.values = units.filter((_, at) => at % every === 0 && at <= last);
    } else if (spec.vconcat) {
      for (const part of spec.vconcat) part.width = Math.max(80, width - 72);
    } else {
      spec.width = width;
      spec.autosize = { type: "fit-x", contains: "padding" };
      if (figure.options?.step) {
        const field = spec.encoding.y.field;
        spec.height = figure.options.step * new Set(found.chart.map((row) => row[field])).size;
      }
    }
    if (found.axis) {
      const kinds = new Set(found.chart.map((row) => row.kind));
      spec.layer = spec.layer.filter((layer) => kinds.has(layer.name));
      const use = found.axis === "use";
      spec.layer[0].encoding.y.axis = { ...spec.layer[0].encoding.y.axis, title: use ? "SM time" : "GiB", format: use ? ".0%" : "" };
      if (!use) delete spec.layer[0].encoding.y.axis.format;
    }
    return spec;
  }

  // What is under the mouse, as text beside it; the keyboard has the same in the tables.
  const tip = make("div", null, document.body, { class: "tip", "aria-hidden": "true", hidden: "" });

  function tell(handler, event, item, value) {
    tip.replaceChildren();
    tip.hidden = !value;
    if (!value) return;
    for (const [name, text] of Object.entries(value)) make("div", `${name}: ${text}`, tip);
    tip.style.left = `${Math.max(4, Math.min(event.pageX + 12, document.body.clientWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${event.pageY + 14}px`;
  }

  async function draw(figure) {
    const room = byId(figure.id);
    const found = ROWS[figure.rows](figure.options || {});
    const empty = !found.chart.length;
    byId(`${figure.id}-empty`).hidden = !empty;
    room.hidden = empty;
    fillTable(figure, found.table);
    views.get(figure.id)?.finalize();
    views.delete(figure.id);
    room.replaceChildren();
    if (empty) return;
    const spec = sized(figure, found, Math.floor(room.clientWidth));
    views.set(figure.id, await vegaEmbed(room, spec, { mode: "vega-lite", renderer: "svg", actions: false, tooltip: tell }));
    // Vega names its drawing itself, and makes it a stop of the keyboard, though there is nothing to be done there.
    room.setAttribute("role", "img");
    room.setAttribute("aria-label", described(figure, found.table));
    room.querySelectorAll("[tabindex]").forEach((element) => element.removeAttribute("tabindex"));
  }

  async function drawAll() {
    for (const figure of page.figures) await draw(figure);
    document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn || 0) + 1);
  }

  // ---- filters

  const form = byId("filters");
  const choices = form ? [...form.querySelectorAll("select")] : [];

  function prepareFilters() {
    if (!form || !page.sums) return;
    for (const choice of choices) {
      const name = choice.dataset.filter;
      const time = name === "from" || name === "to";
      const values = time ? page.sums.units : [...new Set(page.sums.rows.map((row) => named(row[name])))].sort();
      make("option", time ? (name === "from" ? "the beginning" : "the end") : "all", choice, { value: "" });
      for (const value of values) make("option", value, choice, { value: `=${value}` });
      choice.addEventListener("change", apply);
    }
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
  }

  function apply() {
    for (const choice of choices) {
      if (choice.value) wanted[choice.dataset.filter] = choice.value.slice(1);
      else delete wanted[choice.dataset.filter];
    }
    said();
    filterTables();
    return drawAll();
  }

  function said() {
    if (!form) return;
    const rows = filtered();
    const sums = finish(rows.reduce(add, add({}, {})));
    const words = Object.entries(wanted).map(([name, value]) => `${name} ${value}`);
    const what = words.length ? `Shown: ${words.join(", ")}` : "All is shown";
    byId("state").textContent = 
      `${what}: ${FORMS.hours(sums.reserved)} GPU-hours reserved, ${FORMS.hours(sums.used)} used.`;
    for (const place of document.querySelectorAll("[data-sum]")) {
      const name = place.dataset.sum;
      place.textContent = written(sums[name], name === "share" ? "percent" : "hours");
    }
  }

  function filterTables() {
    for (const table of document.querySelectorAll("table[data-filtered]")) {
      const lines = [...table.tBodies[0].rows];
      const names = Object.keys(wanted).map((name) => (name === "from" || name === "to" ? "unit" : name));
      // A line of a whole month says nothing of some days of it.
      const has = (name) => name in lines[0].dataset && (name !== "unit" || lines[0].dataset.unit.length >= page.sums.units[0].length);
      const without = lines.length ? [...new Set(names.filter((name) => !has(name)))] : [];
      for (const line of lines) {
        const known = names.filter((name) => !without.includes(name));
        const shown = passes(line.dataset, known.filter((name) => name !== "unit"));
        line.hidden = !(shown && (!known.includes("unit") || within(line.dataset.unit)));
      }
      table.parentElement.previousElementSibling?.matches(".unfiltered") && table.parentElement.previousElementSibling.remove();
      if (without.length) {
        const line = make("p", `Not filtered by ${without.map((name) => (name === "unit" ? "time" : name)).join(", ")}.`, table.parentElement.parentElement, { class: "empty unfiltered" });
        table.parentElement.before(line);
      }
    }
  }

  function prepareTimeline() {
    const choice = byId("choose-gpu");
    if (!choice || !page.timeline) return;
    page.timeline.gpus.forEach((gpu, number) => make("option", gpu.label, choice, { value: String(number) }));
    const figure = page.figures.find((one) => one.rows === "timeline");
    choice.addEventListener("change", () => draw(figure));
    byId("choose-what").addEventListener("change", () => draw(figure));
  }

  prepareFilters();
  prepareTimeline();
  said();
  let width = document.body.clientWidth, waiting = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 120);
  }).observe(document.body);
  drawAll();
})();
