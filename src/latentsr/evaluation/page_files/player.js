// One clock for all tracks of a clip: they are all played at once, and all but one are silent.
"use strict";
document.documentElement.classList.add("programs"); // their players take the place of the browser's own
window.latentsr = (() => {
  const FADE_S = 0.012;
  let context = null;
  const decoded = new Map(); // id of an <audio> -> promise of its samples

  const audioContext = () => (context ??= new AudioContext({ sampleRate: 48000 }));

  const bytesOf = (address) => Uint8Array.from(atob(address.slice(address.indexOf(",") + 1)), (c) => c.charCodeAt(0));

  const decode = (id) => {
    if (!decoded.has(id)) {
      const bytes = bytesOf(document.getElementById(id).getAttribute("src"));
      decoded.set(id, audioContext().decodeAudioData(bytes.buffer));
    }
    return decoded.get(id);
  };

  // Plays buffers in a loop, all started at one instant; `choose` fades from one to another.
  class Deck {
    constructor(buffers) {
      this.buffers = buffers;
      this.seconds = Math.min(...buffers.map((buffer) => buffer.duration));
      this.chosen = 0;
      this.offset = 0;
      this.running = false;
    }

    start() {
      const now = audioContext();
      now.resume();
      this.startedAt = now.currentTime + 0.02;
      this.gains = this.buffers.map((buffer, i) => {
        const gain = new GainNode(now, { gain: i === this.chosen ? 1 : 0 });
        gain.connect(now.destination);
        return gain;
      });
      this.sources = this.buffers.map((buffer, i) => {
        const source = new AudioBufferSourceNode(now, { buffer, loop: true, loopEnd: this.seconds });
        source.connect(this.gains[i]);
        source.start(this.startedAt, this.offset);
        return source;
      });
      this.running = true;
    }

    stop() {
      if (!this.running) return;
      this.offset = this.position;
      this.sources.forEach((source) => source.stop());
      this.gains.forEach((gain) => gain.disconnect());
      this.running = false;
    }

    get position() {
      if (!this.running) return this.offset;
      return (this.offset + Math.max(0, audioContext().currentTime - this.startedAt)) % this.seconds;
    }

    seek(seconds) {
      const running = this.running;
      this.stop();
      this.offset = Math.min(Math.max(0, seconds), this.seconds - 0.001);
      if (running) this.start();
    }

    choose(index) {
      this.chosen = index;
      if (!this.running) return;
      const now = audioContext().currentTime;
      this.gains.forEach((gain, i) => {
        gain.gain.cancelScheduledValues(now);
        gain.gain.setTargetAtTime(i === index ? 1 : 0, now, FADE_S / 3);
      });
    }
  }

  let active = null; // what is heard now: { stop() }
  const onlyOne = (next) => {
    if (active && active !== next) active.stop();
    active = next;
    for (const audio of document.querySelectorAll("audio")) {
      if (audio !== next) audio.pause();
    }
  };

  class Card {
    constructor(element) {
      this.element = element;
      this.tracks = [...element.querySelectorAll(".track")];
      this.play = element.querySelector(".play");
      this.bar = element.querySelector(".seek");
      this.clock = element.querySelector(".clock");
      this.tabs = [...element.querySelectorAll(".tab")];
      this.deck = null;
      this.chosen = this.tracks[0];
      this.input = "0";
      this.play.addEventListener("click", () => (this.deck?.running ? this.stop() : this.start()));
      this.bar.addEventListener("input", () => this.seek(Number(this.bar.value)));
      this.tracks.forEach((track) => track.querySelector(".pick").addEventListener("click", () => this.pick(track)));
      this.tabs.forEach((tab) => tab.addEventListener("click", () => this.change(tab.dataset.input)));
      this.change("0");
    }

    get shown() {
      return this.tracks.filter((track) => !track.hidden);
    }

    async change(input) {
      const [running, name] = [this.deck?.running, this.chosen.querySelector("b").textContent];
      const at = this.deck?.position ?? 0;
      this.stop();
      this.deck = null;
      this.input = input;
      this.tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.input === input)));
      this.tracks.forEach((track) => (track.hidden = "input" in track.dataset && track.dataset.input !== input));
      this.element.querySelectorAll(".cutoff[data-input]").forEach((line) => {
        line.toggleAttribute("hidden", line.dataset.input !== input);
      });
      this.chosen = this.shown.find((track) => track.querySelector("b").textContent === name) ?? this.shown[0];
      if (running) await this.start(at);
    }

    async start(at = null) {
      const shown = this.shown;
      if (!this.deck) {
        const buffers = await Promise.all(shown.map((track) => decode(track.dataset.media)));
        if (shown[0] !== this.shown[0] || shown.length !== this.shown.length) return;
        this.deck ??= new Deck(buffers);
        if (at === null) at = Number(this.bar.value) * this.deck.seconds;
      }
      onlyOne(this);
      if (at !== null) this.deck.seek(at);
      this.deck.choose(shown.indexOf(this.chosen));
      if (!this.deck.running) this.deck.start();
      this.mark();
      this.tick();
    }

    stop() {
      this.deck?.stop();
      this.mark();
    }

    pick(track) {
      this.chosen = track;
      if (this.deck?.running) {
        this.deck.choose(this.shown.indexOf(track));
        this.mark();
      } else {
        this.start();
      }
    }

    seek(share) {
      if (this.deck) this.deck.seek(share * this.deck.seconds);
      this.draw(share);
    }

    mark() {
      const running = Boolean(this.deck?.running);
      this.play.textContent = running ? "❚❚" : "▶";
      this.element.classList.toggle("playing", running);
      this.tracks.forEach((track) => {
        track.querySelector(".pick").setAttribute("aria-pressed", String(running && track === this.chosen));
      });
    }

    draw(share) {
      this.tracks.forEach((track) => (track.querySelector(".head").style.left = `${100 * share}%`));
      if (this.deck) {
        this.clock.textContent = `${(share * this.deck.seconds).toFixed(1)} / ${this.deck.seconds.toFixed(1)} s`;
      }
    }

    tick() {
      if (!this.deck?.running) return;
      const share = this.deck.position / this.deck.seconds;
      this.bar.value = share;
      this.draw(share);
      requestAnimationFrame(() => this.tick());
    }
  }

  document.querySelectorAll(".clip").forEach((element) => new Card(element));
  document.querySelectorAll("audio").forEach((audio) => audio.addEventListener("play", () => onlyOne(audio)));
  HTMLAudioElement.prototype.stop = HTMLAudioElement.prototype.pause;

  return { decode, Deck, onlyOne, data: JSON.parse(document.getElementById("data").textContent) };
})();
