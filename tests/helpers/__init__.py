"""What tests share: oracles, replicas, small data sets, networks and runs, and scripts for other processes."""
