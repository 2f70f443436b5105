module ambit/scripts/bench_cni/runner

go 1.26.0
