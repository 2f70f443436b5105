/** VirtualService behind a waypoint (reference waypoint 4.1): every kind of match. */
import { scenario } from "../support/scenario.ts";
import {
  all,
  type Ask,
  expectRoutes,
  gives,
  type Look,
  type Parts,
  type Places,
  type Route,
  to,
} from "../support/virtual_service.ts";

/** Those that are met go to beta; the last route of all goes to alpha. */
const matches = ({ beta }: Places): readonly Route[] => {
  const there = { route: [to(beta)] };
  const met = (...asks: readonly Ask[]): Look => all(...asks.map((ask) => gives(ask, { app: "beta" })));
  const unmet = (...asks: readonly Ask[]): Look => all(...asks.map((ask) => gives(ask, { app: "alpha" })));
  const headers = (value: string) => ({ headers: { "x-m": value } });
  const is = (name: string, match: Parts, yes: readonly Ask[], no: readonly Ask[]): Route => ({
    name: `match: ${name}`,
    route: there,
    match,
    look: all(met(...yes), unmet(...no)),
  });
  const query = (query: string) => ({ path: `?${query}` });
  return [
    is("method", { method: { exact: "PUT" } }, [{ method: "PUT" }], [{}, { method: "POST" }]),
    is("method, regular expression", { method: { regex: "P(U|OS)T" } }, [{ method: "POST" }], [{ method: "PATCH" }]),
    is("header", { headers: { "x-m": { exact: "one" } } }, [headers("one")], [headers("One"), {}]),
    is("header, prefix", { headers: { "x-m": { prefix: "on" } } }, [headers("one")], [headers("no")]),
    is("header, regular expression", { headers: { "x-m": { regex: "o.e" } } }, [headers("one")], [headers("ones")]),
    is("header, present", { headers: { "x-m": {} } }, [headers("x")], [{}]),
    is("without a header", { withoutHeaders: { "x-m": { exact: "one" } } }, [headers("two"), {}], [headers("one")]),
    is("query", { queryParams: { a: { exact: "1" } } }, [query("a=1"), query("b=2&a=1")], [query("a=2"), {}]),
    is("query, prefix", { queryParams: { a: { prefix: "1" } } }, [query("a=12")], [query("a=21")]),
    is("query, regular expression", { queryParams: { a: { regex: "[0-9]+" } } }, [query("a=12")], [query("a=1x")]),
    is("authority", { authority: { prefix: "shop." } }, [{ headers: { host: "shop.one" } }], [{
      headers: { host: "a.shop" },
    }]),
    is("port", { port: 1234 }, [], [{}]),
    is("several at once", { method: { exact: "PUT" }, headers: { "x-m": { exact: "one" } } }, [{
      method: "PUT",
      ...headers("one"),
    }], [
      { method: "PUT" },
      headers("one"),
    ]),
  ];
};

scenario("routing: VirtualService, its matches", async (scene) => {
  await expectRoutes(scene, "matched", matches);
}, { sideBySide: true });
