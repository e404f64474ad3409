"""What runs networks outside this package: C, Verilog, and simulators in environments of their own."""
