/** A connection to a TCP echo behind the waypoint: it answers, or the connection ends without a byte. */
import { NetworkError } from "../../../e2e/support/errors.ts";
import type { Row } from "./rows.ts";
import type { LabService } from "./services.ts";
import type { AppPod } from "./stage.ts";

/** `answers`: the application that must; undefined: nobody may. */
export function tcpRow(
  name: string,
  from: AppPod,
  service: LabService,
  port: number,
  answers: string | undefined,
): Row {
  return {
    name: `${name} (port ${port})`,
    async check(answerMs) {
      const said = await ask(from, service.vip, port, answerMs);
      const wanted = answers === undefined ? undefined : `${answers}: hello`;
      if (said !== wanted) throw new Error(`${JSON.stringify(said)} came, not ${JSON.stringify(wanted)}`);
    },
  };
}

async function ask({ pod }: AppPod, ip: string, port: number, answerMs: number): Promise<string | undefined> {
  try {
    const peer = await pod.connect(ip, port);
    peer.write("hello");
    // The echo's own name is in its answer; none is shorter than this.
    const first = await peer.read("x: hello".length, answerMs).catch(() => undefined);
    if (first === undefined) {
      // To hang is not to refuse.
      await peer.ended(1_000);
      peer.close();
      return undefined;
    }
    peer.finish();
    const { text } = await peer.readToEnd(answerMs);
    peer.close();
    return first + text;
  } catch (error) {
    if (error instanceof NetworkError) return undefined;
    throw error;
  }
}
