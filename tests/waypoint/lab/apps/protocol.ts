/** What the test process and an application say to each other. */

/** Where every application serves. */
export const PORTS = { http: 8080, https: 8443, grpc: 9090, echo: 9000, serverFirst: 9001 } as const;

/** Where authority.ts serves; nobody does at `dead`. */
export const AUTHORITY_PORTS = { http: 8000, keys: 8001, grpc: 9191, dead: 9999 } as const;

export interface HttpOrder {
  readonly kind: "http";
  /** With the address to connect to. */
  readonly url: string;
  /** Instead of the URL's, exactly as given. */
  readonly rawPath?: string;
  /** With https: the name that is asked for; whose certificate comes does not matter then. */
  readonly servername?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** A number: this many bytes of a pattern. */
  readonly body?: string | number;
  readonly protocol?: "http1" | "http2";
  /** Sends the body only when it is told to continue. */
  readonly awaitContinue?: boolean;
  readonly timeoutMs?: number;
}

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case, several of one name joined by ", ". */
  readonly headers: Readonly<Record<string, string>>;
  readonly trailers: Readonly<Record<string, string>>;
  /** The first 64 KiB. */
  readonly body: string;
  readonly bytes: number;
  readonly sha256: string;
  /** A 100 came before. */
  readonly continued: boolean;
  readonly ms: number;
}

/** What the HTTP server tells of a request, as JSON in its answer. */
export interface Echo {
  readonly app: string;
  readonly protocol: string;
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly peer: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface GrpcOrder {
  readonly kind: "grpc";
  /** `ip:port` */
  readonly target: string;
  /** `Collect` sends `messages`, `Many` asks for `count`. */
  readonly method: "Unary" | "Many" | "Collect";
  readonly messages?: readonly unknown[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly authority?: string;
  readonly deadlineMs?: number;
  /** Service name in the path; default `lab.Echo`. */
  readonly service?: string;
}

export interface GrpcAnswer {
  readonly code: number;
  readonly details: string;
  readonly messages: readonly Readonly<Record<string, unknown>>[];
  readonly headers: Readonly<Record<string, string>>;
  readonly trailers: Readonly<Record<string, string>>;
}

export interface LoadOrder {
  readonly kind: "load";
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** That many at once, each on a connection of its own that it keeps. */
  readonly clients: number;
  /** A new connection for every request. */
  readonly newConnections?: boolean;
  /** Between the answer and the next request. */
  readonly pauseMs?: number;
  readonly body?: number;
}

export interface LoadAnswer {
  readonly sent: number;
  /** By status. */
  readonly statuses: Readonly<Record<string, number>>;
  /** 200 by the application that answered. */
  readonly apps: Readonly<Record<string, number>>;
  /** All that was not 200, the first 20. */
  readonly failures: readonly string[];
  readonly failed: number;
  readonly medianMs: number;
  readonly slowestMs: number;
}

/** A gRPC stream both ways that stays open: each text is answered. */
export interface ChatOrder {
  readonly kind: "chat";
  readonly target: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface WebSocketOrder {
  readonly kind: "web socket";
  readonly url: string;
}

export interface Session {
  /** Sends and resolves with what comes back. */
  talk(text: string): Promise<string>;
  /** Ends it and resolves with how it ended. */
  end(): Promise<unknown>;
}

export type Order =
  | HttpOrder
  | GrpcOrder
  | LoadOrder
  | ChatOrder
  | WebSocketOrder
  | { readonly kind: "talk"; readonly session: number; readonly text: string }
  | { readonly kind: "end"; readonly session: number };

/** What is sent where only the length matters, the same on both sides. */
export function pattern(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  return bytes;
}
