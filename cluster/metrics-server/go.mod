module toxicity.dev/cluster/metrics-server

go 1.26.0
