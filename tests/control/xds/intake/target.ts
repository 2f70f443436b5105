/** A control plane that only keeps the mesh, and remembers when it was told what. */
import type { MeshTarget } from "../../../../src/control/xds/intake/mod.ts";
import { type MeshChange, type MeshResources, MeshStore } from "../../../../src/mesh/mod.ts";

export class TestTarget implements MeshTarget {
  readonly store = new MeshStore();
  readonly events: string[] = [];
  readonly changes: MeshChange[] = [];
  /** Called when something was flushed. */
  flushed: () => void = () => {};
  settled: Promise<void> = Promise.resolve();

  constructor(readonly staticConfig: MeshResources | undefined = undefined) {
    if (staticConfig !== undefined) this.store.apply({ upsert: staticConfig });
  }

  apply(change: MeshChange): void {
    this.changes.push(change);
    this.store.apply(change);
  }

  flush(): void {
    this.events.push("flush");
    this.flushed();
  }

  attend(): void {
    this.events.push("attend");
  }

  settle(): Promise<void> {
    this.events.push("settle");
    return this.settled;
  }
}
