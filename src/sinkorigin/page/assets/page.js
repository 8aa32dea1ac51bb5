"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

  // Light and dark

  const theme = document.getElementById("theme");
  const tellTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tellTheme();
    redraw();
  });
  dark.addEventListener("change", () => { tellTheme(); redraw(); });
  tellTheme();

  // Charts: drawn when they come into view, and before printing

  const colours = () => {
    const style = getComputedStyle(root), of = (name) => style.getPropertyValue(name).trim();
    const text = of("--text"), quiet = of("--quiet"), line = of("--line");
    const words = { labelColor: text, titleColor: text };
    return {
      background: "transparent", title: { color: text, anchor: "start" }, legend: words, header: words,
      axis: { ...words, gridColor: line, domainColor: quiet, tickColor: quiet }, view: { stroke: line },
    };
  };
  const chooseNumber = (select, number) => {
    select.selectedIndex = number;
    select.dispatchEvent(new Event("input", { bubbles: true }));
    select.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const chartPlaces = (place) => {
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const shown = (spec.params || []).find((one) => one.name === "shown");
    return shown ? shown.bind.labels : [];
  };
  const drawn = new Map();
  let ready = false;
  const prepare = () => {
    if (ready) return;
    ready = true;
    const script = document.createElement("script");
    script.textContent = document.getElementById("vega").textContent;
    document.head.append(script);
  };
  const draw = async (place) => {
    prepare();
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const before = [...place.querySelectorAll("select")].map((one) => [one.name, one.selectedIndex]);
    const { view } = await window.vegaEmbed(place, spec, {
      config: colours(), renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false },
    });
    drawn.set(place, view);
    for (const summary of place.querySelectorAll("summary")) summary.setAttribute("aria-label", "Save this chart as an image");
    place.dataset.drawn = "yes";
    if (!before.length) choose(place);
    for (const [name, number] of before) {
      chooseNumber([...place.querySelectorAll("select")].find((one) => one.name === name), number);
    }
  };
  const redraw = () => { for (const place of [...drawn.keys()]) draw(place); };
  const places = [...document.querySelectorAll(".chart")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "400px" });
  for (const place of places) watcher.observe(place);
  const drawAll = () => Promise.all(places.filter((place) => !drawn.has(place)).map(draw));
  window.addEventListener("beforeprint", drawAll);
  window.drawAllCharts = drawAll;

  // Model switch: hides what is of other models, and sets the charts to the model

  const model = document.getElementById("model");
  const choose = (place) => {
    const select = [...place.querySelectorAll("select")].find((one) => one.name === "shown");
    if (!model || !model.value || !select) return;
    // "label, prompts": a label may begin with another one and a comma
    const texts = JSON.parse(model.dataset.prompts).map((prompts) => `${model.selectedOptions[0].dataset.label}, ${prompts}`);
    const number = chartPlaces(place).findIndex((text) => texts.includes(text));
    if (number >= 0) chooseNumber(select, number);
  };
  if (model) {
    const switched = new Set([...model.options].flatMap((one) => [one.value, ...(one.dataset.with || "").split(" ")]));
    model.addEventListener("change", () => {
      const chosen = model.selectedOptions[0];
      const kept = new Set([chosen.value, ...(chosen.dataset.with || "").split(" ")]);
      for (const element of document.querySelectorAll("[data-model]")) {
        const own = element.dataset.model;
        element.hidden = Boolean(chosen.value) && switched.has(own) && !kept.has(own);
      }
      for (const place of drawn.keys()) choose(place);
    });
  }

  // Tables as CSV, which are in this file compressed

  const download = async (name) => {
    const text = document.getElementById(`csv-${name}`).textContent;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const blob = await new Response(stream).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([blob], { type: "text/csv" }));
    link.download = `${name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    return blob.text();
  };
  window.downloadTable = download;
  for (const button of document.querySelectorAll("button[data-csv]")) {
    button.addEventListener("click", () => download(button.dataset.csv));
  }

  // A link to a table, or to a claim in a closed element, opens what it leads to

  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let element = target; element; element = element.parentElement) {
      if (element.tagName === "DETAILS") element.open = true;
    }
    if (target) target.scrollIntoView();
  };
  window.addEventListener("hashchange", open);
  open();
})();
