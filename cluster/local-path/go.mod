module toxicity.dev/cluster/local-path

go 1.26.0
