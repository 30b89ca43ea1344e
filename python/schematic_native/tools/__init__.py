"""The command line and what it runs: the demo, the benchmarks and the doctor."""
