import assert from "node:assert/strict";
import { test } from "node:test";
import { createCertificateMetrics } from "../../src/telemetry/certificate_metrics.ts";
import { Registry, renderOpenMetrics } from "../../src/telemetry/mod.ts";

function setUp() {
  const registry = new Registry({ nowMs: () => 0, retainMs: 0 });
  return {
    registry,
    metrics: createCertificateMetrics(registry),
    lines: () => renderOpenMetrics(registry).split("\n"),
  };
}

test("certificate_metrics: what a dashboard needs, in a fixed number of series", () => {
  const { registry, metrics, lines } = setUp();
  for (let i = 0; i < 1_000; i++) {
    metrics.requested("ok");
    metrics.setStates({ available: i, initializing: 1, unavailable: 2 });
    metrics.setFirstExpiry(3_600 + i);
    metrics.setRevocations(2, i);
  }
  metrics.requested("timeout");
  metrics.requested("error");
  metrics.revocationsFailed();
  for (
    const line of [
      'ambit_certificate_requests_total{outcome="ok"} 1000',
      'ambit_certificate_requests_total{outcome="timeout"} 1',
      'ambit_certificate_requests_total{outcome="error"} 1',
      'ambit_certificates{state="available"} 999',
      'ambit_certificates{state="initializing"} 1',
      'ambit_certificates{state="unavailable"} 2',
      "ambit_certificate_first_expiry_seconds 4599",
      "ambit_crl_lists 2",
      "ambit_crl_revoked_certificates 999",
      "ambit_crl_load_failures_total 1",
    ]
  ) assert.ok(lines().includes(line), line);
  assert.equal(registry.seriesCount, 10);
});

test("certificate_metrics: without a certificate none expires", () => {
  const { metrics, lines } = setUp();
  metrics.setFirstExpiry(undefined);
  assert.ok(lines().includes("ambit_certificate_first_expiry_seconds +Inf"));
});
