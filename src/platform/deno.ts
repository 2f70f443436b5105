/** Deno's side of the runtime contract: `Deno.dlopen` and its pointer helpers. */
import v8 from "node:v8";
import vm from "node:vm";
import type { Library, Pointer, Runtime, SymbolSpec } from "./runtime.ts";

type NativeSpec = { parameters: readonly Deno.NativeType[]; result: Deno.NativeResultType };

function nativeSpec(spec: SymbolSpec): NativeSpec {
  return { parameters: spec.args as readonly Deno.NativeType[], result: spec.returns };
}

function unwrap(pointer: Pointer | null): Deno.PointerValue {
  return pointer as unknown as Deno.PointerValue;
}

let collect: (() => void) | undefined;

/** V8 names its collector only in a context that is made after the flag was set. */
function exposeCollector(): () => void {
  v8.setFlagsFromString("--expose-gc");
  return vm.runInNewContext("gc") as () => void;
}

export const denoRuntime: Runtime = {
  name: "deno",
  version: Deno.version.deno,

  open<const S extends Record<string, SymbolSpec>>(file: string, symbols: S): Library<S> {
    const specs: Record<string, NativeSpec> = {};
    for (const name in symbols) specs[name] = nativeSpec(symbols[name]);
    return Deno.dlopen(file, specs as Deno.ForeignLibraryInterface).symbols as unknown as Library<S>;
  },

  view(pointer: Pointer, offset: number, length: number): Uint8Array {
    const object = unwrap(pointer) as Deno.PointerObject;
    return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(object, length, offset));
  },

  addressOf(buffer: Uint8Array): bigint {
    return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer as Uint8Array<ArrayBuffer>)));
  },

  pointerFrom(address: bigint): Pointer | null {
    return Deno.UnsafePointer.create(address) as unknown as Pointer | null;
  },

  collectGarbage(): void {
    collect ??= exposeCollector();
    collect();
  },

  shrinkHeap(): void {
    this.collectGarbage();
  },

  callback(spec: SymbolSpec, fn: (...args: never[]) => number): Pointer {
    const native = new Deno.UnsafeCallback(nativeSpec(spec) as Deno.UnsafeCallbackDefinition, fn as never);
    return native.pointer as unknown as Pointer;
  },
};
