// One transport, two sources: both play all the time, sample by sample together, and gains say what is heard: the one, the
// other, or, while the sliders ask for other gains than the result has, before + what was made at theirs (after - before).
const TAPS = 256; // of the tilt's filter to each side of its middle
const RATE = 48000, FADE_S = 0.012, SOON_S = 0.03, PREFETCH_S = 60, MOST_ZOOM = 32;
const old = window.latentsrPlayer;
if (old) old.dispose();

const state = { value: null, buffers: null, loading: null, context: null, gains: null, sources: null,
                startedAt: 0, offset: 0, playing: false, side: "after", mixing: false, zoom: 1, frame: 0 };
const find = (selector) => element.querySelector(selector);
const duration = () => (state.buffers ? state.buffers.after.duration : (state.value || {}).seconds || 0);
const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

function position() {
  if (!state.playing) return state.offset;
  return Math.min(duration(), state.offset + Math.max(0, state.context.currentTime - state.startedAt));
}

async function load() {
  const value = state.value;
  if (!state.loading) {
    const decoder = new OfflineAudioContext(1, 1, RATE);
    const kept = value.adjusted && state.buffers; // other gains leave what was given as it is
    const one = async (url) => {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error("gone");
      return decoder.decodeAudioData(await answer.arrayBuffer());
    };
    state.loading = Promise.all([kept ? kept.before : one(value["before.flac"]), one(value["after.flac"])]);
  }
  try {
    const [before, after] = await state.loading;
    if (value === state.value) state.buffers = { before, after };
  } catch (error) {
    if (value === state.value) hint("The recordings are no longer on the server: restore them again.");
  }
  draw();
}

function hint(text) { const place = find(".lsr-hint"); if (place) place.textContent = text; }

async function play() {
  if (state.playing || !state.value) return;
  state.context = state.context || new AudioContext({ sampleRate: RATE });
  await Promise.all([state.context.resume(), load()]);
  if (!state.buffers || state.playing) return;
  if (state.offset >= duration() - 0.01) state.offset = 0;
  state.startedAt = state.context.currentTime + SOON_S;
  const { context } = state, heard = levels();
  const source = (side) => new AudioBufferSourceNode(context, { buffer: state.buffers[side] });
  const before = source("before"), after = source("after");
  state.gains = {}; state.sources = [before, after];
  for (const [name, gain] of Object.entries(heard)) {
    state.gains[name] = new GainNode(context, { gain });
    state.gains[name].connect(context.destination);
  }
  if (state.mixing) {
    state.tilt = new ConvolverNode(context, { disableNormalization: true });
    retilt();
    before.connect(new DelayNode(context, { delayTime: TAPS / RATE })).connect(state.gains.before);
    before.connect(new GainNode(context, { gain: -1 })).connect(state.tilt);
    after.connect(state.tilt).connect(state.gains.band);
  } else {
    before.connect(state.gains.before);
    after.connect(state.gains.after);
  }
  for (const each of state.sources) each.start(state.startedAt, state.offset);
  state.playing = true;
  tick();
}

function pause() {
  if (!state.playing) return;
  state.offset = position();
  state.playing = false;
  cancelAnimationFrame(state.frame);
  for (const source of state.sources) source.stop();
  draw();
}

function tick() {
  if (!state.playing) return;
  if (position() >= duration()) { pause(); state.offset = 0; }
  draw();
  state.frame = requestAnimationFrame(tick);
}

function choose(side) {
  state.side = side;
  if (state.playing) {
    const now = state.context.currentTime, heard = levels();
    for (const [name, { gain }] of Object.entries(state.gains)) {
      gain.cancelScheduledValues(now);
      gain.setValueAtTime(gain.value, now);
      gain.linearRampToValueAtTime(heard[name], now + FADE_S);
    }
  }
  draw();
}

// What the sliders ask for beyond the result: [a factor on what was made, dB per octave].
function beyond() {
  const at = (name) => Number(document.querySelector(`#lsr-${name} input[type=range]`).value);
  return [at("amount") / state.value.amount, at("tilt") - state.value.tilt];
}

function levels() {
  const after = Number(state.side === "after");
  return state.mixing ? { before: 1, band: after * beyond()[0] } : { before: 1 - after, after };
}

// A linear-phase filter: so many dB per octave above a frequency.
function impulse(tilt, cutoff_hz) {
  const gain = Array.from({ length: TAPS + 1 }, (_, k) => 10 ** ((tilt / 20) * Math.max(0, Math.log2((k * RATE) / (2 * TAPS * cutoff_hz)))));
  return Float32Array.from({ length: 2 * TAPS + 1 }, (_, i) => {
    const n = i - TAPS;
    const sum = gain.reduce((all, each, k) => all + each * (k % TAPS ? 2 : 1) * Math.cos((Math.PI * k * n) / TAPS), 0);
    return ((sum / (2 * TAPS)) * (1 + Math.cos((Math.PI * n) / TAPS))) / 2;
  });
}

function retilt() {
  const buffer = new AudioBuffer({ length: 2 * TAPS + 1, sampleRate: RATE });
  buffer.copyToChannel(impulse(beyond()[1], state.value.cutoff_hz), 0);
  state.tilt.buffer = buffer;
}

function slid(event) {
  if (!event.target.closest(".lsr-gains") || !state.value || !state.value.amount) return; // of nothing there is no part
  if (!state.mixing) { state.mixing = true; seek(position()); return; }
  if (!state.playing) return;
  retilt();
  choose(state.side);
}

async function seek(seconds) {
  const playing = state.playing;
  pause();
  state.offset = Math.min(Math.max(0, seconds), duration());
  if (playing) await play(); else draw();
}

