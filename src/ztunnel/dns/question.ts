/** One question on its way: the mesh, the name servers, and the answer (reference ztunnel, section 8). */
import { type DnsScope, findByName } from "../../mesh/dns.ts";
import { type MeshStore, peerLabels, type Workload } from "../../mesh/mod.ts";
import type { SocketAddress } from "../../platform/sockaddr.ts";
import { CLASS_IN, lowerName, type Message, type Question, RCODE, TYPE, typeName } from "../../protocol/dns/mod.ts";
import type { DnsQuery } from "../../telemetry/dns_metrics.ts";
import type { MeshWaiter } from "../mesh_cache.ts";
import type { Answer } from "./answer_cache.ts";
import type { DnsEnvironment } from "./environment.ts";
import type { Forwarder, ForwardWaiter } from "./forwarder.ts";
import { answerLocally } from "./local_answer.ts";
import { encodeResponse, respond, respondEmpty } from "./request.ts";

/** Where an answer goes. */
export interface Asker {
  readonly protocol: "udp" | "tcp";
  /** `undefined`: nothing is said. */
  answer(bytes: Uint8Array | undefined): void;
  /** Where the question was going before it was redirected here. */
  chosenServer(): SocketAddress | undefined;
}

/** The pod's DNS as its questions see it. */
export interface QuestionOwner {
  readonly env: DnsEnvironment;
  readonly pod: { readonly workload: () => Workload };
  readonly forwarder: Forwarder;
  /** Nobody is answered any more. */
  readonly closed: boolean;
  /** The name servers for a question. */
  serversFor(chosen: SocketAddress | undefined): readonly SocketAddress[];
  /** A question is answered. */
  finished(): void;
}

export class DnsQuestion implements MeshWaiter, ForwardWaiter {
  readonly #dns: QuestionOwner;
  readonly #request: Message;
  readonly #question: Question;
  readonly #asker: Asker;
  readonly #workload: Workload;
  readonly #query: DnsQuery;
  #forwardedMs = 0;

  constructor(dns: QuestionOwner, request: Message, question: Question, asker: Asker) {
    this.#dns = dns;
    this.#request = request;
    this.#question = question;
    this.#asker = asker;
    this.#workload = dns.pod.workload();
    this.#query = {
      type: typeName(question.type),
      protocol: asker.protocol,
      source: peerLabels(this.#workload, false),
    };
  }

  start(): void {
    const { env } = this.#dns;
    env.metrics.request(this.#query);
    const { type, class: klass } = this.#question;
    // Names that the mesh knows have addresses and nothing else.
    if ((type !== TYPE.A && type !== TYPE.AAAA) || klass !== CLASS_IN) return this.#forward();
    const mesh = env.mesh.lookup({ kind: "dns", name: this.#name(), scope: this.#scope() }, this);
    if (mesh !== undefined) this.meshAnswered(mesh);
  }

  meshAnswered(mesh: MeshStore | undefined): void {
    const { env } = this.#dns;
    if (this.#dns.closed) return;
    if (mesh === undefined) {
      this.#log("the control plane of this proxy did not answer in time", 0);
      return this.#send(respondEmpty(this.#request, RCODE.ServFail));
    }
    const match = findByName(mesh, this.#name(), this.#scope());
    if (match === undefined) return this.#forward();
    const { network } = this.#workload;
    const { ipv6Enabled, ttlSeconds } = env.settings;
    const local = answerLocally(mesh, match, this.#question, { network, ipv6Enabled, ttlSeconds, random: env.random });
    this.#log(local.result, local.addresses);
    this.#send(respond(this.#request, local.answer, true));
  }

  forwarded(answer: Answer): void {
    const { env } = this.#dns;
    if (this.#dns.closed) return;
    env.metrics.upstreamAnswered(this.#query, env.io.reactor.nowMs - this.#forwardedMs);
    this.#forwardEnded(answer);
  }

  forwardFailed(reason: string): void {
    const { env } = this.#dns;
    if (this.#dns.closed) return;
    env.metrics.upstreamAnswered(this.#query, env.io.reactor.nowMs - this.#forwardedMs);
    env.metrics.upstreamFailure(this.#query);
    this.#log(`forwarding failed (${reason})`, 0);
    this.#send(respondEmpty(this.#request, RCODE.ServFail));
  }

  #forward(): void {
    const { forwarder } = this.#dns;
    const { env } = this.#dns;
    env.metrics.upstreamRequest(this.#query);
    this.#forwardedMs = env.io.reactor.nowMs;
    const servers = this.#dns.serversFor(this.#asker.chosenServer());
    const question = {
      ...this.#question,
      recursionDesired: this.#request.recursionDesired,
      checkingDisabled: this.#request.checkingDisabled,
      authenticData: this.#request.authenticData,
      dnssecOk: this.#request.edns?.dnssecOk ?? false,
    };
    const known = forwarder.known(question, servers);
    if (known !== undefined) return this.forwarded(known);
    env.worked?.();
    forwarder.ask(question, servers, this);
  }

  #forwardEnded(answer: Answer): void {
    this.#log("forwarded", answer.answers.length);
    this.#send(respond(this.#request, answer, false));
  }

  #name(): string {
    return lowerName(this.#question.name);
  }

  #scope(): DnsScope {
    const { clusterDomain, preferredNamespace, systemSearch } = this.#dns.env.settings;
    const search = systemSearch ? this.#dns.env.files.resolvConf.search : undefined;
    return { namespace: this.#workload.namespace, clusterDomain, search, preferredNamespace };
  }

  #send(response: Message): void {
    this.#dns.finished();
    this.#asker.answer(encodeResponse(response, this.#request, this.#asker.protocol === "udp"));
  }

  #log(result: string, endpoints: number): void {
    const { log } = this.#dns.env;
    if (!log.enabled("debug")) return;
    log.log("debug", "dns", "", {
      "src.workload": this.#workload.name,
      "src.namespace": this.#workload.namespace,
      query: this.#query.type,
      domain: `${this.#question.name}.`,
      result,
      endpoints,
    });
  }
}
