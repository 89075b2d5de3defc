// A/B/X and A/B listening: which system hides behind which letter is known to this closure alone until the answer.
"use strict";
(() => {
  const { decode, Deck, onlyOne, data } = window.latentsr;
  const app = document.getElementById("blind-app");
  const STORE = `latentsr-blind-${data.report}`;
  const COLUMNS = ["time", "listener", "mode", "trial", "clip", "input", "system_a", "system_b", "x", "answer", "preferred",
    "correct", "confidence", "seconds", "switches", "references", "report"];
  const CONFIDENCE = ["a guess", "unsure", "fairly sure", "sure", "certain"];

  if (!data.clips.length) {
    app.textContent = "This page holds no clips to listen to.";
    return;
  }

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  };

  const random = (n) => {
    const limit = Math.floor(2 ** 32 / n) * n; // so that each number is as likely
    const word = new Uint32Array(1);
    do crypto.getRandomValues(word);
    while (word[0] >= limit);
    return word[0] % n;
  };

  const shuffled = (items) => {
    const out = [...items];
    for (let i = out.length - 1; i > 0; i--) {
      const j = random(i + 1);
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  };

  // --- what is kept ---------------------------------------------------------------------------------------------

  const load = () => {
    try {
      const kept = JSON.parse(localStorage.getItem(STORE) ?? "[]");
      return Array.isArray(kept) ? kept : [];
    } catch {
      return []; // a browser may forbid it: then trials live as long as the page
    }
  };
  let trials = load();
  const keep = () => {
    try {
      localStorage.setItem(STORE, JSON.stringify(trials));
    } catch {
      // as above
    }
  };

  const field = (value) => {
    let text = String(value ?? "");
    if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`; // no spreadsheet takes a name for a formula
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = () => [COLUMNS, ...trials.map((trial) => COLUMNS.map((name) => trial[name]))]
    .map((row) => row.map(field).join(",")).join("\n") + "\n";

  const download = () => {
    const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    const link = make("a", { href: address, download: `blind-${data.report}.csv` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };

  // --- the form ---------------------------------------------------------------------------------------------------

  const systems = [...new Set(data.clips.flatMap((clip) => clip.inputs.flatMap((i) => i.tracks.map((t) => t.system))))];
  const inputs = [...new Set(data.clips.flatMap((clip) => clip.inputs.map((each) => each.label)))];
  const choice = (names, chosen = names[0]) => make("select", {}, ...names.map((name) =>
    make("option", { value: name, selected: name === chosen }, name)));
  const form = {
    listener: make("input", { type: "text", maxlength: "60", autocomplete: "off", placeholder: "name or initials" }),
    mode: make("select", {}, make("option", { value: "abx" }, "A/B/X: is there a difference?"),
      make("option", { value: "ab" }, "A/B: which do you prefer?")),
    input: choice(["all", ...inputs]),
    clip: choice(["all", ...data.clips.map((clip) => clip.name)]),
    first: choice(systems, systems.find((name) => name === "unprocessed") ?? systems[0]),
    second: choice(systems, systems.find((name) => !["truth", "unprocessed"].includes(name) && !name.includes("ceiling"))
      ?? systems[1]),
    count: make("input", { type: "number", min: "1", max: "200", value: "10" }),
  };
  const labels = { listener: "listener", mode: "test", input: "input", clip: "clip", first: "one system", second: "the other",
    count: "trials" };
  const problem = make("p", { class: "worse", role: "alert" });
  const begin = make("button", { type: "submit", class: "main" }, "Start");
  const setup = make("form", { onsubmit: (event) => { event.preventDefault(); start(); } },
    make("p", {}, "The letters are dealt anew for each trial, levels are matched as above, and all sounds run on one clock. ",
      "Nothing on the page shows which is which before you have answered. ",
      make("kbd", {}, "A"), " ", make("kbd", {}, "B"), " ", make("kbd", {}, "X"), " ", make("kbd", {}, "R"), " switch, ",
      make("kbd", {}, "Space"), " stops, ", make("kbd", {}, "←"), " ", make("kbd", {}, "→"), " answer, ",
      make("kbd", {}, "1"), " to ", make("kbd", {}, "5"), " say how sure, ", make("kbd", {}, "Enter"), " goes on."),
    make("div", { class: "form" }, ...Object.entries(form).map(([name, element]) => {
      element.setAttribute("name", name);
      return make("label", {}, labels[name], element);
    })), problem, make("div", { class: "choices" }, begin));
  const stage = make("section", { class: "stage", hidden: true, "aria-live": "polite" });
  const results = make("section", { class: "results-blind" });
  app.append(setup, stage, results);

  // --- a session --------------------------------------------------------------------------------------------------

  let session = null;

  const candidates = () => data.clips.filter((clip) => ["all", clip.name].includes(form.clip.value)).flatMap((clip) =>
    clip.inputs.filter((each) => ["all", each.label].includes(form.input.value)).map((each) => ({ clip, input: each })))
    .filter(({ input }) => [form.first.value, form.second.value].every((name) =>
      input.tracks.some((track) => track.system === name)));

  const start = () => {
    const places = candidates();
    problem.textContent = form.first.value === form.second.value ? "Choose two different systems."
      : places.length ? "" : "These two were not given the same clip and input.";
    if (problem.textContent) return;
    const count = Math.min(200, Math.max(1, Math.round(Number(form.count.value)) || 1));
    const queue = [];
    while (queue.length < count) queue.push(...shuffled(places));
    session = { queue: queue.slice(0, count), done: 0, first: trials.length };
    setup.hidden = true;
    stage.hidden = false;
    next();
  };

  const next = async () => {
    if (session.done === session.queue.length) return finish();
    const mode = form.mode.value;
    const { clip, input } = session.queue[session.done];
    const [a, b] = random(2) ? [form.first.value, form.second.value] : [form.second.value, form.first.value];
    const x = mode === "abx" ? "AB"[random(2)] : "";
    const of = (name) => input.tracks.find((track) => track.system === name).media;
    const letters = mode === "abx" ? ["A", "B", "X"] : ["A", "B", "R"];
    const media = { A: of(a), B: of(b), X: x && of(x === "A" ? a : b), R: of("truth") };
    stage.replaceChildren(make("p", {}, "Loading …"));
    const deck = new Deck(await Promise.all(letters.map((letter) => decode(media[letter]))));
    if (!session) return;
    const trial = { mode, clip: clip.name, input: input.label, system_a: a, system_b: b, x };
    ask(trial, letters, deck);
  };

  const ask = (trial, letters, deck) => {
    const begun = performance.now();
    let [answer, confidence, switches] = ["", "", 0];
    const abx = trial.mode === "abx";
    const words = abx ? { A: "X is A", B: "X is B" } : { A: "A", none: "no preference", B: "B" };
    const heard = Object.fromEntries(letters.map((letter) => [letter, make("button",
      { type: "button", "aria-pressed": "false", onclick: () => hear(letter) }, letter === "R" ? "Original" : letter)]));
    const answers = Object.fromEntries(Object.entries(words).map(([name, text]) => [name, make("button",
      { type: "button", "aria-pressed": "false", onclick: () => say(name) }, text)]));
    const sure = CONFIDENCE.map((text, i) => make("button",
      { type: "button", "aria-pressed": "false", onclick: () => rate(i + 1) }, `${i + 1} ${text}`));
    const go = make("button", { type: "button", class: "main", disabled: true, onclick: () => submit() }, "Next");

    const press = (buttons, chosen) => Object.entries(buttons).forEach(([name, button]) =>
      button.setAttribute("aria-pressed", String(name === String(chosen))));
    const hear = (letter) => {
      onlyOne(player);
      deck.choose(letters.indexOf(letter));
      if (!deck.running) deck.start();
      switches += 1;
      press(heard, letter);
    };
    const player = { stop: () => { deck.stop(); press(heard, ""); } };
    const say = (name) => { answer = name; press(answers, name); ready(); };
    const rate = (level) => { confidence = level; sure.forEach((each, i) => each.setAttribute("aria-pressed", String(i + 1 === level))); ready(); };
    const ready = () => { go.disabled = !(answer && confidence); };
    const leave = () => { player.stop(); document.removeEventListener("keydown", onKey); };
    const submit = () => {
      if (go.disabled) return;
      leave();
      session.done += 1;
      trials.push({
        ...trial, time: new Date().toISOString(), listener: form.listener.value.trim(), trial: session.done, answer, confidence,
        preferred: abx || answer === "none" ? "" : answer === "A" ? trial.system_a : trial.system_b,
        correct: abx ? Number(answer === trial.x) : "", seconds: ((performance.now() - begun) / 1000).toFixed(1), switches,
        references: data.references, report: data.report,
      });
      keep();
      summarise();
      next();
    };
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
      const letter = event.key.toUpperCase();
      const list = Object.keys(words);
      if (letters.includes(letter)) hear(letter);
      else if (event.key === " ") player.stop();
      else if (event.key === "ArrowLeft") say(list[0]);
      else if (event.key === "ArrowRight") say(list.at(-1));
      else if (event.key === "ArrowDown" && !abx) say("none");
      else if (/^[1-5]$/.test(event.key)) rate(Number(event.key));
      else if (event.key === "Enter" && !go.disabled) submit();
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    const quit = make("button", { type: "button", onclick: () => { leave(); finish(); } }, "Stop here");
    stage.replaceChildren(
      make("p", { class: "big" }, `Trial ${session.done + 1} of ${session.queue.length}`),
      make("p", {}, abx ? "X is A or B. Which?" : "Which would you rather have? The original is there to compare with."),
      make("div", { class: "choices", role: "group", "aria-label": "listen" }, ...Object.values(heard)),
      make("div", { class: "choices", role: "group", "aria-label": "answer" }, ...Object.values(answers)),
      make("div", { class: "choices", role: "group", "aria-label": "how sure" }, ...sure),
      make("div", { class: "choices" }, go, quit));
  };

  const finish = () => {
    session = null;
    stage.hidden = true;
    setup.hidden = false;
    summarise();
  };

  // --- results ----------------------------------------------------------------------------------------------------

  // Chance of at least k hits in n tosses of a coin.
  const chance = (k, n) => {
    let [term, sum] = [0.5 ** n, 0];
    for (let i = 0; i <= n; i++) {
      if (i >= k) sum += term;
      term *= (n - i) / (i + 1);
    }
    return Math.min(1, sum);
  };

  const summarise = () => {
    if (!trials.length) return results.replaceChildren();
    const count = new Map();
    const lines = [];
    if (session) {
      lines.push(make("p", {}, `${trials.length} trials are kept; results are shown at the end.`));
    } else {
      for (const trial of trials) {
        const key = `${trial.mode} ${[trial.system_a, trial.system_b].sort().join(" | ")}`;
        count.set(key, [...(count.get(key) ?? []), trial]);
      }
      for (const group of count.values()) lines.push(make("p", {}, describe(group)));
    }
    const clear = () => {
      if (!confirm(`Forget all ${trials.length} trials?`)) return;
      trials = [];
      keep();
      summarise();
    };
    results.replaceChildren(make("h3", {}, "Trials"), ...lines, make("div", { class: "choices" },
      make("button", { type: "button", onclick: download }, `Download CSV (${trials.length})`),
      make("button", { type: "button", onclick: clear }, "Forget them")));
  };

  const describe = (group) => {
    const pair = [group[0].system_a, group[0].system_b].sort();
    if (group[0].mode === "abx") {
      const hits = group.filter((trial) => trial.correct).length;
      const p = chance(hits, group.length);
      return `A/B/X, ${pair.join(" against ")}: ${hits} of ${group.length} right; by guessing alone, so many or more `
        + `come with a probability of ${p.toPrecision(2)}.`;
    }
    const votes = pair.map((name) => `${name} ${group.filter((trial) => trial.preferred === name).length}`);
    const none = group.filter((trial) => trial.answer === "none").length;
    return `A/B, preferred: ${votes.join(", ")}, neither ${none}, of ${group.length}.`;
  };

  summarise();
})();
