/** Reading OpenMetrics text as far as the tests need it. */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export function parseMetrics(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match === null || line.startsWith("#")) continue;
    const labels: Record<string, string> = {};
    for (const [, key, value] of (match[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) labels[key!] = value!;
    samples.push({ name: match[1]!, labels, value: Number(match[3]) });
  }
  return samples;
}

export interface Traffic {
  readonly opened: number;
  readonly closed: number;
  /** Client to server. */
  readonly received: number;
  /** Server to client. */
  readonly sent: number;
}

const FAMILIES: Readonly<Record<keyof Traffic, string>> = {
  opened: "istio_tcp_connections_opened_total",
  closed: "istio_tcp_connections_closed_total",
  received: "istio_tcp_received_bytes_total",
  sent: "istio_tcp_sent_bytes_total",
};

/** The sum of the series that have all of `labels`. */
export function traffic(samples: readonly Sample[], labels: Readonly<Record<string, string>>): Traffic {
  const sum = (name: string) =>
    samples.filter((sample) =>
      sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value)
    ).reduce((total, sample) => total + sample.value, 0);
  return {
    opened: sum(FAMILIES.opened),
    closed: sum(FAMILIES.closed),
    received: sum(FAMILIES.received),
    sent: sum(FAMILIES.sent),
  };
}

export function minus(after: Traffic, before: Traffic): Traffic {
  return {
    opened: after.opened - before.opened,
    closed: after.closed - before.closed,
    received: after.received - before.received,
    sent: after.sent - before.sent,
  };
}
