/**
 * What a cluster counts in this worker, under the names that Envoy's statistics have: dashboards know them, and telemetry reads them by name.
 * Times and answers by host are in host.ts.
 */
export class ClusterCounters {
  upstream_cx_total = 0;
  upstream_cx_active = 0;
  upstream_cx_http1_total = 0;
  upstream_cx_http2_total = 0;
  upstream_cx_connect_fail = 0;
  upstream_cx_connect_timeout = 0;
  upstream_cx_overflow = 0;
  upstream_cx_destroy = 0;
  upstream_cx_destroy_with_active_rq = 0;
  upstream_cx_idle_timeout = 0;
  upstream_cx_max_requests = 0;
  upstream_cx_max_duration_reached = 0;
  upstream_cx_none_healthy = 0;
  upstream_rq_total = 0;
  upstream_rq_active = 0;
  upstream_rq_completed = 0;
  upstream_rq_1xx = 0;
  upstream_rq_2xx = 0;
  upstream_rq_3xx = 0;
  upstream_rq_4xx = 0;
  upstream_rq_5xx = 0;
  upstream_rq_pending_total = 0;
  upstream_rq_pending_active = 0;
  upstream_rq_pending_overflow = 0;
  upstream_rq_pending_failure_eject = 0;
  upstream_rq_cancelled = 0;
  upstream_rq_timeout = 0;
  upstream_rq_retry = 0;
  upstream_rq_retry_overflow = 0;
  membership_change = 0;
  membership_total = 0;
  membership_healthy = 0;
  membership_degraded = 0;
  update_attempt = 0;
  update_success = 0;
  update_failure = 0;
  lb_healthy_panic = 0;
  "outlier_detection.ejections_active" = 0;
  "outlier_detection.ejections_enforced_total" = 0;
  "outlier_detection.ejections_enforced_consecutive_5xx" = 0;
  "outlier_detection.ejections_enforced_consecutive_gateway_failure" = 0;
  "outlier_detection.ejections_enforced_consecutive_local_origin_failure" = 0;
  "outlier_detection.ejections_detected_consecutive_5xx" = 0;
  "outlier_detection.ejections_detected_consecutive_gateway_failure" = 0;
  "outlier_detection.ejections_detected_consecutive_local_origin_failure" = 0;
  "outlier_detection.ejections_overflow" = 0;

  /** An answer came. */
  answered(status: number): void {
    this.upstream_rq_completed++;
    if (status < 200) this.upstream_rq_1xx++;
    else if (status < 300) this.upstream_rq_2xx++;
    else if (status < 400) this.upstream_rq_3xx++;
    else if (status < 500) this.upstream_rq_4xx++;
    else this.upstream_rq_5xx++;
  }
}

export type ClusterCounter = { [K in keyof ClusterCounters]: ClusterCounters[K] extends number ? K : never }[
  keyof ClusterCounters
];

/** Those that go down again: Prometheus calls them gauges. */
export const GAUGES: ReadonlySet<ClusterCounter> = new Set<ClusterCounter>([
  "upstream_cx_active",
  "upstream_rq_active",
  "upstream_rq_pending_active",
  "membership_total",
  "membership_healthy",
  "membership_degraded",
  "outlier_detection.ejections_active",
]);
