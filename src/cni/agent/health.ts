/** Whether the agent lives and whether the node is ready for pods, reference cni.md 1.3. */
import type { Handler } from "./http_server.ts";

export class Health {
  /** The plugin is installed, its configuration valid, and the watch over both armed. */
  install = false;
  /** Captured pods are known and ztunnel is served; true at once without a mesh. */
  watch = false;

  get ready(): boolean {
    return this.install && this.watch;
  }
}

export function healthHandler(health: Health): Handler {
  return ({ path }) => {
    switch (path) {
      case "/healthz":
        return { status: 200 };
      case "/readyz":
        return health.ready ? { status: 200 } : { status: 503, body: "Service Unavailable\n" };
      default:
        return { status: 404 };
    }
  };
}
