/**
 * Notes in the run directory: whose network namespace this agent has touched, one small file each, written before the first
 * rule and removed behind the last. An agent that was killed in the middle leaves a pod whose annotation does not yet, or does
 * still, say so; the next one reads here which pods those are. A note of another boot, or of another namespace than the pod has
 * now, says that what was set up is gone.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Note {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** Device and inode. */
  readonly netns: string;
  /** Of the kernel; anew at each boot. */
  readonly bootId: string;
}

export interface Journal {
  /** Of the kernel that runs now. */
  readonly bootId: string;
  /** What an earlier agent, or this one, has left; unreadable notes are skipped. */
  read(): readonly Note[];
  /** @throws Error when it cannot be written: what cannot be noted must not be touched. */
  write(note: Omit<Note, "bootId">): void;
  forget(uid: string): void;
}

/** In the run directory. */
const FOLDER = "pods";
/** A pod's uid as it may name a file. */
const UID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$/;

/** @throws Error when the directory cannot be made. */
export function createFileJournal(runDir: string, bootId: string): Journal {
  const folder = join(runDir, FOLDER);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const written = new Map<string, string>();
  return {
    bootId,
    read() {
      const notes: Note[] = [];
      for (const name of readdirSync(folder)) {
        if (!UID.test(name)) continue;
        const note = readNote(join(folder, name), name);
        if (note !== undefined) notes.push(note);
      }
      return notes;
    },
    write(note) {
      if (!UID.test(note.uid)) throw new Error(`the pod's uid ${JSON.stringify(note.uid)} is none`);
      if (written.get(note.uid) === note.netns) return;
      const path = join(folder, note.uid);
      const temporary = join(folder, `.${note.uid}.tmp`);
      writeFileSync(temporary, JSON.stringify({ ...note, bootId }) + "\n", { mode: 0o600 });
      renameSync(temporary, path);
      written.set(note.uid, note.netns);
    },
    forget(uid) {
      written.delete(uid);
      if (UID.test(uid)) rmSync(join(folder, uid), { force: true });
    },
  };
}

/** For a source that outlives no agent. */
export function createMemoryJournal(bootId = ""): Journal {
  const notes = new Map<string, Note>();
  return {
    bootId,
    read: () => [...notes.values()],
    write: (note) => void notes.set(note.uid, { ...note, bootId }),
    forget: (uid) => void notes.delete(uid),
  };
}

function readNote(path: string, uid: string): Note | undefined {
  try {
    const { namespace, name, netns, bootId } = JSON.parse(readFileSync(path, "utf8"));
    if ([namespace, name, netns, bootId].some((value) => typeof value !== "string")) return undefined;
    return { uid, namespace, name, netns, bootId };
  } catch {
    return undefined;
  }
}

/** @throws Error when there is no /proc. */
export function readBootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
