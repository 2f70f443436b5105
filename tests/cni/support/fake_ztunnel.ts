/**
 * A ztunnel's end of the agent's socket in the hands of a test: it says when it greets and when it answers, so that an agent can be
 * looked at, or killed, between two steps; and it can do what no ztunnel should.
 */
import { join } from "node:path";
import { describeErrno, EAGAIN } from "../../../src/platform/errno.ts";
import { connectSeqpacket, MessageReceiver, MessageSender } from "../../../src/platform/seqpacket.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import {
  decodeRequest,
  encodeHello,
  encodeResponse,
  ZDS_MESSAGE_BYTES,
  type ZdsRequest,
} from "../../../src/protocol/zds.ts";
import { eventually } from "../../e2e/support/wait.ts";
import type { CniNode } from "./node.ts";

const POLL_MS = 2;
const receiver = new MessageReceiver(ZDS_MESSAGE_BYTES);
const sender = new MessageSender(4 * ZDS_MESSAGE_BYTES);

export class FakeZtunnel {
  /** What the agent asked, in order. */
  readonly requests: ZdsRequest[] = [];
  /** The agent closed the connection. */
  closed = false;
  /** While this is false no add is answered. */
  answering: boolean;
  /** What it answers; undefined: that all is well. */
  refusal: string | undefined;
  #owed = 0;
  readonly #timer: ReturnType<typeof setInterval>;

  private constructor(readonly fd: number, answering: boolean) {
    this.answering = answering;
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
  }

  /** Connects and greets. `answering` false: acks no add until {@link answer}. */
  static async connect(node: CniNode, { greets = true, answering = true } = {}): Promise<FakeZtunnel> {
    const fd = await eventually(() => {
      const fd = connectSeqpacket(join(node.directory, "ztunnel/ztunnel.sock"));
      if (fd < 0) throw new Error(`cannot connect to the agent: ${describeErrno(-fd)}`);
      return fd;
    });
    const ztunnel = new FakeZtunnel(fd, answering);
    node.fakes.push(ztunnel);
    if (greets) ztunnel.say(encodeHello());
    return ztunnel;
  }

  /** Answers all that is owed, and what comes from now on. */
  answer(): void {
    for (; this.#owed > 0; this.#owed--) this.say(encodeResponse(this.refusal));
    this.answering = true;
  }

  say(bytes: Uint8Array): void {
    if (!this.closed) sender.send(this.fd, bytes);
  }

  /** Waits for a request that `test` likes. */
  async asked(test: (request: ZdsRequest) => boolean, timeoutMs = 15_000): Promise<ZdsRequest> {
    return await eventually(() => {
      const request = this.requests.find(test);
      if (request === undefined) throw new Error(`the agent asked only ${JSON.stringify(this.requests)}`);
      return request;
    }, timeoutMs);
  }

  close(): void {
    clearInterval(this.#timer);
    if (!this.closed) closeDescriptor(this.fd);
    this.closed = true;
  }

  #poll(): void {
    while (!this.closed) {
      const length = receiver.receive(this.fd);
      receiver.closeDescriptors();
      if (length === -EAGAIN) return;
      if (length <= 0) return this.close();
      const request = decodeRequest(receiver.copy(length));
      this.requests.push(request);
      if (this.answering || request.kind !== "add") this.say(encodeResponse(this.refusal));
      else this.#owed++;
    }
  }
}
