/** What the three admin apps have in common. */
import { Hono } from "hono";

/** Unknown paths get an empty 404, a throwing handler 500 with its text. */
export function createApp(): Hono {
  const app = new Hono();
  app.notFound((c) => c.body(null, 404));
  app.onError((error, c) => c.text(`${error.message}\n`, 500));
  return app;
}
