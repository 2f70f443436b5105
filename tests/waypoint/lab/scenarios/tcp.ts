/** Plain TCP through a waypoint. */
import assert from "node:assert/strict";
import type { Peer } from "../../../e2e/support/peer.ts";
import { eventually } from "../../../e2e/support/wait.ts";
import { pattern } from "../apps/protocol.ts";
import { addBoth, sha256 } from "./protocols.ts";
import { scenario } from "../support/scenario.ts";
import type { LabService } from "../support/services.ts";
import type { AppPod } from "../support/stage.ts";
import { Stopwatch } from "../../../support/stopwatch.ts";

scenario(
  "TCP: the client first, the server first, half closes, resets and much data, on declared and undeclared ports",
  async (scene) => {
    const { client, alpha, plain } = await scene.stage();
    const both = await addBoth(scene, "tcp");
    for (const [service, { pod }] of both) {
      for (const port of [91, 95]) {
        const peer = await client.pod.connect(service.vip, port);
        peer.write("hello");
        assert.equal(await peer.read(`${pod.name}: hello`.length), `${pod.name}: hello`);
        peer.finish();
        assert.equal(await peer.ended(), "eof");
        peer.close();
      }
    }
    // No byte comes from the client. On a declared port nothing waits for one; on the other the waypoint does, for as long as Envoy, and then it is TCP.
    const serverFirst = async (service: LabService, { pod }: AppPod, port: number) => {
      const watch = new Stopwatch();
      const peer = await client.pod.connect(service.vip, port);
      assert.equal(await peer.read(`220 ${pod.name}\n`.length, 40_000), `220 ${pod.name}\n`, `port ${port}`);
      const took = watch.stop();
      peer.write("quit");
      assert.equal(await peer.read(`${pod.name}: quit`.length), `${pod.name}: quit`);
      peer.close();
      return took;
    };
    await Promise.all(both.map(async ([service, app]) => {
      const declared = await serverFirst(service, app, 92);
      assert.ok(declared.ms < 5_000, `the server's first words took ${declared.ms} ms`);
      const undeclared = await serverFirst(service, app, 94);
      assert.ok(
        undeclared.wallMs > 14_000 && undeclared.ms < 30_000,
        `the server's first words took ${undeclared.ms} ms`,
      );
    }));
    // Applications that are sockets of the test, to see how each end arrives.
    for (const { pod } of [alpha, plain]) {
      const ports = [{ name: "tcp", port: 80, target: 7_100 }];
      const service = await scene.addService(`raw-${pod.name}`, { pods: [{ pod, app: alpha.app }], ports });
      const arrived: Peer[] = [];
      const server = pod.listen(7_100, (peer) => arrived.push(peer));
      const connect = async () => {
        const before = arrived.length;
        const peer = await client.pod.connect(service.vip, 80);
        peer.write("x");
        const application = await eventually(() => arrived[before] ?? assert.fail("nothing has arrived"), 3_000)
          .catch((error) => {
            peer.close();
            throw error;
          });
        assert.equal(await application.read(1), "x");
        return [peer, application] as const;
      };
      const [half, other] = await eventually(connect, 15_000);
      half.finish();
      assert.equal(await other.ended(), "eof");
      other.write("after your end");
      assert.equal(await half.read(14), "after your end");
      other.close();
      assert.equal(await half.ended(), "eof");
      half.close();

      const [aborted, gone] = await connect();
      aborted.abort();
      assert.notEqual(await gone.ended(), "closed");
      const [cut, aborter] = await connect();
      aborter.abort();
      assert.notEqual(await cut.ended(), "closed");

      const [sender, receiver] = await connect();
      const bytes = pattern(8 * 1024 * 1024);
      receiver.pause();
      sender.write(bytes);
      receiver.resume();
      assert.equal(sha256(await receiver.readBytes(bytes.length, 30_000)), sha256(bytes));
      receiver.write(bytes);
      assert.equal(sha256(await sender.readBytes(bytes.length, 30_000)), sha256(bytes));
      for (const peer of [sender, receiver]) peer.close();
      server.close();
    }
  },
  { sideBySide: true },
);
