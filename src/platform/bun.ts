/** Bun's side of the runtime contract: `bun:ffi`. */
import type { FfiType, Library, Pointer, Runtime, SymbolSpec } from "./runtime.ts";

interface BunFfi {
  dlopen(file: string, symbols: Record<string, { args: string[]; returns: string }>): { symbols: unknown };
  ptr(buffer: Uint8Array): number;
  toArrayBuffer(pointer: number, offset: number, length: number): ArrayBuffer;
  JSCallback: new (fn: unknown, spec: { args: string[]; returns: string }) => { ptr: number };
}

/** The specifier is computed so that Deno's type checker does not try to resolve a module it cannot have. */
const specifier = ["bun", "ffi"].join(":");
const ffi = await import(specifier) as BunFfi;

/** Buffers travel as `ptr`, which takes a typed array and passes the address of its first byte. */
function nativeType(type: FfiType): string {
  return type === "buffer" || type === "pointer" ? "ptr" : type;
}

function nativeSpec(spec: SymbolSpec): { args: string[]; returns: string } {
  return { args: spec.args.map(nativeType), returns: nativeType(spec.returns) };
}

/** Callbacks live as long as the process; without a reference from here Bun would collect them. */
const callbacks: unknown[] = [];

export const bunRuntime: Runtime = {
  name: "bun",
  version: process.versions.bun ?? "unknown",

  open<const S extends Record<string, SymbolSpec>>(file: string, symbols: S): Library<S> {
    const specs: Record<string, { args: string[]; returns: string }> = {};
    for (const name in symbols) specs[name] = nativeSpec(symbols[name]);
    return ffi.dlopen(file, specs).symbols as Library<S>;
  },

  view(pointer: Pointer, offset: number, length: number): Uint8Array {
    return new Uint8Array(ffi.toArrayBuffer(pointer as unknown as number, offset, length));
  },

  addressOf(buffer: Uint8Array): bigint {
    return BigInt(ffi.ptr(buffer));
  },

  pointerFrom(address: bigint): Pointer | null {
    return address === 0n ? null : Number(address) as unknown as Pointer;
  },

  collectGarbage(): void {
    (globalThis as unknown as { readonly Bun: { gc(synchronous: boolean): void } }).Bun.gc(true);
  },

  shrinkHeap(): void {
    const { Bun } = globalThis as unknown as { readonly Bun: { gc(synchronous: boolean): void; shrink(): void } };
    Bun.gc(true);
    Bun.shrink();
  },

  callback(spec: SymbolSpec, fn: (...args: never[]) => number): Pointer {
    const native = new ffi.JSCallback(fn, nativeSpec(spec));
    callbacks.push(native);
    return native.ptr as unknown as Pointer;
  },
};
