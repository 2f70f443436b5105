/**
 * The installer's loop, reference cni.md 1.2 step 9 and 1.6: put everything in place, watch, look after each event and now and then without
 * one, and put in place again what is not as it should be.
 *
 * It is ready only while everything was found right with the watches already set. What fails is told and tried again; the
 * agent's other work does not end with it.
 */
import { type InstallClock, sleep, SYSTEM_CLOCK } from "./clock.ts";
import { NODE_FS } from "./fs.ts";
import { cleanUp } from "./clean_up.ts";
import { InstallError, Placement, type Verdict } from "./placement.ts";
import type { Installer, InstallerOptions } from "./types.ts";
import { Throttle } from "./throttle.ts";
import { watchDirectory, WatchRound } from "./watch.ts";

/** How often everything is looked at without an event: a few small files and their dates. */
const LOOK_MS = 15_000;
/** Files are written in several steps; what is half written would be judged invalid. */
const SETTLE_MS = 100;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;
const SCOPE = "cni-agent";

export function createInstaller(options: InstallerOptions): Installer {
  return new Loop(options);
}

class Loop implements Installer {
  readonly #options: InstallerOptions;
  readonly #placement: Placement;
  readonly #clock: InstallClock;
  readonly #throttle: Throttle;
  readonly #warned = new Set<string>();
  #ready = false;
  #state = "not installed yet";
  #failures = 0;
  #wasReady = false;

  constructor(options: InstallerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#placement = new Placement(options);
    this.#throttle = new Throttle((text) => options.log.log("warn", SCOPE, text));
  }

  get ready(): boolean {
    return this.#ready;
  }

  get state(): string {
    return this.#state;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#clock, this.#throttle.delayMs(this.#clock.nowMs()), signal);
      if (signal.aborted) break;
      const failure = await this.#pass();
      this.#throttle.passed(this.#clock.nowMs());
      await this.#watchUntilNeeded(failure, signal);
    }
    this.#setReady(false, "the agent is stopping");
  }

  cleanUp(): Promise<void> {
    return cleanUp(this.#options.fs ?? NODE_FS, this.#options);
  }

  /** The reason why it must be tried again. */
  async #pass(): Promise<string | undefined> {
    const { installed, log } = this.#options;
    try {
      if (await this.#placement.install()) installed("SUCCESS");
      this.#failures = 0;
      return undefined;
    } catch (error) {
      if (error instanceof InstallError) installed(error.result);
      const text = error instanceof Error ? error.message : String(error);
      this.#failures++;
      log.log("error", SCOPE, `installation failed: ${text}; trying again in ${this.#retryMs() / 1000} s`);
      return text;
    }
  }

  /** Returns when a pass may change something, or the signal aborts. */
  async #watchUntilNeeded(failure: string | undefined, signal: AbortSignal): Promise<void> {
    let last: Verdict | undefined;
    for (;;) {
      const round = new WatchRound(
        this.#options.watch ?? watchDirectory,
        this.#placement.watched(),
        (text) => this.#warnOnce(text),
      );
      try {
        for (let event = true; event;) {
          // With the watches set, so that nothing goes by unseen.
          const verdict = await this.#look();
          if (signal.aborted) return;
          if (failure === undefined && verdict.kind === "repair") return this.#setReady(false, verdict.why);
          if (last !== undefined && isOther(last, verdict)) return this.#setReady(false, "the node's files changed");
          last = verdict;
          this.#settle(verdict, failure);
          event = await this.#change(round, failure === undefined ? LOOK_MS : this.#retryMs(), signal);
        }
      } finally {
        round.close();
      }
      if (signal.aborted || failure !== undefined) return;
    }
  }

  /** What is wrong; that it cannot be said is a failure of its own, to be tried again. */
  async #look(): Promise<Verdict> {
    try {
      return await this.#placement.look();
    } catch (error) {
      return { kind: "wait", why: error instanceof Error ? error.message : String(error) };
    }
  }

  #settle(verdict: Verdict, failure: string | undefined): void {
    if (failure !== undefined) return this.#setReady(false, failure);
    for (const warning of verdict.kind === "good" ? verdict.warnings : []) this.#warnOnce(warning);
    if (verdict.kind === "good") this.#setReady(true, `${verdict.path} is valid`);
    else this.#setReady(false, verdict.why);
  }

  /** True: something changed. False: it is time to look again without that, or to stop. */
  async #change(round: WatchRound, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    const changed = await new Promise<boolean>((resolve) => {
      const end = (result: boolean) => {
        takeBack();
        cancel();
        signal.removeEventListener("abort", stop);
        resolve(result);
      };
      const stop = () => end(false);
      let takeBack = () => {};
      const cancel = this.#clock.schedule(() => end(false), timeoutMs);
      signal.addEventListener("abort", stop, { once: true });
      takeBack = round.onChange(() => end(true));
    });
    if (!changed) return false;
    await sleep(this.#clock, SETTLE_MS, signal);
    this.#throttle.changed(round.take());
    return true;
  }

  #retryMs(): number {
    return Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.#failures - 1, 10));
  }

  #setReady(ready: boolean, why: string): void {
    const { log, readyChanged } = this.#options;
    const isNews = this.#state !== why;
    this.#state = why;
    if (this.#ready !== ready) {
      this.#ready = ready;
      readyChanged(ready, why);
    }
    if (!isNews) return;
    if (ready && !this.#wasReady) {
      log.log("info", SCOPE, "initial installation complete, start watching for re-installation");
    }
    if (ready) this.#wasReady = true;
    else log.log("info", SCOPE, `not ready: ${why}`);
  }

  #warnOnce(text: string): void {
    if (this.#warned.has(text)) return;
    this.#warned.add(text);
    this.#options.log.log("warn", SCOPE, text);
  }
}

function isOther(a: Verdict, b: Verdict): boolean {
  return a.kind !== b.kind || a.kind !== "good" && b.kind !== "good" && a.why !== b.why;
}
