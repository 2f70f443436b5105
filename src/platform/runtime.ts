/**
 * The contract between ambit and a JavaScript runtime: foreign functions, and nothing else.
 *
 * deno.ts and bun.ts implement it; no other file names a runtime's own API. A wrong pointer is a crash, so what
 * is loaded here is used inside `src/platform/` only, behind one small documented function per symbol.
 */

/** An address in this process. It never crosses a thread and is never computed with outside this folder. */
export type Pointer = { readonly __pointer: unique symbol };

/** How an argument or a result travels. Lengths are `u32`: 64-bit integers cost Deno a slow path on every call. */
export type FfiType = "i32" | "u32" | "u64" | "buffer" | "pointer" | "void";

export interface SymbolSpec {
  readonly args: readonly FfiType[];
  readonly returns: FfiType;
}

type JsArgument<T extends FfiType> = T extends "i32" | "u32" ? number
  : T extends "u64" ? bigint
  : T extends "buffer" ? Uint8Array
  : T extends "pointer" ? Pointer | null
  : never;

type JsResult<T extends FfiType> = T extends "i32" | "u32" ? number
  : T extends "u64" ? bigint
  : T extends "pointer" ? Pointer | null
  : void;

type JsArguments<A extends readonly FfiType[]> = { -readonly [K in keyof A]: JsArgument<A[K]> };

/** The loaded functions of a library, typed after their specs. */
export type Library<S extends Record<string, SymbolSpec>> = {
  readonly [K in keyof S]: (...args: JsArguments<S[K]["args"]>) => JsResult<S[K]["returns"]>;
};

export interface Runtime {
  readonly name: "deno" | "bun";
  /** Version text of the runtime, for `ambit version`. */
  readonly version: string;
  /** Opens a shared library by file name; throws when the file or one of the symbols is missing. */
  open<const S extends Record<string, SymbolSpec>>(file: string, symbols: S): Library<S>;
  /** A writable view of `length` bytes of foreign memory; valid as long as that memory is. */
  view(pointer: Pointer, offset: number, length: number): Uint8Array;
  /** The address of a buffer's first byte. The caller keeps the buffer alive while the address is in use. */
  addressOf(buffer: Uint8Array): bigint;
  /** A pointer made from an address, for the few C constants that are small integers in disguise. */
  pointerFrom(address: bigint): Pointer | null;
  /** Collects all garbage of this thread at once: milliseconds of work, for a thread with nothing else to do. */
  collectGarbage(): void;
  /** Collects, and gives up compiled code too where the engine can: it runs slowly until it is compiled again. */
  shrinkHeap(): void;
  /** A C function pointer that calls back into this thread; it lives as long as the process. */
  callback(spec: SymbolSpec, fn: (...args: never[]) => number): Pointer;
}

export const runtime: Runtime = "Deno" in globalThis
  ? (await import("./deno.ts")).denoRuntime
  : (await import("./bun.ts")).bunRuntime;
