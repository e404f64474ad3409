"""Formats that other tools read: NIR graphs, netx networks, C headers, Verilog memories."""
