/**
 * The plugin's log: reference cni.md 2.4. stdout belongs to the result, so a line goes to stderr at once, to a file on
 * the node, and at the end, all of them together, to the agent, which shows it as its own.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { LOG_FILE_NAME, LOG_SOCKET_NAME } from "../net_conf.ts";
import { LOG_PATH } from "../plugin_event.ts";
import { LOG_TIMEOUT_MS, postToAgent } from "./agent_socket.ts";
import { appendToRollingFile, tidyRollingFile } from "./rolling_file.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;
type Level = typeof LEVELS[number];

export interface PluginLog {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

export interface LogTargets {
  /** Writes to stderr; must not throw. */
  stderr(text: string): void;
  now(): Date;
}

/** What a message may take: a broken answer must not fill the node's disk. */
const MESSAGE_MAX_CHARS = 8_192;

export class PluginLogger implements PluginLog {
  readonly #targets: LogTargets;
  readonly #kept: string[] = [];
  #least: number = LEVELS.indexOf("info");
  #runDir: string | undefined;
  #pod: string | undefined;

  constructor(targets: LogTargets) {
    this.#targets = targets;
  }

  /** From here on the configuration is known. An unknown level counts as info. */
  configure(level: string, runDir: string): void {
    const named = LEVELS.findIndex((name) => name === level);
    if (level === "none") this.#least = LEVELS.length;
    else this.#least = named < 0 ? LEVELS.indexOf(level === "fatal" ? "error" : "info") : named;
    this.#runDir = runDir;
    this.#toFile((path) => tidyRollingFile(path, this.#targets.now()));
  }

  /** Shown with every further line. */
  setPod(namespace: string, name: string): void {
    this.#pod = `${namespace}/${name}`;
  }

  debug(message: string): void {
    this.#write("debug", message);
  }

  info(message: string): void {
    this.#write("info", message);
  }

  warn(message: string): void {
    this.#write("warn", message);
  }

  error(message: string): void {
    this.#write("error", message);
  }

  #write(level: Level, message: string): void {
    if (LEVELS.indexOf(level) < this.#least) return;
    const time = this.#targets.now();
    const msg = message.length > MESSAGE_MAX_CHARS ? `${message.slice(0, MESSAGE_MAX_CHARS)}...` : message;
    const pod = this.#pod === undefined ? {} : { pod: this.#pod };
    const line = JSON.stringify({ level, time: time.toISOString(), scope: "cni-plugin", msg, ...pod }) + "\n";
    this.#targets.stderr(line);
    this.#kept.push(line);
    if (level !== "debug") this.#toFile((path) => appendToRollingFile(path, line, time));
  }

  #toFile(work: (path: string) => void): void {
    if (this.#runDir === undefined) return;
    try {
      work(join(this.#runDir, LOG_FILE_NAME));
    } catch {
      // A directory that is missing, full or read-only: the other two ways remain.
    }
  }

  /** Sends everything to the agent, if there is one. Never rejects; takes 1 s at most. */
  async flush(): Promise<void> {
    if (this.#runDir === undefined || this.#kept.length === 0) return;
    const socketPath = join(this.#runDir, LOG_SOCKET_NAME);
    if (!existsSync(socketPath)) return;
    const lines = JSON.stringify(this.#kept.splice(0));
    try {
      await postToAgent(socketPath, LOG_PATH, lines, LOG_TIMEOUT_MS);
    } catch {
      // They are on stderr and in the file.
    }
  }
}