function draw() {
  const button = find(".lsr-play"), bar = find(".lsr-seek");
  if (!button || !bar) return;
  button.disabled = bar.disabled = !state.value;
  button.classList.toggle("lsr-playing", state.playing);
  button.setAttribute("aria-label", state.playing ? "Pause" : "Play");
  bar.max = duration() || 1;
  if (document.activeElement !== bar || state.playing) bar.value = position();
  bar.style.setProperty("--done", `${(100 * position()) / (duration() || 1)}%`);
  bar.setAttribute("aria-valuetext", `${clock(position())} of ${clock(duration())}`);
  find(".lsr-time").textContent = `${clock(position())} / ${clock(duration())}`;
  for (const side of element.querySelectorAll("[data-side]"))
    side.setAttribute("aria-checked", String(side.dataset.side === state.side));
  look();
}

// The picture: as wide as the zoom says, in a window that scrolls and follows the playhead.
function look() {
  const value = state.value, pane = find(".lsr-window"), wide = find(".lsr-wide"), head = find(".lsr-head"), mark = find(".lsr-cutoff");
  for (const image of element.querySelectorAll("[data-picture]")) {
    const url = value ? value[`${image.dataset.picture}.png`] : null;
    image.hidden = head.hidden = !value;
    if (url && image.getAttribute("src") !== url) image.src = url;
  }
  find(".lsr-nothing").hidden = Boolean(value);
  for (const each of element.querySelectorAll(".lsr-under input, .lsr-under button")) each.disabled = !value;
  if (!value) return;
  wide.style.width = `${100 * state.zoom}%`;
  const at = position() / duration();
  head.style.left = `${100 * at}%`;
  const x = at * pane.clientWidth * state.zoom - pane.scrollLeft;
  if (state.playing && (x < 0 || x > pane.clientWidth)) pane.scrollLeft += x - 0.1 * pane.clientWidth;
  const split = (pane.scrollLeft + find(".lsr-split").value * pane.clientWidth) / (pane.clientWidth * state.zoom);
  find("[data-picture=after]").style.clipPath = `inset(0 0 0 ${100 * split}%)`;
  mark.hidden = value.cutoff_hz >= RATE / 2;
  mark.style.top = `${100 - (200 * value.cutoff_hz) / RATE}%`;
  mark.dataset.label = `ends at ${(value.cutoff_hz / 1000).toFixed(1)} kHz`;
}

function ticks() {
  if (!state.value) return;
  const least = duration() / state.zoom / Math.max(2, find(".lsr-window").clientWidth / 90);
  const step = [1, 2, 5].flatMap((n) => [-3, -2, -1, 0, 1, 2, 3].map((e) => n * 10 ** e)).sort((a, b) => a - b).find((s) => s >= least);
  find(".lsr-ticks").replaceChildren(...Array.from({ length: Math.floor(duration() / step) + 1 }, (_, i) => {
    const tick = document.createElement("span");
    tick.style.left = `${(100 * i * step) / duration()}%`;
    tick.textContent = `${Number((i * step).toFixed(3))}${i ? "" : " s"}`;
    return tick;
  }));
}

function zoom(factor) {
  const pane = find(".lsr-window"), at = position() / duration();
  state.zoom = Math.min(MOST_ZOOM, Math.max(1, state.zoom * factor));
  find(".lsr-wide").style.width = `${100 * state.zoom}%`;
  pane.scrollLeft = at * pane.clientWidth * state.zoom - pane.clientWidth / 2;
  ticks();
  look();
}

async function take(value) {
  const good = value && value["before.flac"] ? value : null;
  const same = good && good.adjusted && state.value;  // other gains: it goes on where it is
  if (!same) { pause(); Object.assign(state, { buffers: null, offset: 0, zoom: 1, mixing: false }); }
  Object.assign(state, { value: good, loading: null });
  draw();
  ticks();
  if (good && (same || good.seconds <= PREFETCH_S)) await load();
  if (!same || state.value !== good) return;
  state.mixing = false; // the sources that play keep their gains until now
  if (state.playing) seek(position());
}

function pressed(event) {
  const typing = event.target.closest && event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, [contenteditable=true]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !state.value || !element.isConnected) return;
  const key = event.key.toLowerCase();
  if (key === "x") choose(state.side === "after" ? "before" : "after");
  else if (key === "p") { if (state.playing) pause(); else play(); }
  else if (key === "+" || key === "-") zoom(key === "+" ? 2 : 0.5);
  else return;
  event.preventDefault();
}

element.addEventListener("click", (event) => {
  const side = event.target.closest("[data-side]");
  const by = event.target.closest("[data-zoom]"), wide = event.target.closest(".lsr-wide");
  if (side) choose(side.dataset.side);
  else if (by) zoom(Number(by.dataset.zoom));
  else if (wide && state.value) seek(((event.clientX - wide.getBoundingClientRect().left) / wide.clientWidth) * duration());
  else if (event.target.closest(".lsr-play")) { if (state.playing) pause(); else play(); }
});
element.addEventListener("input", (event) => { if (event.target.matches(".lsr-seek")) seek(Number(event.target.value)); else look(); });
element.addEventListener("scroll", look, true);
document.addEventListener("keydown", pressed);
document.addEventListener("input", slid);

window.latentsrPlayer = {
  position, play, pause, choose, seek, levels, impulse, state,
  dispose() { pause(); document.removeEventListener("keydown", pressed); document.removeEventListener("input", slid); if (state.context) state.context.close(); },
};
watch("value", () => take(props.value));
take(props.value);
